"""The vectors of transfers, leases and heads: this code agrees with them; their maker still writes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from dht.heads import verify_head_entry, verify_head_receipt
from dht.lease import derive_lease_key, verify_lease, verify_receipt, verify_release
from dht.transfer import ChunkReceiver
from kernel.domains import NETWORKS
from kernel.errors import InvalidRecord, Reason
from kernel.signing import SigningKey
from lucid.v1 import chunk_pb2
from lucid.v1.identity_pb2 import Signed
from tests.vectors.make_transfer_vectors import BUILDERS, render

VECTORS = Path(__file__).parents[2] / "vectors"
NETWORK = NETWORKS["dev"]


def load(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


TRANSFER, LEASE, HEAD = load("transfer"), load("lease"), load("head")
BLOB = bytes(n % 251 for n in range(TRANSFER["size_bytes"]))


def names(case: Any) -> str:
    return str(case["name"])


def signed(text: str) -> Signed:
    return Signed.FromString(bytes.fromhex(text))


def key(seed: str) -> bytes:
    return SigningKey.from_seed(bytes.fromhex(seed)).public_key


def expect(case: Any, attempt: Callable[[], object]) -> None:
    with pytest.raises(InvalidRecord) as caught:
        attempt()
    assert caught.value.reason == Reason[case["reason"]]


@pytest.mark.parametrize("name", BUILDERS)
def test_the_maker_writes_the_same(name: str) -> None:
    assert (VECTORS / name).read_text() == render(BUILDERS[name]())


def receiver() -> ChunkReceiver:
    chunk_id, leaves = bytes.fromhex(TRANSFER["chunk_id"]), bytes.fromhex(TRANSFER["leaves"])
    return ChunkReceiver(chunk_id, TRANSFER["size_bytes"], leaves)


def test_frames_make_the_chunk() -> None:
    one = receiver()
    for start, length in TRANSFER["frames"]:
        assert one.position == start
        one.take(BLOB[start : start + length])
    assert one.is_complete


@pytest.mark.parametrize("case", TRANSFER["refused_opening"], ids=names)
def test_refused_openings(case: Any) -> None:
    chunk_id, leaves = bytes.fromhex(TRANSFER["chunk_id"]), bytes.fromhex(case["leaves"])
    expect(case, lambda: ChunkReceiver(chunk_id, case["size_bytes"], leaves))


@pytest.mark.parametrize("case", TRANSFER["refused_frame"], ids=names)
def test_refused_frames(case: Any) -> None:
    one = receiver()
    if case["position"]:
        one.take(BLOB[: case["position"]])
    expect(case, lambda: one.take(bytes.fromhex(case["frame"])))


def test_lease_receipt_release() -> None:
    holder = key(LEASE["holder_seed"])
    lease = signed(LEASE["lease"]["signed"])
    secret, session_id = bytes.fromhex(LEASE["secret"]), bytes.fromhex(LEASE["session_id"])
    assert derive_lease_key(secret, session_id).public_key == lease.public_key
    found = verify_lease(lease, NETWORK, holder=holder, now_s=LEASE["now_s"])
    for name in ("size_bytes", "replica", "sequence", "until_s"):
        assert getattr(found, name) == LEASE["lease"][name]
    assert found.chunk_id.hex() == TRANSFER["chunk_id"]
    assert blake3(lease.payload).hexdigest() == LEASE["lease"]["hash"]
    receipt = verify_receipt(signed(LEASE["receipt"]["signed"]), NETWORK, lease, holder)
    assert receipt.stored_ns == LEASE["receipt"]["stored_ns"]
    release = verify_release(signed(LEASE["release"]["signed"]), NETWORK, holder=holder)
    assert (release.chunk_id, release.sequence) == (found.chunk_id, LEASE["release"]["sequence"])


@pytest.mark.parametrize("case", LEASE["refused"], ids=names)
def test_refused_leases_receipts_releases(case: Any) -> None:
    holder, record = key(LEASE["holder_seed"]), signed(case["signed"])
    lease = signed(LEASE["lease"]["signed"])
    attempts: dict[str, Callable[[], object]] = {
        "lease": lambda: verify_lease(record, NETWORK, holder=holder, now_s=LEASE["now_s"]),
        "receipt": lambda: verify_receipt(record, NETWORK, lease, holder),
        "release": lambda: verify_release(record, NETWORK, holder=holder),
    }
    expect(case, attempts[case["kind"]])


def test_head_and_receipt() -> None:
    entry = chunk_pb2.HeadEntry.FromString(bytes.fromhex(HEAD["entry"]))
    locator = key(HEAD["locator_seed"])
    head = verify_head_entry(entry, NETWORK, locator=locator, now_s=HEAD["now_s"])
    assert (head.sequence, head.sealed.hex()) == (HEAD["head"]["sequence"], HEAD["head"]["sealed"])
    assert entry.head.public_key == key(HEAD["device_seed"])
    assert blake3(entry.head.payload).hexdigest() == HEAD["hash"]
    receipt = signed(HEAD["receipt"]["signed"])
    found = verify_head_receipt(receipt, NETWORK, entry.head, key(HEAD["keeper_seed"]))
    assert found.stored_ns == HEAD["receipt"]["stored_ns"]


@pytest.mark.parametrize("case", HEAD["refused"], ids=names)
def test_refused_heads(case: Any) -> None:
    entry = chunk_pb2.HeadEntry.FromString(bytes.fromhex(case["entry"]))
    expect(case, lambda: verify_head_entry(entry, NETWORK, now_s=HEAD["now_s"]))
