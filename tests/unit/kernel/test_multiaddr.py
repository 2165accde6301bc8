import base64
import hashlib

import multiaddr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidRecord, Reason
from kernel.multiaddr import MAX_BYTES, MAX_TEXT, Multiaddr, decode_multiaddr, parse_multiaddr
from kernel.peer_id import encode_peer_id

DEVICE = bytes(range(32))


def make_onion(key: bytes, *, version: int = 3, checksum: bytes | None = None) -> str:
    tail = bytes([version])
    digest = hashlib.sha3_256(b".onion checksum" + key + tail).digest()[:2]
    return base64.b32encode(key + (digest if checksum is None else checksum) + tail).decode().lower()


ONION = make_onion(DEVICE)


@pytest.mark.parametrize("place", ["/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/0", f"/onion3/{ONION}:65535"])
def test_text_and_bytes_are_those_of_libp2p(place: str) -> None:
    address = parse_multiaddr(place)
    assert str(address) == place
    assert address.encode() == multiaddr.Multiaddr(place).to_bytes()
    assert len(address.encode()) <= MAX_BYTES
    assert decode_multiaddr(address.encode()) == address
    named = parse_multiaddr(f"{place}/p2p/{encode_peer_id(DEVICE)}")
    assert named.device == DEVICE
    assert named.place == address
    assert len(str(named)) <= MAX_TEXT
    assert str(multiaddr.Multiaddr(str(named))) == str(named)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:4001",
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/tcp/",
        "/ip4/127.0.0.1/tcp/65536",
        "/ip4/127.0.0.1/tcp/99999999999",
        "/ip4/127.0.0.1/tcp/04001",
        "/ip4/127.0.0.1/tcp/4001/",
        "/ip4/127.0.0.1/tcp/4001\n",
        "/ip4/127.0.0.1/udp/4001",
        "/ip4/127.0.0.2/tcp/4001",
        "/ip4/0.0.0.0/tcp/4001",
        "/ip4/::1/tcp/4001",
        "/ip6/0:0:0:0:0:0:0:1/tcp/1",
        "/ip6/::/tcp/1",
        "/ip6/::ffff:127.0.0.1/tcp/1",
        "/dns4/localhost/tcp/4001",
        f"/onion3/{ONION}",
        f"/onion3/{ONION.upper()}:1",
        f"/onion3/{ONION[:-1]}:1",
        f"/onion3/{make_onion(DEVICE, checksum=b'xx')}:1",
        f"/onion3/{make_onion(DEVICE, version=2)}:1",
        "/ip4/127.0.0.1/tcp/1/p2p/",
        "/ip4/127.0.0.1/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "/ip4/127.0.0.1/tcp/1" * 10,
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidRecord):
        parse_multiaddr(text)


@pytest.mark.parametrize(
    "place", ["/ip4/127.0.0.1/udp/1", "/ip4/8.8.8.8/tcp/1", "/ip6/fe80::1/tcp/1", "/dns4/localhost/tcp/1"]
)
def test_bytes_of_other_addresses_are_refused(place: str) -> None:
    with pytest.raises(InvalidRecord):
        decode_multiaddr(multiaddr.Multiaddr(place).to_bytes())


def test_the_checksum_of_an_onion_address_is_checked_in_bytes() -> None:
    encoded = parse_multiaddr(f"/onion3/{ONION}:1").encode()
    with pytest.raises(InvalidRecord) as caught:
        decode_multiaddr(encoded[:10] + bytes([encoded[10] ^ 1]) + encoded[11:])
    assert caught.value.reason == Reason.WRONG_HASH
    with pytest.raises(InvalidRecord) as caught:
        decode_multiaddr(encoded[:-3] + b"\x02" + encoded[-2:])
    assert caught.value.reason == Reason.WRONG_VERSION


def test_only_loopback_leads_to_this_machine() -> None:
    assert parse_multiaddr("/ip6/::1/tcp/1").is_loopback
    assert not parse_multiaddr(f"/onion3/{ONION}:1").is_loopback


@given(st.binary(max_size=60))
def test_any_bytes_are_an_address_with_one_text_or_refused(data: bytes) -> None:
    try:
        address = decode_multiaddr(data)
    except InvalidRecord:
        return
    assert address.encode() == data
    assert parse_multiaddr(str(address)) == address


@given(st.text(alphabet="/ip46onion3tcp127.0:abc", max_size=80))
def test_any_text_is_an_address_that_is_written_so_or_refused(text: str) -> None:
    try:
        address = parse_multiaddr(text)
    except InvalidRecord:
        return
    assert str(address) == text
    assert isinstance(address, Multiaddr)
