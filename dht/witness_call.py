"""What an owner's node says to one witness. What comes back is checked before anybody sees it."""

from collections.abc import Sequence
from dataclasses import dataclass

from dht.ports import Peer
from kernel.attestation import verify_attestation
from kernel.checkpoint import compute_checkpoint_hash, decode_checkpoint
from kernel.domains import Network
from kernel.errors import InvalidRecord, PeerFault
from kernel.merkle import compute_consistency_proof, compute_leaf
from lucid.v1 import identity_pb2, session_pb2, witness_pb2


@dataclass(frozen=True, slots=True)
class Newest:
    """A checkpoint that is to be co-signed.

    Attributes:
        session_id: 16 bytes.
        signed: as its device signed it.
        checkpoint: decoded.
        hash: its checkpoint hash.
    """

    session_id: bytes
    signed: identity_pb2.Signed
    checkpoint: session_pb2.Checkpoint
    hash: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """What a witness co-signed last, as it proved: all signatures hold.

    Attributes:
        signed: the checkpoint, as its device signed it.
        checkpoint: decoded.
        attestation: by the witness.
    """

    signed: identity_pb2.Signed
    checkpoint: session_pb2.Checkpoint
    attestation: identity_pb2.Signed


async def request_attestation(
    peer: Peer, network: Network, newest: Newest, old_count: int, chunk_ids: Sequence[bytes]
) -> identity_pb2.Signed:
    """Asks for a co-signature; returns the attestation, checked.

    Args:
        peer: the witness.
        network: where signatures count.
        newest: the checkpoint.
        old_count: chunks that the witness has co-signed before.
        chunk_ids: of all chunks that the checkpoint covers; empty if there is nothing to prove.

    Raises:
        PeerFault: what came back is no attestation of the checkpoint.
        LucidError: the peer does not answer, or refuses: `Conflict` if it has co-signed something else.
    """
    proof = (
        compute_consistency_proof([compute_leaf(each) for each in chunk_ids], old_count) if chunk_ids else []
    )
    request = witness_pb2.AttestRequest(checkpoint=newest.signed, consistency=proof, old_count=old_count)
    response = await peer.attest(request)
    try:
        verify_attestation(
            response.attestation,
            network,
            session_id=newest.session_id,
            checkpoint_hash=newest.hash,
            witness=peer.identity.device,
        )
    except InvalidRecord as error:
        raise PeerFault(f"what a witness gave is no attestation of the checkpoint: {error}") from error
    return response.attestation


async def get_seen(peer: Peer, network: Network, session_id: bytes, device: bytes) -> Seen | None:
    """What a witness says it co-signed last, checked; None if it says that it co-signed nothing.

    Args:
        peer: the witness.
        network: where signatures count.
        session_id: the session.
        device: Ed25519 key of the recording device.

    Raises:
        PeerFault: what it showed does not hold.
        LucidError: the peer does not answer, or refuses.
    """
    request = witness_pb2.GetAttestedRequest(session_id=session_id, device=device)
    response = await peer.get_attested(request)
    if not response.HasField("checkpoint"):
        return None
    try:
        checkpoint = decode_checkpoint(response.checkpoint, network, device, session_id)
        verify_attestation(
            response.attestation,
            network,
            session_id=session_id,
            checkpoint_hash=compute_checkpoint_hash(response.checkpoint.payload),
            witness=peer.identity.device,
        )
    except InvalidRecord as error:
        raise PeerFault(f"a witness shows what nobody signed: {error}") from error
    return Seen(response.checkpoint, checkpoint, response.attestation)
