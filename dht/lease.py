"""Leases, receipts, releases: who asked whom to keep a chunk, who promised it. Format: docs/spec/11-lease.md.

An owner signs a lease with a key of the session, so that a holder cannot link sessions by it. The holder
signs a receipt once the chunk is durable. A release, by the key of the lease, ends it early. Of the leases
that one key signed for a chunk and a holder, the one with the highest sequence counts.
"""

from blake3 import blake3

from kernel.domains import Domain, Label, Network
from kernel.errors import InvalidRecord, Reason
from kernel.kdf import derive
from kernel.signing import PUBLIC_KEY_BYTES, SigningKey, read_signed
from lucid.v1 import chunk_pb2, identity_pb2

CHUNK_ID_BYTES = 32
HASH_BYTES = 32

MAX_BLOB_BYTES = (16 << 20) + (512 << 10) + 100
"""Greatest length of a blob (genesis): that of a chunk with 16 MiB of plaintext, padded and encrypted."""

MAX_LEASE_S = 90 * 24 * 3600
"""A lease ends at most so many seconds after the holder has taken it (genesis)."""

MAX_REPLICA = 255
MAX_PAYLOAD_BYTES = 256


def derive_lease_key(secret: bytes, session_id: bytes) -> SigningKey:
    """The key that signs the leases of a session: whoever can read the session can renew and release."""
    return SigningKey.from_seed(derive(secret, Label.SESSION_LEASE, session_id))


def compute_lease_hash(signed: identity_pb2.Signed) -> bytes:
    """BLAKE3 of the lease's payload: what a receipt names."""
    return blake3(signed.payload).digest()


def sign_lease(key: SigningKey, network: Network, lease: chunk_pb2.Lease) -> identity_pb2.Signed:
    """A lease, signed by the lease key of the session.

    Raises:
        InvalidRecord: it would break a rule that does not depend on time or holder.
    """
    check_lease(lease)
    return key.sign(Domain.LEASE, network, lease.SerializeToString(deterministic=True))


def verify_lease(
    signed: identity_pb2.Signed, network: Network, *, holder: bytes, now_s: int
) -> chunk_pb2.Lease:
    """The lease in `signed`, if it holds here and now.

    Args:
        signed: from anywhere; any key may have signed it.
        network: where it must count.
        holder: Ed25519 key of the node that it must name.
        now_s: Unix seconds. A lease ends when `until_s` begins.

    Raises:
        InvalidRecord: TOO_LARGE, MALFORMED, BAD_SIGNATURE, WRONG_HOLDER or EXPIRED.
    """
    lease = read_lease(signed, network)
    if lease.holder != holder:
        raise InvalidRecord(Reason.WRONG_HOLDER, f"the lease names holder {lease.holder.hex()}")
    if lease.until_s <= now_s:
        raise InvalidRecord(
            Reason.EXPIRED,
            f"the lease ended {now_s - lease.until_s} s ago",
            hint="sign a new one, and compare the clocks",
        )
    if lease.until_s > now_s + MAX_LEASE_S:
        raise InvalidRecord(
            Reason.TOO_LARGE,
            f"the lease would end in {lease.until_s - now_s} s, later than {MAX_LEASE_S}",
            hint="ask for a shorter one, and compare the clocks",
        )
    return lease


def read_lease(signed: identity_pb2.Signed, network: Network) -> chunk_pb2.Lease:
    """The lease in `signed`, whoever is to hold it and whenever it ends.

    Raises:
        InvalidRecord: TOO_LARGE, MALFORMED or BAD_SIGNATURE.
    """
    lease = read_signed(signed, Domain.LEASE, network, chunk_pb2.Lease, max_bytes=MAX_PAYLOAD_BYTES)
    check_lease(lease)
    return lease


def check_lease(lease: chunk_pb2.Lease) -> None:
    """Checks what does not depend on time or holder.

    Raises:
        InvalidRecord: MALFORMED or TOO_LARGE.
    """
    if len(lease.chunk_id) != CHUNK_ID_BYTES or len(lease.holder) != PUBLIC_KEY_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "chunk ID or holder of the lease have an impossible length")
    if lease.sequence == 0 or lease.size_bytes == 0:
        raise InvalidRecord(Reason.MALFORMED, "the lease has no sequence number, or is about nothing")
    if lease.size_bytes > MAX_BLOB_BYTES:
        raise InvalidRecord(
            Reason.TOO_LARGE, f"a lease of {lease.size_bytes} bytes; {MAX_BLOB_BYTES} are the most"
        )
    if lease.replica > MAX_REPLICA:
        raise InvalidRecord(Reason.TOO_LARGE, f"replica {lease.replica}; {MAX_REPLICA} is the last")


def sign_receipt(
    device_key: SigningKey, network: Network, lease: identity_pb2.Signed, stored_ns: int
) -> identity_pb2.Signed:
    """A receipt, signed by the holder. Only after the chunk is durable.

    Args:
        device_key: identity of the holder.
        network: where it counts.
        lease: what it answers.
        stored_ns: Unix nanoseconds by the holder's clock.
    """
    receipt = chunk_pb2.Receipt(lease_hash=compute_lease_hash(lease), stored_ns=stored_ns)
    return device_key.sign(Domain.RECEIPT, network, receipt.SerializeToString(deterministic=True))


def verify_receipt(
    receipt: identity_pb2.Signed, network: Network, lease: identity_pb2.Signed, holder: bytes
) -> chunk_pb2.Receipt:
    """The receipt in `receipt`, if `holder` signed it for this lease.

    Raises:
        InvalidRecord: TOO_LARGE, MALFORMED, WRONG_SIGNER, BAD_SIGNATURE or WRONG_HASH.
    """
    decoded = read_signed(
        receipt, Domain.RECEIPT, network, chunk_pb2.Receipt, max_bytes=MAX_PAYLOAD_BYTES, signer=holder
    )
    if decoded.lease_hash != compute_lease_hash(lease):
        raise InvalidRecord(Reason.WRONG_HASH, "the receipt is for another lease")
    return decoded


def sign_release(
    key: SigningKey, network: Network, chunk_id: bytes, holder: bytes, sequence: int
) -> identity_pb2.Signed:
    """A release, signed by the lease key.

    Args:
        key: the key that signed the lease.
        network: where it counts.
        chunk_id: what is no longer to be kept.
        holder: by whom.
        sequence: of the newest lease that ends; one with a higher sequence stays.
    """
    release = chunk_pb2.Release(chunk_id=chunk_id, holder=holder, sequence=sequence)
    return key.sign(Domain.RELEASE, network, release.SerializeToString(deterministic=True))


def verify_release(signed: identity_pb2.Signed, network: Network, *, holder: bytes) -> chunk_pb2.Release:
    """The release in `signed`. It ends leases that the same key signed, no others.

    Args:
        signed: from anywhere.
        network: where it must count.
        holder: Ed25519 key of the node that it must name.

    Raises:
        InvalidRecord: TOO_LARGE, MALFORMED, BAD_SIGNATURE or WRONG_HOLDER.
    """
    release = read_signed(signed, Domain.RELEASE, network, chunk_pb2.Release, max_bytes=MAX_PAYLOAD_BYTES)
    if len(release.chunk_id) != CHUNK_ID_BYTES or release.sequence == 0:
        raise InvalidRecord(Reason.MALFORMED, "the release names no chunk, or no sequence number")
    if release.holder != holder:
        raise InvalidRecord(Reason.WRONG_HOLDER, f"the release names holder {release.holder.hex()}")
    return release
