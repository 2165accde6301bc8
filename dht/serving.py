"""Chunks given to whoever knows their ID, whole or in part. Rules: docs/spec/10-transfer.md.

The ID is a hash of encrypted bytes, which only those know who have to do with the chunk. The leaf hashes of a
held chunk were kept with it; a chunk of this node itself is hashed before they are sent. A slow reader holds
no more than one piece in memory.
"""

from collections.abc import AsyncIterator, Sequence

from dht.bandwidth import Pace
from dht.check_budget import CheckBudget, CheckLimits
from dht.holding_store import HoldingStore
from dht.lease import CHUNK_ID_BYTES, HASH_BYTES, MAX_BLOB_BYTES
from dht.ports import KeepingPorts, PeerIdentity
from dht.transfer import PIECE_BYTES, count_leaves, cut, is_range
from kernel.chunk_id import LEAF_BYTES, compute_chunk_id, compute_chunk_leaves
from kernel.errors import InvalidRecord, NotFound, Reason, StoreDamaged
from kernel.merkle import compute_inclusion_proof, compute_leaf
from lucid.v1 import chunk_pb2

MAX_ASKED_CHUNKS = 1024
MAX_AUDITED_LEAVES = 16


class ServedChunks:
    """Answers about blobs of this node, its own and those that it holds."""

    def __init__(
        self, ports: KeepingPorts, store: HoldingStore, pace: Pace, limits: CheckLimits | None = None
    ) -> None:
        """`limits`: of what is read and hashed for callers."""
        self._ports = ports
        self._checks = CheckBudget(ports.clock, limits)
        self._store = store
        self._pace = pace

    async def get_chunk(
        self, caller: PeerIdentity, request: chunk_pb2.GetChunkRequest
    ) -> AsyncIterator[chunk_pb2.GetChunkResponse]:
        """See `ChunkService.GetChunk`.

        Raises:
            InvalidRecord: the request makes no sense.
            NotFound: the chunk is not here.
            StoreDamaged: it is, but other bytes than it should be.
        """
        size_bytes = self._find(request.chunk_id)
        start = request.offset
        end = start + request.length if request.length else size_bytes
        if not is_range(size_bytes, start, end):
            raise InvalidRecord(Reason.MALFORMED, f"{start} to {end} are no leaves of {size_bytes} bytes")
        opening = chunk_pb2.GetOpen(size_bytes=size_bytes)
        if not request.without_leaves:
            opening.leaves = await self._find_leaves(caller.owner, request.chunk_id, size_bytes)
        yield chunk_pb2.GetChunkResponse(open=opening)
        for place in range(start, end, PIECE_BYTES):
            piece = await self._read(request.chunk_id, place, min(PIECE_BYTES, end - place))
            for frame in cut(piece):
                await self._pace.send(len(frame))
                yield chunk_pb2.GetChunkResponse(frame=frame)

    def has_chunks(self, request: chunk_pb2.HasChunksRequest) -> chunk_pb2.HasChunksResponse:
        """See `ChunkService.HasChunks`.

        Raises:
            InvalidRecord: too many IDs, or one that is none.
        """
        chunk_ids = request.chunk_ids
        if len(chunk_ids) > MAX_ASKED_CHUNKS:
            raise InvalidRecord(Reason.TOO_LARGE, f"{len(chunk_ids)} chunk IDs at once")
        sizes = []
        for chunk_id in chunk_ids:
            if len(chunk_id) != CHUNK_ID_BYTES:
                raise InvalidRecord(Reason.MALFORMED, f"a chunk ID has {CHUNK_ID_BYTES} bytes")
            sizes.append(self._ports.blobs.size(chunk_id) or 0)
        return chunk_pb2.HasChunksResponse(sizes=sizes)

    async def audit_chunk(
        self, caller: PeerIdentity, request: chunk_pb2.AuditChunkRequest
    ) -> chunk_pb2.AuditChunkResponse:
        """See `ChunkService.AuditChunk`.

        Raises:
            InvalidRecord: too many leaves, none, or one that the chunk does not have.
            NotFound: the chunk is not here.
            StoreDamaged: it is, but other bytes than it should be.
        """
        if not 0 < len(request.leaves) <= MAX_AUDITED_LEAVES:
            raise InvalidRecord(Reason.TOO_LARGE, f"{len(request.leaves)} leaves at once")
        size_bytes = self._find(request.chunk_id)
        if max(request.leaves) >= count_leaves(size_bytes):
            raise InvalidRecord(Reason.WRONG_INDEX, f"the chunk has {count_leaves(size_bytes)} leaves")
        # Of the bytes, not those that were kept: damage anywhere is found, whichever leaf is asked for.
        leaves = await self._hash(caller.owner, request.chunk_id, size_bytes)
        response = chunk_pb2.AuditChunkResponse(size_bytes=size_bytes)
        for index in request.leaves:
            place = index * LEAF_BYTES
            data = await self._read(request.chunk_id, place, min(LEAF_BYTES, size_bytes - place))
            if compute_leaf(data) != leaves[index]:
                raise _damaged(request.chunk_id)
            path = await self._ports.offload.run(compute_inclusion_proof, leaves, index)
            response.leaves.append(chunk_pb2.AuditedLeaf(index=index, data=data, path=path))
        return response

    async def is_intact(self, owner: bytes, chunk_id: bytes, leaves: Sequence[bytes]) -> bool:
        """True if the chunk is here, with these leaf hashes; `owner` wants to know."""
        size_bytes = self._ports.blobs.size(chunk_id)
        if size_bytes is None or count_leaves(size_bytes) != len(leaves):
            return False
        try:
            return await self._hash(owner, chunk_id, size_bytes) == leaves
        except (NotFound, StoreDamaged):
            return False

    def _find(self, chunk_id: bytes) -> int:
        if len(chunk_id) != CHUNK_ID_BYTES:
            raise InvalidRecord(Reason.MALFORMED, f"a chunk ID has {CHUNK_ID_BYTES} bytes")
        size_bytes = self._ports.blobs.size(chunk_id)
        if not size_bytes or size_bytes > MAX_BLOB_BYTES:
            raise NotFound(f"chunk {chunk_id.hex()} is not here", hint="ask another holder")
        return size_bytes

    async def _find_leaves(self, owner: bytes, chunk_id: bytes, size_bytes: int) -> bytes:
        """Leaf hashes: those that were checked when the chunk was taken, or else those of the bytes."""
        leaves = await self._store.get_leaves(chunk_id)
        if len(leaves) == count_leaves(size_bytes) * HASH_BYTES:
            return leaves
        return b"".join(await self._hash(owner, chunk_id, size_bytes))

    async def _hash(self, owner: bytes, chunk_id: bytes, size_bytes: int) -> list[bytes]:
        """Leaf hashes of the bytes of a chunk, which must give its ID. Waits for a turn of the owner's."""
        leaves: list[bytes] = []
        async with self._checks.turn(owner, size_bytes):
            for place in range(0, size_bytes, PIECE_BYTES):
                piece = await self._read(chunk_id, place, min(PIECE_BYTES, size_bytes - place))
                leaves += await self._ports.offload.run(compute_chunk_leaves, piece)
        if await self._ports.offload.run(compute_chunk_id, leaves, size_bytes) != chunk_id:
            raise _damaged(chunk_id)
        return leaves

    async def _read(self, chunk_id: bytes, place: int, size_bytes: int) -> bytes:
        piece = await self._ports.blobs.read(chunk_id, place, size_bytes)
        if len(piece) != size_bytes:
            raise _damaged(chunk_id)
        return piece


def _damaged(chunk_id: bytes) -> StoreDamaged:
    return StoreDamaged(f"chunk {chunk_id.hex()} is damaged on the disk")
