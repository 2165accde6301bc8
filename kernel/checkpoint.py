"""Checkpoints, as whoever meets one reads it. Format: docs/spec/05-checkpoint.md.

Making and chaining them is the business of the session room; witnesses and auditors only read them.
"""

from blake3 import blake3

from kernel.domains import Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.merkle import HASH_BYTES
from kernel.signing import read_signed
from lucid.v1 import identity_pb2, session_pb2

SESSION_ID_BYTES = 16
MAX_CHECKPOINT_BYTES = 1024
"""Longest payload; what is defined of it takes less than 200 bytes."""

EMPTY_TAIL_HASH: bytes = blake3(b"").digest()
"""Tail hash where there are no live frames."""


def compute_checkpoint_hash(payload: bytes) -> bytes:
    """What the next checkpoint, attestations and the manifest name a checkpoint by."""
    return blake3(payload).digest()


def decode_checkpoint(
    signed: identity_pb2.Signed, network: Network, device: bytes, session_id: bytes | None = None
) -> session_pb2.Checkpoint:
    """Checks the signature and form of a checkpoint.

    Args:
        signed: from anywhere.
        network: where it must count.
        device: Ed25519 key that must have signed it.
        session_id: of the session that it must belong to; None takes any.

    Raises:
        InvalidRecord: it is not one that `device` signed for this session.
    """
    checkpoint = read_signed(
        signed,
        Domain.CHECKPOINT,
        network,
        session_pb2.Checkpoint,
        max_bytes=MAX_CHECKPOINT_BYTES,
        signer=device,
    )
    if session_id is not None and checkpoint.session_id != session_id:
        raise InvalidRecord(Reason.WRONG_SESSION, "the checkpoint belongs to another session")
    if len(checkpoint.session_id) != SESSION_ID_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "the session ID of the checkpoint has an impossible length")
    if len(checkpoint.root) != HASH_BYTES or len(checkpoint.tail_hash) != HASH_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "a hash of the checkpoint has a wrong length")
    if not checkpoint.tail_bytes and checkpoint.tail_hash != EMPTY_TAIL_HASH:
        raise InvalidRecord(Reason.MALFORMED, "the checkpoint names a hash of no live frames")
    return checkpoint
