"""An owner's node that spreads made-up recordings, on a simulated disk, to holders in memory."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from dht.auditing import Auditor
from dht.backoff import Backoffs
from dht.bandwidth import Pace
from dht.fetching import Fetcher
from dht.lease import derive_lease_key
from dht.ports import OwnChunk, SpreadPorts
from dht.preset import SpreadPreset
from dht.releasing import Releaser
from dht.replicas import is_counting, iterate_replicas, parse_replica_key
from dht.replicator import Replicator
from dht.tables import TABLES
from kernel.chunk_id import compute_blob_id
from kernel.errors import NotFound
from kernel.ports import Blobs
from kernel.signing import SigningKey
from lucid.v1 import chunk_pb2
from storage.blobs import FileBlobs
from storage.faults import Faults
from storage.inline import InlineOffload
from storage.memory_files import MemoryFiles
from storage.memory_records import MemoryRecords
from storage.quota import Quota
from tests.scenarios.world import ManualClock, SeededRng, settle
from tests.unit.dht.holder import NETWORK, Holder, make_blob, make_identity
from tests.unit.dht.memory_peer import MemoryPeer, MemoryPeers

PRESET = SpreadPreset()
BLOB_BYTES = 20_000


@dataclass
class MadeRecordings:
    """`dht.ports.Recordings` that a test fills."""

    made: dict[bytes, list[OwnChunk]] = field(default_factory=dict)
    deleted: dict[bytes, None] = field(default_factory=dict)
    asked: int = 0
    heads: int = 3

    def session_ids(self) -> Sequence[bytes]:
        return sorted(self.made)

    def chunk_count(self, session_id: bytes) -> int:
        return len(self.made.get(session_id, ()))

    def chunks(self, session_id: bytes, start: int, limit: int) -> Sequence[OwnChunk]:
        self.asked += 1
        return self.made.get(session_id, [])[start : start + limit]

    def is_own(self, session_id: bytes) -> bool:
        return session_id in self.made

    def is_deleted(self, session_id: bytes) -> bool:
        return session_id in self.deleted

    def count_heads(self, session_id: bytes) -> int:
        return self.heads

    async def lease_key(self, session_id: bytes) -> SigningKey:
        if session_id not in self.made:
            raise NotFound("there is no such session")
        return derive_lease_key(b"s" * 32, session_id)


class CountingBlobs:
    """Blobs that remember how many are in the hands of readers at once."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.read_count = 0

    async def read(self, blob_id: bytes, offset: int = 0, size_bytes: int | None = None) -> bytes:
        self.read_count += 1
        return await self._blobs.read(blob_id, offset, size_bytes)

    async def put(self, blob_id: bytes, parts: Sequence[bytes]) -> None:
        await self._blobs.put(blob_id, parts)

    async def settle(self, blob_id: bytes) -> None:
        await self._blobs.settle(blob_id)

    def size(self, blob_id: bytes) -> int | None:
        return self._blobs.size(blob_id)

    async def remove(self, blob_ids: Sequence[bytes]) -> None:
        await self._blobs.remove(blob_ids)

    def ids(self) -> list[bytes]:
        return self._blobs.ids()

    def used_bytes(self) -> int:
        return self._blobs.used_bytes()


class Owner:
    """One owner's node. `boot` starts a process on its disk, `kill` ends it."""

    def __init__(self, holders: Sequence[Holder], preset: SpreadPreset = PRESET) -> None:
        rng = SeededRng(7)
        self.rng = rng
        self.identity, self.key = make_identity("owner")
        self.faults = Faults(rng)
        self.files = MemoryFiles(rng, self.faults)
        self.records = MemoryRecords(TABLES, self.faults)
        self.clock = ManualClock()
        self.recordings = MadeRecordings()
        self.holders = list(holders)
        self.preset = preset
        self.peers = MemoryPeers([])
        self.blobs: CountingBlobs
        self.replicator: Replicator
        self.fetcher: Fetcher
        self.auditor: Auditor
        self._running: asyncio.Task[None] | None = None

    async def boot(self, *, run: bool = True) -> "Owner":
        self.peers.peers = [holder.peer("owner") for holder in self.holders]
        self.blobs = CountingBlobs(await FileBlobs.open(self.files, InlineOffload(), Quota(None)))
        ports = SpreadPorts(
            self.clock, InlineOffload(), self.records, self.blobs, self.peers, self.recordings
        )
        backoffs = Backoffs(self.preset.first_backoff_s, self.preset.longest_backoff_s)
        pace = Pace.limited(self.clock)
        releaser = Releaser(ports, backoffs)
        self.replicator = Replicator(
            ports, self.identity, NETWORK, self.preset, backoffs, releaser, self._fetch, pace
        )
        self.fetcher = Fetcher(
            self.records, self.clock, self.peers, self.preset, self.replicator.on_trouble, pace
        )
        self.auditor = Auditor(ports, self.rng, self.preset, self.replicator.on_trouble)
        if run:
            self.start()
            await settle()
        return self

    def start(self) -> None:
        """Begins to spread."""
        self._running = asyncio.create_task(self.replicator.run())

    async def _fetch(self, chunk: OwnChunk) -> bytes | None:
        found = await self.fetcher.fetch(chunk.session_id, chunk.index, chunk.chunk_id, chunk.size_bytes)
        return None if found is None else found.blob

    async def kill(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self.files.process_kill()

    async def advance(self, seconds: float, step_s: float = 0.5) -> None:
        """Lets time pass, here and at the holders."""
        end_ns = self.clock.now_ns + round(seconds * 1e9)
        while self.clock.now_ns < end_ns:
            step = min(step_s, (end_ns - self.clock.now_ns) / 1e9)
            for clock in (self.clock, *(holder.clock for holder in self.holders)):
                await clock.advance(step, step)

    async def record(self, session_id: bytes, count: int, size_bytes: int = BLOB_BYTES) -> None:
        """Adds chunks to a session."""
        chunks = self.recordings.made.setdefault(session_id, [])
        for index in range(len(chunks), len(chunks) + count):
            blob = make_blob(size_bytes + index, seed=int.from_bytes(session_id[:4], "big") + index)
            await self.blobs.put(compute_blob_id(blob), [blob])
            chunks.append(OwnChunk(session_id, index, compute_blob_id(blob), len(blob)))
            self.replicator.on_changed(session_id)
        await settle()

    async def delete(self, session_id: bytes) -> None:
        """Deletes a session."""
        await self.blobs.remove([chunk.chunk_id for chunk in self.recordings.made.pop(session_id)])
        self.recordings.deleted[session_id] = None
        self.replicator.on_changed(session_id)
        await settle()

    async def until_complete(self, session_id: bytes, *, within_s: float = 0.0) -> None:
        """Waits until all replicas are there."""
        for _ in range(400):
            if not self.replicator.count(session_id).pending:
                return
            await settle()
        await self.advance(within_s)
        assert not self.replicator.count(session_id).pending, self.replicator.count(session_id)

    def rows(self) -> dict[tuple[bytes, int, int], chunk_pb2.Replica]:
        return {parse_replica_key(key): row for page in iterate_replicas(self.records) for key, row in page}

    def holders_of(self, session_id: bytes, index: int) -> list[bytes]:
        """Devices whose replica of a chunk counts."""
        now_s = self.clock.wall_ns() / 1e9
        return [
            row.holder
            for (session, place, _), row in self.rows().items()
            if (session, place) == (session_id, index) and is_counting(row, now_s)
        ]

    def peer(self, device: bytes) -> MemoryPeer:
        return next(peer for peer in self.peers.peers if peer.identity.device == device)

    def holder(self, device: bytes) -> Holder:
        return next(holder for holder in self.holders if holder.identity.device == device)


async def make_holders(count: int) -> list[Holder]:
    return [await Holder(f"holder {number}", seed=number).boot() for number in range(count)]
