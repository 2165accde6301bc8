"""What spreading asks of the world, beside the ports of the kernel.

Messages are those of `lucid.v1`; what a peer answers is unchecked: the flow that asked checks it.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from kernel.ports import Blobs, Clock, Journal, Offload, Records
from kernel.signing import SigningKey
from lucid.v1 import chunk_pb2, witness_pb2


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """A peer, as its signed records tell.

    Attributes:
        device: Ed25519 key of the node.
        owner: Ed25519 key of its owner.
        box: X25519 key that others may seal to.
    """

    device: bytes
    owner: bytes
    box: bytes


@dataclass(frozen=True, slots=True)
class KeepingPorts:
    """The world as it is seen by what keeps things for others."""

    clock: Clock
    offload: Offload
    records: Records
    blobs: Blobs
    journal: Journal


class OwnBlobs(Protocol):
    """What this node needs blobs for, beside keeping them for others."""

    async def needs(self, blob_id: bytes) -> bool:
        """True if a session or a head of this node needs the blob, or if that cannot be told."""
        ...


class Peer(Protocol):
    """An authenticated peer that can be called now. Every call has a deadline of its own.

    Every method raises `Unavailable` when the peer does not answer (in time), `PeerFault` when it broke the
    protocol, and what the peer itself refused with (`StoreFull`, `NotFound`, `Conflict`, `InvalidRecord`, …).
    """

    @property
    def identity(self) -> PeerIdentity:
        """Who it is."""
        ...

    def put_chunk(
        self, requests: AsyncIterator[chunk_pb2.PutChunkRequest]
    ) -> AsyncIterator[chunk_pb2.PutChunkResponse]:
        """Sends a chunk; see `ChunkService.PutChunk`."""
        ...

    def get_chunk(self, request: chunk_pb2.GetChunkRequest) -> AsyncIterator[chunk_pb2.GetChunkResponse]:
        """Fetches a chunk, or part of one."""
        ...

    async def has_chunks(self, request: chunk_pb2.HasChunksRequest) -> chunk_pb2.HasChunksResponse:
        """Asks which chunks are held."""
        ...

    async def audit_chunk(self, request: chunk_pb2.AuditChunkRequest) -> chunk_pb2.AuditChunkResponse:
        """Asks for leaves of a chunk, with their paths."""
        ...

    async def release_chunk(self, request: chunk_pb2.ReleaseChunkRequest) -> chunk_pb2.ReleaseChunkResponse:
        """Ends a lease."""
        ...

    async def put_head(self, request: chunk_pb2.PutHeadRequest) -> chunk_pb2.PutHeadResponse:
        """Leaves a head."""
        ...

    async def get_head(self, request: chunk_pb2.GetHeadRequest) -> chunk_pb2.GetHeadResponse:
        """Asks for the heads under a locator."""
        ...

    async def attest(self, request: witness_pb2.AttestRequest) -> witness_pb2.AttestResponse:
        """Asks for a co-signature."""
        ...

    async def get_attested(self, request: witness_pb2.GetAttestedRequest) -> witness_pb2.GetAttestedResponse:
        """Asks what was co-signed last."""
        ...


class Peers(Protocol):
    """The peers of this node."""

    def known(self) -> Sequence[PeerIdentity]:
        """All peers whose identity is known, reachable or not, sorted by device. Never this node itself."""
        ...

    def find(self, device: bytes) -> Peer | None:
        """The peer, if it is connected now."""
        ...

    async def wait_changed(self) -> None:
        """Returns when a peer has come or gone since the last call of this caller, or at once if one has."""
        ...


@dataclass(frozen=True, slots=True)
class OwnChunk:
    """A chunk of a recording of this node that is durable and part of its session.

    Attributes:
        session_id: 16 bytes.
        index: its place in the session.
        chunk_id: 32 bytes.
        size_bytes: of the blob.
    """

    session_id: bytes
    index: int
    chunk_id: bytes
    size_bytes: int


class Recordings(Protocol):
    """The recordings of this node, as far as spreading them needs."""

    def session_ids(self) -> Sequence[bytes]:
        """All sessions that are to be spread: those of this node's owner, sorted."""
        ...

    def chunk_count(self, session_id: bytes) -> int:
        """Chunks of a session so far; 0 if there is no such session, or its row is damaged."""
        ...

    def chunks(self, session_id: bytes, start: int, limit: int) -> Sequence[OwnChunk]:
        """Up to `limit` chunks of a session from index `start` on; those with a damaged row are left out."""
        ...

    def is_own(self, session_id: bytes) -> bool:
        """Is there such a session, recorded by a device of this node's owner?"""
        ...

    def is_deleted(self, session_id: bytes) -> bool:
        """Was there such a session, and was it deleted?"""
        ...

    async def lease_key(self, session_id: bytes) -> SigningKey:
        """The key that signs the session's leases.

        Raises:
            Locked: this device has no key that reads the session.
            NotFound, StoreDamaged, InvalidRecord: the secret is gone, or damaged.
        """
        ...


@dataclass(frozen=True, slots=True)
class SpreadPorts:
    """The world as the spreading of own chunks sees it."""

    clock: Clock
    offload: Offload
    records: Records
    blobs: Blobs
    peers: Peers
    recordings: Recordings
