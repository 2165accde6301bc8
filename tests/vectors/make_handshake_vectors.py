"""Writes handshake.json: `python -m tests.vectors.make_handshake_vectors`. What it holds: FORMAT.md."""

import importlib
import json
from pathlib import Path
from typing import Any

from kernel.domains import NETWORKS, Domain
from kernel.grants import sign_grant_list
from kernel.handshake import Handshake, sign_proof
from kernel.keys import DeviceKeys, OwnerKeys
from kernel.multiaddr import parse_multiaddr
from kernel.peer_id import encode_peer_id, encode_peer_id_bytes
from kernel.sealing import compute_x25519_public
from lucid.v1.identity_pb2 import ROLE_READ, ROLE_RECORD, ROLE_WORK, Grant, Signed
from lucid.v1.node_pb2 import HANDSHAKE_ROLE_CLIENT, HANDSHAKE_ROLE_SERVER, PeerCard, PeerRecord
from node.identity.peer_keys import PeerKeys
from node.identity.peer_record import make_peer_record

Case = dict[str, Any]

DEV = NETWORKS["dev"]
NOW_S = 1_795_000_000
ONION = "hnvcppgow2sc2yvdvdicu3ynonsteflxdxrehjr2ybekdc2z3iu63yid"
TEXTS = ("/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/65535", f"/onion3/{ONION}:4001")
ADDRESSES = tuple(map(parse_multiaddr, TEXTS))
OWNER_ROOT, SERVER_ROOT, CLIENT_ROOT = (bytes(range(first, first + 32)) for first in (0x10, 0x40, 0x80))
OWNER = OwnerKeys.from_root(OWNER_ROOT)
SERVER, CLIENT = DeviceKeys.from_root(SERVER_ROOT), DeviceKeys.from_root(CLIENT_ROOT)


def grant(device: bytes, *roles: Any, until_s: int = 0) -> Signed:
    """A grant list for one device."""
    seal = compute_x25519_public(OWNER.seal(0))
    grants = [Grant(device=device, roles=roles or (ROLE_RECORD, ROLE_WORK), until_s=until_s)]
    return sign_grant_list(OWNER.identity, DEV, 1, grants, 0, seal)


def make_record(**changes: Any) -> PeerRecord:
    """The server's record, or one with something else in its place."""
    fields: Case = {
        "sequence": 7,
        "expires_s": NOW_S + 3600,
        "versions": (1,),
        "software": "lucid-node 0.1.0",
    }
    fields |= changes
    grants = fields.pop("grants", grant(SERVER.identity.public_key))
    return make_peer_record(PeerKeys(DEV, SERVER, grants), fields.pop("addresses", ADDRESSES), **fields)


def change_card(**changes: Any) -> PeerRecord:
    """The server's record, whose card says something else, signed again."""
    record = make_record()
    card = PeerCard.FromString(record.card.payload)
    for name, value in changes.items():
        if isinstance(value, list):
            card.ClearField(name)  # type: ignore[arg-type]
            getattr(card, name).extend(value)
        else:
            setattr(card, name, value)
    payload = card.SerializeToString(deterministic=True)
    record.card.CopyFrom(SERVER.identity.sign(Domain.PEER_CARD, DEV, payload))
    return record


def change_envelope(**changes: Any) -> PeerRecord:
    """The server's record, whose envelope holds another peer record, signed again."""
    library: Any = importlib.import_module("libp2p.peer.envelope")
    record = make_record()
    envelope = library.pb.Envelope.FromString(record.envelope)
    inner = library.record_pb.PeerRecord.FromString(envelope.payload)
    for name, value in changes.items():
        setattr(inner, name, value)
    envelope.payload = inner.SerializeToString()
    message = library.make_unsigned(library.ENVELOPE_DOMAIN, envelope.payload_type, envelope.payload)
    envelope.signature = SERVER.identity.sign_foreign(message)
    record.envelope = envelope.SerializeToString()
    return record


def flip(record: PeerRecord) -> PeerRecord:
    """A record whose envelope has a bit flipped at its end, in the signature."""
    record.envelope = record.envelope[:-1] + bytes([record.envelope[-1] ^ 1])
    return record


def build_refused_records() -> list[Case]:
    """Records, each with one thing wrong."""
    device, stranger = SERVER.identity.public_key, CLIENT.identity.public_key
    cases = [
        ("card has expired", make_record(expires_s=NOW_S), "EXPIRED"),
        ("card holds for more than 30 days", make_record(expires_s=NOW_S + 30 * 86400 + 1), "EXPIRED"),
        ("card of another device", change_card(device=stranger), "WRONG_SIGNER"),
        ("card without a sequence", change_card(sequence=0), "MALFORMED"),
        ("card without a version", change_card(versions=[]), "MALFORMED"),
        ("card with a box key of 31 bytes", change_card(box=bytes(31)), "MALFORMED"),
        ("card with a control character", change_card(software="a\x1bb"), "MALFORMED"),
        ("grants of a reader", make_record(grants=grant(device, ROLE_READ)), "NOT_GRANTED"),
        ("grants that have ended", make_record(grants=grant(device, until_s=NOW_S)), "NOT_GRANTED"),
        ("grants of another device", make_record(grants=grant(stranger)), "NOT_GRANTED"),
        ("envelope of another sequence", change_envelope(seq=8), "NOT_CONSISTENT"),
        (
            "envelope whose key is not that of its peer ID",
            change_envelope(peer_id=encode_peer_id_bytes(stranger)),
            "WRONG_SIGNER",
        ),
        ("envelope with a flipped bit", flip(make_record()), "BAD_SIGNATURE"),
    ]
    return [{"name": name, "record": encode(record), "reason": reason} for name, record, reason in cases]


def build_handshake() -> Case:
    """Both proofs, and proofs that the server must refuse."""
    client, server = CLIENT.identity, SERVER.identity
    shake = Handshake(client.public_key, server.public_key, b"c" * 32, b"s" * 32, 1)
    other = Handshake(client.public_key, server.public_key, b"c" * 32, b"t" * 32, 1)
    newer = Handshake(client.public_key, server.public_key, b"c" * 32, b"s" * 32, 2)
    proof = sign_proof(client, DEV, shake, HANDSHAKE_ROLE_CLIENT, TEXTS[0])
    answer = sign_proof(server, DEV, shake, HANDSHAKE_ROLE_SERVER, TEXTS[0])
    cases = [
        (
            "forwarded",
            sign_proof(client, DEV, shake, HANDSHAKE_ROLE_CLIENT, "/ip4/127.0.0.1/tcp/4002"),
            "WRONG_ADDRESS",
        ),
        (
            "another nonce",
            sign_proof(client, DEV, other, HANDSHAKE_ROLE_CLIENT, TEXTS[0]),
            "WRONG_HANDSHAKE",
        ),
        (
            "another version",
            sign_proof(client, DEV, newer, HANDSHAKE_ROLE_CLIENT, TEXTS[0]),
            "WRONG_HANDSHAKE",
        ),
        ("the server's own", answer, "WRONG_HANDSHAKE"),
        (
            "signed by the server",
            sign_proof(server, DEV, shake, HANDSHAKE_ROLE_CLIENT, TEXTS[0]),
            "WRONG_SIGNER",
        ),
        ("another domain", client.sign(Domain.PEER_CARD, DEV, proof.payload), "BAD_SIGNATURE"),
        ("no protobuf", client.sign(Domain.HANDSHAKE, DEV, b"\xff"), "MALFORMED"),
    ]
    return {
        "client": client.public_key.hex(),
        "server": server.public_key.hex(),
        "client_nonce": shake.client_nonce.hex(),
        "server_nonce": shake.server_nonce.hex(),
        "version": 1,
        "dialled": TEXTS[0],
        "listening": list(TEXTS),
        "client_proof": encode(proof),
        "server_proof": encode(answer),
        "refused": [{"name": name, "signed": encode(bad), "reason": reason} for name, bad, reason in cases],
    }


def encode(message: Any) -> str:
    """A message as hex."""
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded.hex()


def build() -> Case:
    """handshake.json."""
    record = make_record()
    return {
        "now_s": NOW_S,
        "multiaddrs": [
            {"text": text, "bytes": address.encode().hex()}
            for text, address in zip(TEXTS, ADDRESSES, strict=True)
        ],
        "refused_multiaddrs": [
            "/ip4/127.0.0.2/tcp/4001",
            "/ip4/127.0.0.1/tcp/04001",
            "/ip4/127.0.0.1/tcp/65536",
            "/ip6/0:0:0:0:0:0:0:1/tcp/1",
            "/dns4/localhost/tcp/4001",
            f"/onion3/{'g' + ONION[1:]}:4001",
            f"/onion3/{ONION.upper()}:4001",
        ],
        "node": {
            "device_root": SERVER_ROOT.hex(),
            "device": SERVER.identity.public_key.hex(),
            "owner": OWNER.identity.public_key.hex(),
            "box": compute_x25519_public(SERVER.box).hex(),
            "peer_id": encode_peer_id(SERVER.identity.public_key),
            "sequence": 7,
            "expires_s": NOW_S + 3600,
            "versions": [1],
            "software": "lucid-node 0.1.0",
            "grants": encode(grant(SERVER.identity.public_key)),
            "card": encode(record.card),
            "envelope": record.envelope.hex(),
            "record": encode(record),
        },
        "refused_records": build_refused_records(),
        "handshake": build_handshake(),
    }


def render(document: Case) -> str:
    """The text of the file."""
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "handshake.json").write_text(render(build()))
