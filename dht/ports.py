"""What spreading asks of the world, beside the ports of the kernel.

Messages are those of `lucid.v1`; what a peer answers is unchecked: the flow that asked checks it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kernel.ports import Blobs, Clock, Journal, Offload, Records
from kernel.signing import SigningKey
from lucid.v1 import chunk_pb2, identity_pb2, share_pb2, witness_pb2

FetchBlob = Callable[[bytes, int], Awaitable[bytes]]
"""Chunk ID and length → the blob, from here or from any peer. Raises `Unavailable` if nobody gives it."""


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

    async def offer(self, request: share_pb2.OfferRequest) -> share_pb2.OfferResponse:
        """Gives it a session to read."""
        ...


class Peers(Protocol):
    """The peers of this node; `list_connected` gives those that can be called now."""

    def known(self) -> Sequence[PeerIdentity]:
        """All peers whose identity is known, reachable or not, sorted by device. Never this node itself."""
        ...

    def find(self, device: bytes) -> Peer | None:
        """The peer, if it is connected now."""
        ...

    async def wait_changed(self) -> None:
        """Returns when a peer has come or gone since the last call of this caller, or at once if one has."""
        ...


def list_connected(peers: Peers) -> list[Peer]:
    """All known peers that are connected now, sorted by device."""
    return [peer for known in peers.known() if (peer := peers.find(known.device)) is not None]


class Sessions(Protocol):
    """What heads tell of: the sessions of this node's owner that this node keeps."""

    def list(self) -> Sequence[tuple[bytes, int]]:
        """(session ID, number of facts) of every session, by ID. Not those that other owners shared."""
        ...

    def count_facts(self, session_id: bytes) -> int:
        """Number of facts of a session; 0 if there is no such session, or its row is damaged."""
        ...

    def deleted(self) -> Sequence[bytes]:
        """IDs of deleted sessions, the newest of them if there are very many."""
        ...

    async def read_facts(self, session_id: bytes, first: int, end: int) -> Sequence[bytes]:
        """The facts `first` to `end` - 1, as they stand in the journal; fewer if one is damaged."""
        ...

    async def adopt(self, session_id: bytes, payloads: Sequence[bytes]) -> bool:
        """Takes in a session that another device of the owner recorded; durable on return.

        Returns:
            False if the session is here, or was deleted here: nothing was done.

        Raises:
            InvalidRecord: the facts are no session of this owner.
        """
        ...

    async def catch_up(self, session_id: bytes, payloads: Sequence[bytes]) -> bool:
        """Appends what this device wrote of an open session and this store, an old copy, lacks; durable.

        Returns:
            False if nothing that was signed is missing, or there is no such session: nothing was done.

        Raises:
            InvalidRecord: the facts do not continue those that are here.
        """
        ...

    async def adopt_deletion(self, session_id: bytes) -> None:
        """Remembers that the owner deleted a session elsewhere; does nothing if the session is here."""
        ...

    def trust(self, device: bytes) -> None:
        """From now on a device counts as one of the owner's that recorded."""
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

    def count_heads(self, session_id: bytes) -> int:
        """How many nodes keep a head that leads to the session as it is: without one nobody finds it."""
        ...

    async def lease_key(self, session_id: bytes) -> SigningKey:
        """The key that signs the session's leases.

        Raises:
            Locked: this device has no key that reads the session.
            NotFound, StoreDamaged, InvalidRecord: the secret is gone, or damaged.
        """
        ...


class Checkpoints(Protocol):
    """The recordings of this node, as far as their witnesses are concerned."""

    def session_ids(self) -> Sequence[bytes]:
        """All sessions that this device recorded or is recording, sorted."""
        ...

    def newest(self, session_id: bytes) -> identity_pb2.Signed | None:
        """The last checkpoint; durable. None if there is none, or no such session."""
        ...

    def get(self, session_id: bytes, sequence: int) -> identity_pb2.Signed | None:
        """The checkpoint with this sequence number; None if it is missing or damaged."""
        ...

    def chunk_ids(self, session_id: bytes, count: int) -> Sequence[bytes]:
        """IDs of the first `count` chunks.

        Raises:
            StoreDamaged: some are missing.
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
