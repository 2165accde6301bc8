"""Heads: what lets an owner find its sessions again. Format: docs/spec/12-head.md.

A head belongs to a locator, a key that follows from the owner root. The locator's grant names the devices
that write heads under it; each device signs its own, with a sequence that grows.
"""

from blake3 import blake3

from dht.lease import HASH_BYTES
from kernel.domains import Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.head_grants import verify_head_grant
from kernel.signing import PUBLIC_KEY_BYTES, SigningKey, read_signed
from lucid.v1 import chunk_pb2, identity_pb2

MAX_SEALED_BYTES = 64 << 10
"""Most bytes of the sealed part of a head (genesis)."""

MAX_HEAD_S = 400 * 24 * 3600
"""A head expires at most so many seconds after a keeper has taken it (genesis)."""

_MAX_SMALL_BYTES = 256
_MAX_HEAD_BYTES = MAX_SEALED_BYTES + _MAX_SMALL_BYTES


def sign_head(device_key: SigningKey, network: Network, head: chunk_pb2.Head) -> identity_pb2.Signed:
    """A head, signed by its device.

    Raises:
        InvalidRecord: it would break a rule that does not depend on time.
    """
    _check_head(head)
    if head.device != device_key.public_key:
        raise InvalidRecord(Reason.WRONG_SIGNER, "the head names another device than the one that signs it")
    return device_key.sign(Domain.HEAD, network, head.SerializeToString(deterministic=True))


def verify_head_entry(
    entry: chunk_pb2.HeadEntry, network: Network, *, locator: bytes | None = None, now_s: int | None
) -> chunk_pb2.Head:
    """The head of an entry, if its device signed it and its locator had granted that.

    Args:
        entry: from anywhere.
        network: where it must count.
        locator: the locator that it must belong to; None: any.
        now_s: Unix seconds, at which it must hold; None: it may have expired.

    Raises:
        InvalidRecord: TOO_LARGE, MALFORMED, WRONG_SIGNER, BAD_SIGNATURE or EXPIRED.
    """
    grant = verify_head_grant(entry.grant, network, locator=locator)
    head = read_signed(
        entry.head, Domain.HEAD, network, chunk_pb2.Head, max_bytes=_MAX_HEAD_BYTES, signer=grant.device
    )
    _check_head(head)
    if head.locator != grant.locator or head.device != grant.device:
        raise InvalidRecord(Reason.WRONG_SIGNER, "the head and its grant name different locators or devices")
    if now_s is not None and not now_s < head.expires_s <= now_s + MAX_HEAD_S:
        raise InvalidRecord(
            Reason.EXPIRED,
            f"the head expires at {head.expires_s}, and it is {now_s}",
            hint=f"a head expires within {MAX_HEAD_S} s; compare the clocks",
        )
    return head


def _check_head(head: chunk_pb2.Head) -> None:
    if len(head.locator) != PUBLIC_KEY_BYTES or len(head.device) != PUBLIC_KEY_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "locator or device of the head have an impossible length")
    if head.sequence == 0:
        raise InvalidRecord(Reason.MALFORMED, "the head has no sequence number")
    if len(head.sealed) > MAX_SEALED_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"a head seals {len(head.sealed)} bytes")


def compute_head_hash(signed: identity_pb2.Signed) -> bytes:
    """BLAKE3 of the head's payload: what a receipt names."""
    return blake3(signed.payload).digest()


def sign_head_receipt(
    device_key: SigningKey, network: Network, head: identity_pb2.Signed, stored_ns: int
) -> identity_pb2.Signed:
    """A receipt, signed by the keeper. Only after the head is durable.

    Args:
        device_key: identity of the keeper.
        network: where it counts.
        head: what it answers.
        stored_ns: Unix nanoseconds by the keeper's clock.
    """
    receipt = chunk_pb2.HeadReceipt(head_hash=compute_head_hash(head), stored_ns=stored_ns)
    return device_key.sign(Domain.HEAD_RECEIPT, network, receipt.SerializeToString(deterministic=True))


def verify_head_receipt(
    receipt: identity_pb2.Signed, network: Network, head: identity_pb2.Signed, keeper: bytes
) -> chunk_pb2.HeadReceipt:
    """The receipt in `receipt`, if `keeper` signed it for this head.

    Raises:
        InvalidRecord: TOO_LARGE, MALFORMED, WRONG_SIGNER, BAD_SIGNATURE or WRONG_HASH.
    """
    decoded = read_signed(
        receipt,
        Domain.HEAD_RECEIPT,
        network,
        chunk_pb2.HeadReceipt,
        max_bytes=_MAX_SMALL_BYTES,
        signer=keeper,
    )
    if len(decoded.head_hash) != HASH_BYTES or decoded.head_hash != compute_head_hash(head):
        raise InvalidRecord(Reason.WRONG_HASH, "the receipt is for another head")
    return decoded
