"""Writes golden bytes of what nodes keep for each other: `python -m tests.vectors.make_transfer_vectors`.

What the files hold: tests/vectors/FORMAT.md.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dht.heads import compute_head_hash, sign_head, sign_head_receipt
from dht.lease import (
    MAX_BLOB_BYTES,
    MAX_LEASE_S,
    compute_lease_hash,
    derive_lease_key,
    sign_lease,
    sign_receipt,
    sign_release,
)
from dht.transfer import FRAME_BYTES
from kernel.chunk_id import LEAF_BYTES, compute_chunk_id, compute_chunk_leaves
from kernel.domains import NETWORKS, Domain
from kernel.head_grants import sign_head_grant
from kernel.signing import SigningKey
from lucid.v1 import chunk_pb2
from lucid.v1.identity_pb2 import Signed

Case = dict[str, Any]

NETWORK = NETWORKS["dev"]
SIZE_BYTES = FRAME_BYTES + 7856
BLOB = bytes(n % 251 for n in range(SIZE_BYTES))
LEAVES = compute_chunk_leaves(BLOB)
CHUNK_ID = compute_chunk_id(LEAVES, SIZE_BYTES)
SECRET, SESSION_ID = bytes(range(32)), bytes(range(16))
HOLDER_SEED, LOCATOR_SEED, DEVICE_SEED, OTHER_SEED = (bytes((n,)) * 32 for n in (1, 2, 3, 4))
LEASE_KEY = derive_lease_key(SECRET, SESSION_ID)
HOLDER, LOCATOR, DEVICE, OTHER = (
    SigningKey.from_seed(seed) for seed in (HOLDER_SEED, LOCATOR_SEED, DEVICE_SEED, OTHER_SEED)
)
NOW_S = 1_790_000_000
STORED_NS = NOW_S * 10**9 + 5


def build_transfer() -> Case:
    joined = b"".join(LEAVES)

    def opening(name: str, reason: str, size_bytes: int = SIZE_BYTES, leaves: bytes = joined) -> Case:
        return {"name": name, "reason": reason, "size_bytes": size_bytes, "leaves": leaves.hex()}

    def frame(name: str, reason: str, position: int, frame: bytes) -> Case:
        return {"name": name, "reason": reason, "position": position, "frame": frame.hex()}

    flipped = bytes((BLOB[0] ^ 1,)) + BLOB[1:LEAF_BYTES]
    return {
        "size_bytes": SIZE_BYTES,
        "chunk_id": CHUNK_ID.hex(),
        "leaves": joined.hex(),
        "frames": [[0, FRAME_BYTES], [FRAME_BYTES, SIZE_BYTES - FRAME_BYTES]],
        "refused_opening": [
            opening("nothing", "TOO_LARGE", 0, b""),
            opening("too long", "TOO_LARGE", MAX_BLOB_BYTES + 1),
            opening("a leaf hash is missing", "MALFORMED", leaves=joined[:-32]),
            opening("half a leaf hash", "MALFORMED", leaves=joined[:-16]),
            opening("another length", "WRONG_HASH", SIZE_BYTES - 1),
            opening("leaf hashes exchanged", "WRONG_HASH", leaves=joined[32:64] + joined[:32] + joined[64:]),
        ],
        "refused_frame": [
            frame("nothing", "MALFORMED", 0, b""),
            frame("no whole leaf", "MALFORMED", 0, BLOB[:100]),
            frame("a bit flipped", "WRONG_HASH", 0, flipped),
            frame("the leaf behind it", "WRONG_HASH", 0, BLOB[LEAF_BYTES : 2 * LEAF_BYTES]),
            frame("behind the end", "TOO_LARGE", FRAME_BYTES, BLOB[FRAME_BYTES:] + b"\0"),
        ],
    }


def build_lease() -> Case:
    fields: Case = {
        "chunk_id": CHUNK_ID,
        "size_bytes": SIZE_BYTES,
        "replica": 2,
        "holder": HOLDER.public_key,
        "sequence": 3,
        "until_s": NOW_S + MAX_LEASE_S,
    }
    lease = sign_lease(LEASE_KEY, NETWORK, chunk_pb2.Lease(**fields))
    receipt = sign_receipt(HOLDER, NETWORK, lease, STORED_NS)
    release = sign_release(LEASE_KEY, NETWORK, CHUNK_ID, HOLDER.public_key, 3)

    def bad_lease(name: str, reason: str, **changes: object) -> Case:
        payload = chunk_pb2.Lease(**(fields | changes)).SerializeToString(deterministic=True)
        return refuse("lease", name, reason, LEASE_KEY.sign(Domain.LEASE, NETWORK, payload))

    def bad_release(name: str, reason: str, chunk_id: bytes, holder: bytes, sequence: int) -> Case:
        return refuse("release", name, reason, sign_release(LEASE_KEY, NETWORK, chunk_id, holder, sequence))

    forged = Signed(payload=lease.payload, public_key=OTHER.public_key, signature=lease.signature)
    renewed = sign_lease(LEASE_KEY, NETWORK, chunk_pb2.Lease(**(fields | {"sequence": 4})))
    return {
        "secret": SECRET.hex(),
        "session_id": SESSION_ID.hex(),
        "lease_key": LEASE_KEY.public_key.hex(),
        "holder_seed": HOLDER_SEED.hex(),
        "now_s": NOW_S,
        "lease": {
            **{name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()},
            "signed": encode(lease),
            "hash": compute_lease_hash(lease).hex(),
        },
        "receipt": {"stored_ns": STORED_NS, "signed": encode(receipt)},
        "release": {"sequence": 3, "signed": encode(release)},
        "refused": [
            bad_lease("chunk ID too short", "MALFORMED", chunk_id=CHUNK_ID[:31]),
            bad_lease("holder too long", "MALFORMED", holder=HOLDER.public_key + b"\0"),
            bad_lease("no sequence", "MALFORMED", sequence=0),
            bad_lease("about nothing", "MALFORMED", size_bytes=0),
            bad_lease("blob too long", "TOO_LARGE", size_bytes=MAX_BLOB_BYTES + 1),
            bad_lease("replica too high", "TOO_LARGE", replica=256),
            bad_lease("for another holder", "WRONG_HOLDER", holder=OTHER.public_key),
            bad_lease("it ends now", "EXPIRED", until_s=NOW_S),
            bad_lease("it ends too late", "TOO_LARGE", until_s=NOW_S + MAX_LEASE_S + 1),
            refuse("lease", "another key", "BAD_SIGNATURE", forged),
            refuse("lease", "a release", "BAD_SIGNATURE", release),
            refuse(
                "receipt", "another signer", "WRONG_SIGNER", sign_receipt(OTHER, NETWORK, lease, STORED_NS)
            ),
            refuse(
                "receipt", "another lease", "WRONG_HASH", sign_receipt(HOLDER, NETWORK, renewed, STORED_NS)
            ),
            bad_release("chunk ID too short", "MALFORMED", CHUNK_ID[:31], HOLDER.public_key, 3),
            bad_release("no sequence", "MALFORMED", CHUNK_ID, HOLDER.public_key, 0),
            bad_release("for another holder", "WRONG_HOLDER", CHUNK_ID, OTHER.public_key, 3),
        ],
    }


def build_head() -> Case:
    fields: Case = {
        "locator": LOCATOR.public_key,
        "device": DEVICE.public_key,
        "sequence": 7,
        "time_s": NOW_S,
        "expires_s": NOW_S + 365 * 86_400,
        "sealed": b"sealed",
    }
    grant = sign_head_grant(LOCATOR, NETWORK, DEVICE.public_key)
    head = sign_head(DEVICE, NETWORK, chunk_pb2.Head(**fields))
    receipt = sign_head_receipt(HOLDER, NETWORK, head, STORED_NS)

    def bad(name: str, reason: str, *, grant: Signed = grant, **changes: object) -> Case:
        payload = chunk_pb2.Head(**(fields | changes)).SerializeToString(deterministic=True)
        entry = chunk_pb2.HeadEntry(head=DEVICE.sign(Domain.HEAD, NETWORK, payload), grant=grant)
        return {"name": name, "reason": reason, "entry": encode(entry)}

    claimed = chunk_pb2.HeadGrant(locator=LOCATOR.public_key, device=DEVICE.public_key)
    by_device = DEVICE.sign(Domain.HEAD_GRANT, NETWORK, claimed.SerializeToString(deterministic=True))
    by_another = sign_head_grant(OTHER, NETWORK, DEVICE.public_key)
    for_another = sign_head_grant(LOCATOR, NETWORK, OTHER.public_key)
    return {
        "locator_seed": LOCATOR_SEED.hex(),
        "device_seed": DEVICE_SEED.hex(),
        "keeper_seed": HOLDER_SEED.hex(),
        "now_s": NOW_S,
        "head": {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()},
        "entry": encode(chunk_pb2.HeadEntry(head=head, grant=grant)),
        "hash": compute_head_hash(head).hex(),
        "receipt": {"stored_ns": STORED_NS, "signed": encode(receipt)},
        "refused": [
            bad("grant signed by the device", "WRONG_SIGNER", grant=by_device),
            bad("grant of another locator", "WRONG_SIGNER", grant=by_another),
            bad("grant for another device", "WRONG_SIGNER", grant=for_another),
            bad("no grant", "MALFORMED", grant=Signed()),
            bad("another locator than granted", "WRONG_SIGNER", locator=OTHER.public_key),
            bad("another device than signed", "WRONG_SIGNER", device=OTHER.public_key),
            bad("locator too short", "MALFORMED", locator=b"l"),
            bad("no sequence", "MALFORMED", sequence=0),
            bad("it expires now", "EXPIRED", expires_s=NOW_S),
            bad("it expires too late", "EXPIRED", expires_s=NOW_S + 400 * 86_400 + 1),
        ],
    }


def refuse(kind: str, name: str, reason: str, signed: Signed) -> Case:
    return {"kind": kind, "name": name, "reason": reason, "signed": encode(signed)}


def encode(message: Signed | chunk_pb2.HeadEntry) -> str:
    return message.SerializeToString(deterministic=True).hex()


BUILDERS: dict[str, Callable[[], Case]] = {
    "transfer.json": build_transfer,
    "lease.json": build_lease,
    "head.json": build_head,
}


def render(document: Case) -> str:
    """The text of a file."""
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    for name, build in BUILDERS.items():
        (Path(__file__).parent / name).write_text(render(build()))
