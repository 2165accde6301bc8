"""Brings one chunk to one peer, and writes down how it went.

A replica row is committed when the holder's receipt is verified. The release of a lease is signed together
with it, so that the lease can be ended when the session, and with it the key, is gone (`dht.releasing`). A
node that is killed between receipt and row asks again: the holder has the bytes, and takes the new lease.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dht import tables
from dht.backoff import Advances, Backoffs
from dht.bandwidth import Pace
from dht.lease import sign_lease, sign_release
from dht.plan import Target
from dht.ports import OwnChunk, SpreadPorts
from dht.preset import SpreadPreset
from dht.replicas import MAX_TROUBLE, is_counting, scan_replicas
from dht.transfer import PIECE_BYTES, cut, fetch_leaves, put_chunk
from kernel.chunk_id import compute_chunk_id, compute_chunk_leaves
from kernel.domains import Network
from kernel.errors import LucidError, NotFound, PeerFault, StoreDamaged, StoreError, Unavailable
from kernel.ports import Put
from kernel.signing import SigningKey
from lucid.v1 import chunk_pb2

FetchOwn = Callable[[OwnChunk], Awaitable[bytes | None]]
"""Brings a chunk that is not here; None if nobody gives it."""


@dataclass(frozen=True, slots=True)
class LoadedChunk:
    """A chunk in memory.

    Attributes:
        chunk: which one.
        frames: its bytes, checked, as they are sent; None if it is not here, and all who are asked should
            have it.
        leaves: its leaf hashes.
        lease_key: of its session.
    """

    chunk: OwnChunk
    frames: Sequence[bytes] | None
    leaves: Sequence[bytes]
    lease_key: SigningKey


class Placer:
    """Places chunks of one node."""

    def __init__(
        self,
        ports: SpreadPorts,
        network: Network,
        preset: SpreadPreset,
        backoffs: Backoffs,
        pace: Pace,
        fetch: FetchOwn,
    ) -> None:
        self._fetch = fetch
        self._ports = ports
        self._network = network
        self._preset = preset
        self._backoffs = backoffs
        self._advances = Advances()
        self._pace = pace

    async def load(
        self, chunk: OwnChunk, keepers: Collection[bytes], targets: Sequence[Target]
    ) -> LoadedChunk:
        """Reads a chunk and checks it: what is damaged here is given to nobody.

        What is not here is fetched, unless all `targets` are among `keepers`, who have it: then the leaf
        hashes are enough.

        Raises:
            LucidError: it is damaged here, nobody gives it, or the session has no key here.
        """
        key = await self._ports.recordings.lease_key(chunk.session_id)
        if self._ports.blobs.size(chunk.chunk_id) == chunk.size_bytes:
            frames, leaves = await self._read(chunk)
        else:
            if all(target.holder.device in keepers for target in targets):
                kept = await self._fetch_leaves(chunk, targets)
                if kept is not None:
                    return LoadedChunk(chunk, None, kept, key)
            blob = await self._fetch(chunk)
            if blob is None:
                raise StoreDamaged(f"chunk {chunk.index} is missing here, and no peer gives it")
            frames = cut(blob)
            leaves = await self._ports.offload.run(compute_chunk_leaves, blob)
        if await self._ports.offload.run(compute_chunk_id, leaves, chunk.size_bytes) != chunk.chunk_id:
            raise StoreDamaged(f"chunk {chunk.index} is damaged here")
        return LoadedChunk(chunk, frames, leaves, key)

    async def _read(self, chunk: OwnChunk) -> tuple[list[bytes], list[bytes]]:
        """Frames and leaf hashes of a chunk that is here, without ever having it in one piece."""
        frames, leaves = [], []
        for place in range(0, chunk.size_bytes, PIECE_BYTES):
            piece = await self._ports.blobs.read(chunk.chunk_id, place, PIECE_BYTES)
            frames += cut(piece)
            leaves += await self._ports.offload.run(compute_chunk_leaves, piece)
        return frames, leaves

    async def _fetch_leaves(self, chunk: OwnChunk, targets: Sequence[Target]) -> list[bytes] | None:
        for target in targets:
            peer = self._ports.peers.find(target.holder.device)
            if peer is not None:
                with suppress(LucidError):  # `place` finds out what is wrong with it
                    return await fetch_leaves(peer, chunk.chunk_id, chunk.size_bytes, pace=self._pace)
        return None

    async def place(self, loaded: LoadedChunk, target: Target) -> bool:
        """Makes or renews a replica. A peer that fails is left alone for a while, and the row says why.

        Returns:
            False if the peer does not hold the chunk, and there were no bytes to give it.
        """
        has_chunk, begun_at = True, [0]
        chunk, device, clock = loaded.chunk, target.holder.device, self._ports.clock
        key = tables.replica_key(chunk.session_id, chunk.index, target.replica)
        transfer = (device, chunk.chunk_id)
        try:
            row = await self._put(loaded, target, begun_at.append)
        except LucidError as error:
            has_chunk = loaded.frames is not None or not isinstance(error, NotFound)
            if has_chunk:
                forward = self._advances.on_broken(transfer, begun_at[-1])
                fault = isinstance(error, PeerFault)
                self._backoffs.on_failure(device, clock.monotonic_ns(), fault=fault, forward=forward)
            row = self._describe_failure(chunk, target, error)
        else:
            self._advances.on_done(transfer)
            self._backoffs.on_success(device)
        try:
            await self._ports.records.commit([Put(tables.REPLICAS, key, row.SerializeToString())])
        except StoreError:  # this node's disk: tried again, as after a kill
            self._backoffs.on_failure(device, clock.monotonic_ns())
        return has_chunk

    async def _put(
        self, loaded: LoadedChunk, target: Target, on_begin: Callable[[int], None]
    ) -> chunk_pb2.Replica:
        chunk, holder, key = loaded.chunk, target.holder.device, loaded.lease_key
        peer = self._ports.peers.find(holder)
        if peer is None:
            raise Unavailable("the peer is not connected")
        wall_ns = self._ports.clock.wall_ns()
        lease = chunk_pb2.Lease(
            chunk_id=chunk.chunk_id,
            size_bytes=chunk.size_bytes,
            replica=target.replica,
            holder=holder,
            sequence=max(target.after + 1, wall_ns // 1_000_000),
            until_s=wall_ns // 1_000_000_000 + int(self._preset.lease_s),
        )
        signed = sign_lease(key, self._network, lease)
        release = sign_release(key, self._network, chunk.chunk_id, holder, lease.sequence)
        receipt = await put_chunk(
            peer,
            self._network,
            signed,
            loaded.frames,
            leaves=loaded.leaves,
            size_bytes=chunk.size_bytes,
            pace=self._pace,
            on_begin=on_begin,
        )
        return chunk_pb2.Replica(holder=holder, lease=signed, receipt=receipt, release=release)

    def _describe_failure(self, chunk: OwnChunk, target: Target, error: LucidError) -> chunk_pb2.Replica:
        """The row after a peer was asked in vain. A lease that holds, holds on while its holder is silent."""
        rows = scan_replicas(self._ports.records, chunk.session_id, chunk.index)
        row = rows.get(target.replica, chunk_pb2.Replica())
        if not row.HasField("receipt"):
            return chunk_pb2.Replica(holder=target.holder.device, trouble=str(error)[:MAX_TROUBLE])
        if is_counting(row, self._ports.clock.wall_ns() / 1e9) and not isinstance(error, Unavailable):
            row.trouble = f"not renewed: {error}"[:MAX_TROUBLE]
        return row
