"""An owner's machine is lost: from 24 words and an empty disk all comes back; one session is shared."""

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.conftest import Place, make_place

LISTEN = ("--listen", "/ip4/127.0.0.1/tcp/0")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    """Makes homes; their daemons end with the test."""
    with contextlib.ExitStack() as stack:

        def build(name: str) -> Place:
            root = tmp_path / name
            root.mkdir()
            return stack.enter_context(contextlib.contextmanager(make_place)(root))

        yield build


def listen_address(place: Place, *arguments: str) -> str:
    """Starts a daemon; gives the address where it listens."""
    place.start_ready(*LISTEN, *arguments)
    return str(place.json("status")["listen"])


def test_restored_from_words_read_shared_and_refused(
    make: Callable[[str], Place], tmp_path: Path, eventually: Callable[..., None]
) -> None:
    holders = [make(f"holder-{number}") for number in range(3)]
    peers = [part for holder in holders for part in ("--peer", listen_address(holder))]
    owner = make_owner(tmp_path)
    own_address = listen_address(owner, *peers)
    observer = make("observer")
    listen_address(observer, *peers, "--peer", own_address)
    data = random.Random(1).randbytes(1_500_000)
    source = tmp_path / "source"
    source.write_bytes(data)
    session_id = owner.json("session", "record", str(source))["session_id"]
    # The observer is a peer, too: any three of the four hold it, and what leads to it.
    eventually(lambda: owner.json("replicas", session_id)["pending"] == 0)
    words = ("--phrase-file", str(tmp_path / "words"), "--passphrase-file", str(owner.passphrase_file))
    # On the owner's own home: what do heads tell?
    eventually(lambda: owner.json("restore", *words, *peers)["known"] == 1)

    reader = observer.json("id")["peer_id"]
    eventually(lambda: owner.json("ping", reader)["round_trip_ms"] is not None)
    assert owner.json("session", "share", session_id, "--with", reader)["peer_id"] == reader
    shown = observer.json("session", "show", session_id)
    assert shown["adopted"] and shown["shared_by"] == owner.json("id")["peer_id"] and shown["readable"]

    owner.daemons[0].stop()
    observer.json("session", "get", session_id, str(tmp_path / "seen"))
    assert (tmp_path / "seen").read_bytes() == data

    new = Place(tmp_path / "new", owner.passphrase_file)
    new.root.mkdir()
    restored = new.json("restore", *words, *peers)
    counts = {name: restored[name] for name in ("peers", "heads", "sessions", "restored", "problems")}
    assert counts == {"peers": 3, "heads": 1, "sessions": 1, "restored": 1, "problems": []}
    assert restored["peer_id"] == new.json("id")["peer_id"] != owner.json("id")["peer_id"]
    again = new.json("restore", *words, *peers)
    assert (again["restored"], again["known"]) == (0, 1)

    new.start_ready(*peers)  # its peers are on their way: reading waits for them
    new.json("session", "get", session_id, str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == data
    assert new.json("session", "verify", session_id)["valid"]
    # What holders keep is taken over: leases, and a head of the new device.
    eventually(lambda: new.json("replicas", session_id)["pending"] == 0)
    assert new.json("session", "verify", session_id, "--remote", "--percent", "100")["valid"]
    new.daemons[-1].stop()

    nobody = Place(tmp_path / "nobody", owner.passphrase_file)
    nobody.root.mkdir()
    done = nobody.run("restore", *words, "--peer", "/ip4/127.0.0.1/tcp/1", "--json")
    assert done.returncode == 5, done.stderr


def make_owner(tmp_path: Path) -> Place:
    """A node whose recovery words are in the file `words`."""
    owner = Place(tmp_path / "owner", tmp_path / "owner-passphrase")
    owner.root.mkdir()
    owner.passphrase_file.touch(0o600)
    owner.passphrase_file.write_text("passphrase")
    done = owner.run("init", "--passphrase-file", str(owner.passphrase_file), "--json")
    words = tmp_path / "words"
    words.touch(0o600)
    words.write_text(json.loads(done.stdout)["recovery_phrase"])
    return owner
