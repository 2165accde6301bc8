"""Checkpoints: what a device has signed about a recording while it grows. Format: docs/spec/05-checkpoint.md.

A checkpoint names the number and root of the sealed chunks, and the bytes and hash of the live frames
behind them. Each names the hash of the one before, so the series can be neither cut in the middle nor
reordered; counts never shrink, and the root over an earlier count must be the root that was signed then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from kernel.checkpoint import compute_checkpoint_hash, decode_checkpoint
from kernel.domains import Domain, Network
from kernel.errors import InvalidRecord, Reason
from kernel.merkle import Frontier, compute_leaf
from lucid.v1 import identity_pb2, session_pb2
from session.access import RecorderKeys

FrameDigest = tuple[int, int, bytes]
"""(chunk index, bytes of its frames, BLAKE3 over them) of one chunk that is not sealed yet."""


def hash_frame(hasher: blake3, frame: bytes) -> None:
    """Adds one encrypted frame to the digest of its chunk: length, 4 bytes big-endian, and bytes."""
    hasher.update(len(frame).to_bytes(4, "big"))
    hasher.update(frame)


def compute_tail_hash(tail: Sequence[FrameDigest]) -> bytes:
    """BLAKE3 over (index u32 ‖ bytes u64 ‖ digest) of each unsealed chunk that has frames, in order."""
    hasher = blake3()
    for index, size_bytes, digest in tail:
        hasher.update(index.to_bytes(4, "big") + size_bytes.to_bytes(8, "big") + digest)
    return hasher.digest()


def sign_checkpoint(
    keys: RecorderKeys,
    row: session_pb2.SessionRow,
    tree: Frontier,
    tail: Sequence[FrameDigest],
    time_ns: int,
) -> identity_pb2.Signed:
    """The next checkpoint of a session.

    Args:
        keys: of the recording device.
        row: of the session, with the checkpoint before.
        tree: over all sealed chunks.
        tail: live frames behind them; durable.
        time_ns: Unix time.
    """
    checkpoint = session_pb2.Checkpoint(
        session_id=row.opened.session_id,
        sequence=row.checkpoint_count,
        chunk_count=tree.count,
        root=tree.root(),
        tail_bytes=sum(size_bytes for _, size_bytes, _ in tail),
        tail_hash=compute_tail_hash(tail),
        time_ns=time_ns,
        previous=compute_checkpoint_hash(row.last_checkpoint.payload) if row.checkpoint_count else b"",
    )
    return keys.device.sign(Domain.CHECKPOINT, keys.network, checkpoint.SerializeToString())


@dataclass(slots=True)
class CheckpointSeries:
    """Checks a series of checkpoints, in order, against the chunk IDs of the session.

    Attributes:
        session_id: the session.
        network: where its signatures hold.
        device: Ed25519 key of the recording device.
        last: the newest accepted checkpoint.
        last_hash: hash of its payload; empty before the first.
    """

    session_id: bytes
    network: Network
    device: bytes
    last: session_pb2.Checkpoint | None = None
    last_hash: bytes = b""
    _tree: Frontier = field(default_factory=Frontier)

    def add(self, signed: identity_pb2.Signed, chunk_ids: Sequence[bytes]) -> session_pb2.Checkpoint:
        """Accepts the next checkpoint.

        Args:
            signed: the checkpoint.
            chunk_ids: IDs of all chunks of the session, at least as many as the checkpoint covers.

        Raises:
            InvalidRecord: bad signature, out of order, shrinking, or over other chunks.
        """
        checkpoint = decode_checkpoint(signed, self.network, self.device, self.session_id)
        expected = self.last.sequence + 1 if self.last else 0
        if checkpoint.sequence != expected or checkpoint.previous != self.last_hash:
            raise InvalidRecord(
                Reason.NOT_CONSISTENT, f"checkpoint {checkpoint.sequence} does not follow the one before it"
            )
        if checkpoint.chunk_count < self._tree.count:
            raise InvalidRecord(
                Reason.NOT_CONSISTENT, f"checkpoint {checkpoint.sequence} covers fewer chunks than before"
            )
        if checkpoint.chunk_count > len(chunk_ids):
            raise InvalidRecord(
                Reason.NOT_CONSISTENT,
                f"checkpoint {checkpoint.sequence} covers {checkpoint.chunk_count} chunks, "
                f"only {len(chunk_ids)} are known",
            )
        tree = self._tree.copy()
        for chunk_id in chunk_ids[tree.count : checkpoint.chunk_count]:
            tree.append(compute_leaf(chunk_id))
        if tree.root() != checkpoint.root:
            raise InvalidRecord(
                Reason.NOT_CONSISTENT, f"checkpoint {checkpoint.sequence} was signed over other chunks"
            )
        self._tree = tree
        self.last, self.last_hash = checkpoint, compute_checkpoint_hash(signed.payload)
        return checkpoint
