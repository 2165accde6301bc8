"""Attestations: a witness has seen a checkpoint, at a time by its own clock.

Format: docs/spec/13-witness.md.
"""

from kernel.checkpoint import SESSION_ID_BYTES, compute_checkpoint_hash
from kernel.domains import Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.merkle import HASH_BYTES
from kernel.signing import SigningKey, read_signed
from lucid.v1 import identity_pb2, witness_pb2

MAX_ATTESTATION_BYTES = 256
"""Longest payload; what is defined of it takes less than 70 bytes."""


def sign_attestation(
    witness: SigningKey, network: Network, checkpoint: identity_pb2.Signed, session_id: bytes, time_ns: int
) -> identity_pb2.Signed:
    """The attestation of a checkpoint that the witness has checked.

    Args:
        witness: its identity key.
        network: where it counts.
        checkpoint: what is attested.
        session_id: of the checkpoint's session.
        time_ns: Unix nanoseconds by the witness's clock.
    """
    attestation = witness_pb2.Attestation(
        checkpoint_hash=compute_checkpoint_hash(checkpoint.payload), time_ns=time_ns, session_id=session_id
    )
    return witness.sign(Domain.ATTESTATION, network, attestation.SerializeToString(deterministic=True))


def verify_attestation(
    signed: identity_pb2.Signed,
    network: Network,
    *,
    session_id: bytes,
    checkpoint_hash: bytes,
    witness: bytes | None = None,
) -> witness_pb2.Attestation:
    """The attestation in `signed`, if it is one of this checkpoint.

    Args:
        signed: from anywhere.
        network: where it must count.
        session_id: of the session that it must be about.
        checkpoint_hash: of the checkpoint that it must be about.
        witness: Ed25519 key that must have signed it; None lets the caller judge `signed.public_key`.

    Raises:
        InvalidRecord: it is not.
    """
    attestation = read_signed(
        signed,
        Domain.ATTESTATION,
        network,
        witness_pb2.Attestation,
        max_bytes=MAX_ATTESTATION_BYTES,
        signer=witness,
    )
    if len(attestation.session_id) != SESSION_ID_BYTES or len(attestation.checkpoint_hash) != HASH_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "a field of the attestation has an impossible length")
    if attestation.session_id != session_id:
        raise InvalidRecord(Reason.WRONG_SESSION, "the attestation is about another session")
    if attestation.checkpoint_hash != checkpoint_hash:
        raise InvalidRecord(Reason.WRONG_HASH, "the attestation is about another checkpoint")
    return attestation
