"""Leases, receipts, releases: what is accepted, and what is not."""

from collections.abc import Callable

import pytest

from dht import lease as leases
from dht.lease import (
    MAX_BLOB_BYTES,
    MAX_LEASE_S,
    derive_lease_key,
    sign_lease,
    sign_receipt,
    sign_release,
    verify_lease,
    verify_receipt,
    verify_release,
)
from kernel.domains import Domain, Network
from kernel.errors import InvalidRecord, Reason
from lucid.v1 import chunk_pb2, identity_pb2
from tests.unit.dht.holder import LEASE_KEY, NETWORK, make_key

NOW_S = 1_790_000_000
HOLDER = make_key("holder")
OTHER_NETWORK = Network("other", b"n" * 32)
GOOD = {
    "chunk_id": b"c" * 32,
    "size_bytes": 20_000,
    "replica": 2,
    "holder": HOLDER.public_key,
    "sequence": 1,
    "until_s": NOW_S + MAX_LEASE_S,
}


def sign_unchecked(**changes: object) -> identity_pb2.Signed:
    lease = chunk_pb2.Lease(**(GOOD | changes))  # type: ignore[arg-type]
    return LEASE_KEY.sign(Domain.LEASE, NETWORK, lease.SerializeToString(deterministic=True))


def verify(signed: identity_pb2.Signed) -> chunk_pb2.Lease:
    return verify_lease(signed, NETWORK, holder=HOLDER.public_key, now_s=NOW_S)


def reason_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(InvalidRecord) as caught:
        call()
    return caught.value.reason


def test_a_good_lease_passes() -> None:
    signed = sign_lease(LEASE_KEY, NETWORK, chunk_pb2.Lease(**GOOD))  # type: ignore[arg-type]
    assert signed == sign_unchecked()
    assert verify(signed) == chunk_pb2.Lease(**GOOD)  # type: ignore[arg-type]


def test_lease_keys_belong_to_one_session() -> None:
    keys = {derive_lease_key(b"s" * 32, bytes((n,)) * 16).public_key for n in range(3)}
    assert len(keys | {derive_lease_key(b"t" * 32, bytes(16)).public_key}) == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chunk_id": b"c" * 31}, Reason.MALFORMED),
        ({"chunk_id": b""}, Reason.MALFORMED),
        ({"holder": b"h" * 33}, Reason.MALFORMED),
        ({"sequence": 0}, Reason.MALFORMED),
        ({"size_bytes": 0}, Reason.MALFORMED),
        ({"size_bytes": MAX_BLOB_BYTES + 1}, Reason.TOO_LARGE),
        ({"replica": 256}, Reason.TOO_LARGE),
        ({"holder": b"h" * 32}, Reason.WRONG_HOLDER),
        ({"until_s": NOW_S}, Reason.EXPIRED),
        ({"until_s": 0}, Reason.EXPIRED),
        ({"until_s": NOW_S + MAX_LEASE_S + 1}, Reason.TOO_LARGE),
        ({"until_s": (1 << 64) - 1}, Reason.TOO_LARGE),
        ({"chunk_id": b"c" * 300}, Reason.TOO_LARGE),
    ],
)
def test_leases_that_break_a_rule_are_refused(changes: dict[str, object], reason: Reason) -> None:
    assert reason_of(lambda: verify(sign_unchecked(**changes))) is reason
    if not {"holder", "until_s"} & changes.keys() or reason is Reason.MALFORMED:
        assert reason_of(lambda: sign_lease(LEASE_KEY, NETWORK, chunk_pb2.Lease(**(GOOD | changes)))) in (  # type: ignore[arg-type]
            reason,
            Reason.MALFORMED,
        )


def test_forged_leases_are_refused() -> None:
    good = sign_unchecked()
    forged = identity_pb2.Signed(
        payload=good.payload, public_key=make_key("x").public_key, signature=good.signature
    )
    assert reason_of(lambda: verify(forged)) is Reason.BAD_SIGNATURE
    changed = identity_pb2.Signed(
        payload=good.payload[:-1], public_key=good.public_key, signature=good.signature
    )
    assert reason_of(lambda: verify(changed)) is Reason.BAD_SIGNATURE
    elsewhere = LEASE_KEY.sign(Domain.LEASE, OTHER_NETWORK, good.payload)
    assert reason_of(lambda: verify(elsewhere)) is Reason.BAD_SIGNATURE
    as_release = LEASE_KEY.sign(Domain.RELEASE, NETWORK, good.payload)
    assert reason_of(lambda: verify(as_release)) is Reason.BAD_SIGNATURE
    garbage = LEASE_KEY.sign(Domain.LEASE, NETWORK, b"\xff\xff")
    assert reason_of(lambda: verify(garbage)) is Reason.MALFORMED
    assert reason_of(lambda: verify(identity_pb2.Signed())) is Reason.MALFORMED


def test_a_receipt_is_for_one_lease_by_one_holder() -> None:
    lease, renewed = sign_unchecked(), sign_unchecked(sequence=2)
    receipt = sign_receipt(HOLDER, NETWORK, lease, 77)
    holder = HOLDER.public_key
    assert verify_receipt(receipt, NETWORK, lease, holder).stored_ns == 77
    assert reason_of(lambda: verify_receipt(receipt, NETWORK, renewed, holder)) is Reason.WRONG_HASH
    other = make_key("other").public_key
    assert reason_of(lambda: verify_receipt(receipt, NETWORK, lease, other)) is Reason.WRONG_SIGNER
    assert reason_of(lambda: verify_receipt(receipt, OTHER_NETWORK, lease, holder)) is Reason.BAD_SIGNATURE
    huge = HOLDER.sign(Domain.RECEIPT, NETWORK, bytes(leases.MAX_PAYLOAD_BYTES + 1))
    assert reason_of(lambda: verify_receipt(huge, NETWORK, lease, holder)) is Reason.TOO_LARGE


def test_a_release_is_for_one_holder() -> None:
    signed = sign_release(LEASE_KEY, NETWORK, b"c" * 32, HOLDER.public_key, 3)
    release = verify_release(signed, NETWORK, holder=HOLDER.public_key)
    assert (release.chunk_id, release.sequence) == (b"c" * 32, 3)
    assert reason_of(lambda: verify_release(signed, NETWORK, holder=b"h" * 32)) is Reason.WRONG_HOLDER
    for chunk_id, sequence in ((b"c", 3), (b"c" * 32, 0)):
        bad = sign_release(LEASE_KEY, NETWORK, chunk_id, HOLDER.public_key, sequence)
        with pytest.raises(InvalidRecord):
            verify_release(bad, NETWORK, holder=HOLDER.public_key)
