"""handshake.json: the script makes it, the code accepts and refuses as it says, and a second way agrees."""

import json
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from nacl import bindings

from kernel.domains import NETWORKS
from kernel.errors import InvalidRecord, Reason
from kernel.handshake import Handshake, check_proof, open_proof
from kernel.multiaddr import decode_multiaddr, parse_multiaddr
from lucid.v1.identity_pb2 import Signed
from lucid.v1.node_pb2 import HANDSHAKE_ROLE_CLIENT, HANDSHAKE_ROLE_SERVER, PeerRecord
from node.identity.peer_record import check_peer_record
from tests.vectors import make_handshake_vectors as script

DEV = NETWORKS["dev"]
FILE = Path(script.__file__).parent / "handshake.json"
VECTORS: Any = json.loads(FILE.read_text())
SHAKE = VECTORS["handshake"]


def test_the_script_makes_the_file_that_is_there() -> None:
    assert script.render(script.build()) == FILE.read_text()


def test_addresses() -> None:
    for case in VECTORS["multiaddrs"]:
        address = parse_multiaddr(case["text"])
        assert address.encode().hex() == case["bytes"]
        assert decode_multiaddr(bytes.fromhex(case["bytes"])) == address
    for text in VECTORS["refused_multiaddrs"]:
        with pytest.raises(InvalidRecord):
            parse_multiaddr(text)


def test_the_record_of_a_node() -> None:
    node = VECTORS["node"]
    presentation = check_peer_record(
        PeerRecord.FromString(bytes.fromhex(node["record"])), DEV, VECTORS["now_s"]
    )
    assert presentation.identity.device.hex() == node["device"]
    assert presentation.identity.owner.hex() == node["owner"]
    assert presentation.identity.box.hex() == node["box"]
    assert [str(address) for address in presentation.addresses] == [
        case["text"] for case in VECTORS["multiaddrs"]
    ]


@pytest.mark.parametrize("case", VECTORS["refused_records"], ids=lambda case: str(case["name"]))
def test_records_that_are_refused(case: Any) -> None:
    with pytest.raises(InvalidRecord) as caught:
        check_peer_record(PeerRecord.FromString(bytes.fromhex(case["record"])), DEV, VECTORS["now_s"])
    assert caught.value.reason == Reason[case["reason"]]


def get_handshake() -> Handshake:
    names = ("client", "server", "client_nonce", "server_nonce")
    return Handshake(**{name: bytes.fromhex(SHAKE[name]) for name in names}, version=SHAKE["version"])


@pytest.mark.parametrize(
    ("name", "role"), [("client_proof", HANDSHAKE_ROLE_CLIENT), ("server_proof", HANDSHAKE_ROLE_SERVER)]
)
def test_both_proofs(name: str, role: Any) -> None:
    proof = open_proof(Signed.FromString(bytes.fromhex(SHAKE[name])), DEV)
    check_proof(proof, get_handshake(), role, SHAKE["listening"])
    assert proof.dialled == SHAKE["dialled"]


@pytest.mark.parametrize("case", SHAKE["refused"], ids=lambda case: str(case["name"]))
def test_proofs_that_the_server_refuses(case: Any) -> None:
    with pytest.raises(InvalidRecord) as caught:
        proof = open_proof(Signed.FromString(bytes.fromhex(case["signed"])), DEV)
        check_proof(proof, get_handshake(), HANDSHAKE_ROLE_CLIENT, SHAKE["listening"])
    assert caught.value.reason == Reason[case["reason"]]


def put(number: int, data: bytes | int) -> bytes:
    """A field of a message, by the rules of protobuf alone."""
    if isinstance(data, int):
        return bytes([number << 3]) + encode_varint(data)
    return bytes([number << 3 | 2]) + encode_varint(len(data)) + data


def encode_varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + encode_varint(value >> 7)


def put_signed(domain: str, seed: bytes, payload: bytes) -> bytes:
    public, private = bindings.crypto_sign_seed_keypair(seed)
    prefix = bytes([len(domain)]) + domain.encode() + DEV.id + bytes(4)
    signature = bindings.crypto_sign(blake3(prefix + payload).digest(), private)[:64]
    return put(1, payload) + put(2, public) + put(3, signature)


def get_seed(root: bytes, label: bytes) -> bytes:
    """HKDF over HMAC-BLAKE2b, by the standard library."""
    import hashlib
    import hmac

    middle = hmac.digest(bytes(64), root, "blake2b")
    return hmac.new(middle, bytes([len(label)]) + label + b"\x01", hashlib.blake2b).digest()[:32]


def test_the_spec_alone_makes_the_same_bytes() -> None:
    """By hand, as docs/spec/09-handshake.md tells it, without the code that it describes."""
    node = VECTORS["node"]
    device, seed = bytes.fromhex(node["device"]), get_seed(script.SERVER_ROOT, b"lucid identity")
    card = put(1, device) + put(2, 7) + put(3, node["expires_s"]) + put(4, bytes([1]))
    card += put(5, bytes.fromhex(node["box"])) + put(6, bytes.fromhex(node["grants"]))
    card += put(7, node["software"].encode())
    assert put_signed("lucid peer-card", seed, card).hex() == node["card"]
    record = put(1, bytes.fromhex("002408011220") + device) + put(2, 7)
    for address in VECTORS["multiaddrs"]:
        record += put(3, put(1, bytes.fromhex(address["bytes"])))
    parts = (b"libp2p-peer-record", b"\x03\x01", record)
    message = b"".join(encode_varint(len(part)) + part for part in parts)
    _, private = bindings.crypto_sign_seed_keypair(seed)
    signature = bindings.crypto_sign(message, private)[:64]
    envelope = put(1, put(1, 1) + put(2, device)) + put(2, b"\x03\x01") + put(3, record) + put(5, signature)
    assert envelope.hex() == node["envelope"]
    proof = put(1, 1) + b"".join(
        put(number, bytes.fromhex(SHAKE[name]))
        for number, name in enumerate(("client", "server", "client_nonce", "server_nonce"), 2)
    )
    proof += put(6, SHAKE["dialled"].encode()) + put(7, 1)
    seed = get_seed(script.CLIENT_ROOT, b"lucid identity")
    assert put_signed("lucid handshake", seed, proof).hex() == SHAKE["client_proof"]
