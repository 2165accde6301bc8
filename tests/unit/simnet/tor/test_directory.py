"""What nodes keep of the directory."""

import base64

from hypothesis import given
from hypothesis import strategies as st

from simnet.tor.directory import NEEDED_FLAGS, Entry, explain_entry, parse_consensus, parse_descriptors

FIRST, SECOND = bytes(range(20)), bytes(range(100, 120))
FLAGS = " ".join(sorted(NEEDED_FLAGS))


def make_entry(identity: bytes, flags: str, weight: str) -> str:
    name = base64.b64encode(identity).decode().rstrip("=")
    return f"r n0 {name} 2038-01-01 00:00:00 127.0.0.1 7 0\nm x\ns {flags}\nv Tor 0.4.9.11\nw {weight}\n"


def test_descriptors_are_known_by_their_fingerprint() -> None:
    groups = " ".join(FIRST.hex().upper()[at : at + 4] for at in range(0, 40, 4))
    text = f"router r0 127.0.0.1 7 0 0\nfingerprint {groups}\nuptime 1\nfingerprint {groups[:-1]}\n"
    assert parse_descriptors(text) == {FIRST.hex().upper()}
    assert parse_descriptors("") == set()


def test_a_consensus_tells_flags_and_weights() -> None:
    head = "network-status-version 3 microdesc\nvote-status consensus\n"
    text = (
        head
        + make_entry(FIRST, FLAGS, "Bandwidth=10")
        + make_entry(SECOND, "Running", "Bandwidth=0 Unmeasured=1")
    )
    assert parse_consensus(text + "directory-footer\n") == [
        Entry(FIRST.hex().upper(), NEEDED_FLAGS, 10),
        Entry(SECOND.hex().upper(), frozenset({"Running"}), 0),
    ]


def test_a_node_must_be_good_for_every_hop() -> None:
    assert explain_entry(Entry("", NEEDED_FLAGS | {"Exit"}, 1)) == ""
    assert explain_entry(None) == "is not in the consensus"
    assert explain_entry(Entry("", NEEDED_FLAGS - {"HSDir", "Fast"}, 1)) == "has no flag Fast, HSDir"
    assert explain_entry(Entry("", NEEDED_FLAGS, 0)) == "has no bandwidth"


@given(st.text(alphabet="rsw \n=Bandwith7/+", max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    for entry in parse_consensus(text):
        assert entry.bandwidth >= 0
