"""Gives every chunk of this node's recordings its replicas, while they are recorded and ever after.

Rules:
- Truth is in the index: chunk rows say what there is, replica rows who holds it. A replica row is committed
  when the holder's receipt is verified; a start looks through both and goes on. Nothing else is remembered.
- In memory are at most `chunks_in_flight` blobs. A blob is read when its place is free. No recording waits.
- A peer that is away, busy, full, slow or false is passed over (`dht.plan`), and left alone for a while.
- A chunk that is not here (its session was restored) is left where it is: its holders are looked for, and get
  leases without the bytes. What they do not hold is fetched to be given to others. What cannot be read is
  tried again later, twice as long each time.
- Leases are renewed when half of them is over. Replicas of a peer that is not seen for `grace_s` are made
  again elsewhere.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from dht import tables
from dht.backoff import Backoffs
from dht.bandwidth import UNPACED, Pace
from dht.holder_search import Group, HolderSearch
from dht.placement import rank_peers
from dht.placing import FetchOwn, LoadedChunk, Placer
from dht.plan import ChunkPlan, Situation, Target, Use, plan_chunk
from dht.ports import OwnChunk, PeerIdentity, SpreadPorts, list_connected
from dht.preset import SpreadPreset
from dht.releasing import Releaser
from dht.replica_count import ReplicaCount, count_replicas
from dht.replicas import get_due_s, is_counting, iterate_replicas, parse_replica_key, scan_replicas
from kernel.domains import Network
from kernel.errors import LucidError, StoreError
from kernel.ports import Put
from kernel.waiting import wait_for_event
from lucid.v1 import chunk_pb2


@dataclass(slots=True)
class _Progress:
    """How far the replicator has come with a session.

    Attributes:
        start: all chunks before it are complete, as far as is known.
        next: the chunk to be looked at next.
        gapless: all chunks from `start` to `next` were complete when they were looked at.
        complete: all chunks that there were when it was last looked at are complete.
    """

    start: int = 0
    next: int = 0
    gapless: bool = True
    complete: bool = False

    def look_again(self, index: int) -> None:
        """The chunk `index` may need something."""
        if index < self.next:
            self.next = index
            self.start = min(self.start, index)
            self.gapless = self.next == self.start
            self.complete = False


class Replicator:
    """Spreads the chunks of one node.

    Attributes:
        backoffs: which peers are left alone.
        advanced: is set when replicas or chunks come or go the next time; then there is another event.
    """

    def __init__(
        self,
        ports: SpreadPorts,
        own: PeerIdentity,
        network: Network,
        preset: SpreadPreset,
        backoffs: Backoffs,
        releaser: Releaser,
        fetch: FetchOwn,
        pace: Pace = UNPACED,
    ) -> None:
        """`fetch` brings chunks that are not here."""
        self._ports = ports
        self._own = own
        self._preset = preset
        self._releaser = releaser
        self._placer = Placer(ports, network, preset, backoffs, pace, fetch)
        self._search = HolderSearch(ports.peers)
        self._searching: dict[Group, None] = {}
        self._changed: dict[bytes, None] = {}
        self._slots = asyncio.Semaphore(preset.chunks_in_flight)
        self._wake = asyncio.Event()
        self._progress: dict[bytes, _Progress] = {}
        self._due: dict[bytes, None] = {}
        self._in_flight: dict[tuple[bytes, int], None] = {}
        self._unreadable: dict[tuple[bytes, int], None] = {}
        self._unreadable_until = Backoffs(preset.first_backoff_s, preset.longest_backoff_s)
        self._busy: dict[bytes, int] = {}
        self._awaited: dict[bytes, None] = {}
        self._seen_ns: dict[bytes, int] = {}
        self._started_ns = 0
        self.backoffs = backoffs
        self.advanced = asyncio.Event()

    async def run(self) -> None:
        """Spreads until it is cancelled."""
        self._started_ns = self._ports.clock.monotonic_ns()
        for session_id in self._ports.recordings.session_ids():
            self._progress[session_id] = _Progress()
            self._due[session_id] = None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._releaser.run())
            group.create_task(self._watch_peers())
            group.create_task(self._watch_leases())
            while True:
                self._wake.clear()
                await self._pass(group)
                await self._rest()

    def on_changed(self, session_id: bytes) -> None:
        """A session grew, was mended or deleted. Returns at once."""
        self._changed[session_id] = None
        self._wake.set()
        self._tell()

    def on_trouble(self, session_id: bytes, index: int) -> None:
        """Something is wrong with a replica of a chunk."""
        self._look_again(session_id, index)
        self._wake.set()
        self._tell()

    def on_heads(self) -> None:
        """Other nodes keep another head of this node."""
        self._tell()

    def count(self, session_id: bytes) -> ReplicaCount:
        """How far the spreading of a session has come."""
        progress = self._progress.get(session_id)
        return count_replicas(
            self._ports, session_id, self._preset.replicas, complete=progress.start if progress else 0
        )

    def _take_changes(self) -> None:
        changed, self._changed = self._changed, {}
        for session_id in changed:
            for key in [key for key in self._unreadable if key[0] == session_id]:
                self._try_again(key)
            if self._ports.recordings.is_deleted(session_id):
                self._progress.pop(session_id, None)
                self._releaser.add(session_id)
            elif self._ports.recordings.is_own(session_id):
                self._progress.setdefault(session_id, _Progress())
                self._due[session_id] = None

    def _try_again(self, key: tuple[bytes, int]) -> None:
        """What could not be read may be here, or with a peer, by now."""
        del self._unreadable[key]
        self._unreadable_until.on_success(_name(key))
        self._look_again(*key)

    def _tell(self) -> None:
        self.advanced.set()
        self.advanced = asyncio.Event()

    def _look_again(self, session_id: bytes, index: int) -> None:
        if session_id in self._progress:
            self._progress[session_id].look_again(index)
            self._due[session_id] = None

    def _look_at_all(self) -> None:
        """Peers have time that had none: what was passed over gets another chance."""
        for session_id, progress in self._progress.items():
            if not progress.complete:
                progress.look_again(progress.start)
                self._due[session_id] = None
        self._wake.set()

    # What goes by events and time.

    async def _rest(self) -> None:
        """Waits until there may be something to do."""
        now_ns = self._ports.clock.monotonic_ns()
        ends_s = [pauses.next_end_s(now_ns) for pauses in (self.backoffs, self._unreadable_until)]
        pause_s = min((end_s for end_s in ends_s if end_s is not None), default=None)
        if not await wait_for_event(self._wake, self._ports.clock, pause_s):
            self._look_at_all()  # somebody is no longer left alone

    async def _watch_peers(self) -> None:
        connected: list[bytes] = []
        while True:
            before, connected = connected, self._note_seen()
            for device in connected:
                if device not in before:
                    self.backoffs.on_return(device)
            self._search.forget_all()
            for key in list(self._unreadable):
                self._try_again(key)
            self._look_at_all()
            self._releaser.on_peers_changed()
            await self._ports.peers.wait_changed()

    def _note_seen(self) -> list[bytes]:
        """Notes, and returns, who is connected."""
        connected = [peer.identity.device for peer in list_connected(self._ports.peers)]
        self._seen_ns |= dict.fromkeys(connected, self._ports.clock.monotonic_ns())
        return connected

    async def _watch_leases(self) -> None:
        """Finds leases that are due, and holders that have disappeared."""
        preset = self._preset
        while True:
            self._note_seen()  # whoever stays connected changes nothing that would wake `_watch_peers`
            next_s = min(preset.lease_s, preset.grace_s) / 4
            now_s = self._ports.clock.wall_ns() / 1e9
            for page in iterate_replicas(self._ports.records):
                for key, row in page:
                    session_id, index, _ = parse_replica_key(key)
                    due_s = get_due_s(row, preset.lease_s) - now_s
                    if row.trouble or due_s <= 0:
                        self._look_again(session_id, index)
                    elif self._has_disappeared(row.holder):
                        await self._give_up(key, row)
                    else:
                        next_s = min(next_s, due_s)
                await self._ports.clock.sleep(0)
            self._wake.set()
            await self._ports.clock.sleep(max(next_s, 1.0))

    def _has_disappeared(self, device: bytes) -> bool:
        if self._ports.peers.find(device) is not None:
            return False
        silent_ns = self._ports.clock.monotonic_ns() - self._seen_ns.get(device, self._started_ns)
        return silent_ns > self._preset.grace_s * 1e9

    async def _give_up(self, key: bytes, row: chunk_pb2.Replica) -> None:
        row.trouble = f"its holder was not seen for {self._preset.grace_s / 3600:g} hours"
        with suppress(StoreError):  # the next look finds it again
            await self._ports.records.commit([Put(tables.REPLICAS, key, row.SerializeToString())])
        self._look_again(*parse_replica_key(key)[:2])

    # What is done with each chunk.

    async def _pass(self, group: asyncio.TaskGroup) -> None:
        """Looks at all chunks that were not looked at since something changed, sessions in turns."""
        while True:
            self._take_changes()
            if not self._due or not self._has_ready():
                return
            for session_id in sorted(self._due):
                progress = self._progress.get(session_id)
                if progress is None or self._is_through(session_id, progress):
                    del self._due[session_id]
                elif not await self._pass_group(group, session_id, progress):
                    return
                await self._ports.clock.sleep(0)

    def _is_through(self, session_id: bytes, progress: _Progress) -> bool:
        """True if all chunks of a session were looked at."""
        count = self._ports.recordings.chunk_count(session_id)
        progress.complete = progress.start >= count
        return progress.next >= count

    async def _pass_group(self, group: asyncio.TaskGroup, session_id: bytes, progress: _Progress) -> bool:
        """Looks at the next chunks of a session, up to the end of a group; False if no peer is ready."""
        size, begin = self._preset.group_chunks, progress.next
        group_end = (begin // size + 1) * size
        situation = self._describe_situation(session_id, begin // size)
        expected, place = begin, (session_id, begin // size)
        chunks = self._ports.recordings.chunks(session_id, begin, group_end - begin)
        for chunk in chunks:
            await self._slots.acquire()
            plan = self._plan(chunk, situation)
            if plan.targets and not self._is_here(chunk) and self._search.get(place) is None:
                self._slots.release()
                self._start_search(group, place, chunks)
                progress.next, progress.gapless = group_end, False
                return True
            if progress.next != expected or not plan.targets:
                self._slots.release()
            if progress.next != expected:  # it was told to look again meanwhile
                return True
            if plan.targets:
                self._start(group, chunk, plan.targets)
            self._awaited |= dict.fromkeys(plan.busy)
            if plan.busy and not plan.targets and not self._has_ready():
                return False
            progress.gapless &= plan.complete
            progress.next = expected = chunk.index + 1
            if progress.gapless:
                progress.start = progress.next
        if progress.next == begin:  # the rows of this group are damaged
            progress.next, progress.gapless = group_end, False
        return True

    def _describe_situation(self, session_id: bytes, group: int) -> Situation:
        known = self._ports.peers.known()
        return Situation(
            self._own,
            [rank_peers(known, session_id, group, replica) for replica in range(self._preset.replicas)],
            {peer.device: peer for peer in known},
            self._get_use,
            self._ports.clock.wall_ns() / 1e9,
            self._preset.lease_s,
        )

    def _plan(self, chunk: OwnChunk, situation: Situation) -> ChunkPlan:
        key = (chunk.session_id, chunk.index)
        now_ns = self._ports.clock.monotonic_ns()
        if key in self._in_flight or not self._unreadable_until.is_over(_name(key), now_ns):
            return ChunkPlan(complete=False)
        return plan_chunk(scan_replicas(self._ports.records, *key), situation, self._list_keepers(chunk))

    def _is_here(self, chunk: OwnChunk) -> bool:
        return self._ports.blobs.size(chunk.chunk_id) == chunk.size_bytes

    def _get_group(self, chunk: OwnChunk) -> Group:
        return chunk.session_id, chunk.index // self._preset.group_chunks

    def _list_keepers(self, chunk: OwnChunk) -> set[bytes]:
        """Who said that it holds a chunk which is not here."""
        return (self._search.get(self._get_group(chunk)) or {}).get(chunk.chunk_id, set())

    def _start_search(self, tasks: asyncio.TaskGroup, group: Group, chunks: Sequence[OwnChunk]) -> None:
        async def search() -> None:
            try:
                await self._search.ask(group, chunks)
            finally:
                del self._searching[group]
            self._look_again(group[0], chunks[0].index)
            self._wake.set()

        if group not in self._searching:
            self._searching[group] = None
            tasks.create_task(search())

    def _get_use(self, device: bytes) -> Use:
        now_ns = self._ports.clock.monotonic_ns()
        if not self.backoffs.is_over(device, now_ns) or self._ports.peers.find(device) is None:
            return Use.AWAY
        return Use.BUSY if self._busy.get(device, 0) >= self._preset.chunks_per_peer else Use.READY

    def _has_ready(self) -> bool:
        return any(self._get_use(peer.device) is Use.READY for peer in self._ports.peers.known())

    def _start(self, group: asyncio.TaskGroup, chunk: OwnChunk, targets: Sequence[Target]) -> None:
        self._in_flight[chunk.session_id, chunk.index] = None
        for target in targets:
            self._busy[target.holder.device] = self._busy.get(target.holder.device, 0) + 1
        group.create_task(self._spread(chunk, targets))

    async def _spread(self, chunk: OwnChunk, targets: Sequence[Target]) -> None:
        """Brings one chunk to all its targets. Ends the flight of the chunk, whatever happens."""
        key = (chunk.session_id, chunk.index)
        try:
            rows, now_s = scan_replicas(self._ports.records, *key), self._ports.clock.wall_ns() / 1e9
            sure = {row.holder for row in rows.values() if is_counting(row, now_s)}
            loaded = await self._placer.load(chunk, sure | self._list_keepers(chunk), targets)
            async with asyncio.TaskGroup() as group:
                for target in targets:
                    group.create_task(self._place(loaded, target))
        except LucidError:  # of this node: the chunk has to wait until it is mended, or somebody has it
            self._unreadable[key] = None
            self._unreadable_until.on_failure(_name(key), self._ports.clock.monotonic_ns())
            for target in targets:
                self._set_free(target.holder.device)
        finally:
            self._slots.release()
            del self._in_flight[key]
            self._look_again(*key)
            self._wake.set()

    async def _place(self, loaded: LoadedChunk, target: Target) -> None:
        try:
            if not await self._placer.place(loaded, target):
                device, chunk_id = target.holder.device, loaded.chunk.chunk_id
                self._search.disbelieve(self._get_group(loaded.chunk), chunk_id, [device])
        finally:
            self._set_free(target.holder.device)
        if self._ports.recordings.is_deleted(loaded.chunk.session_id):
            self._releaser.add(loaded.chunk.session_id)
        self._tell()

    def _set_free(self, device: bytes) -> None:
        """A peer has time for another chunk."""
        self._busy[device] -= 1
        if not self._busy[device]:
            del self._busy[device]
        if device in self._awaited:
            del self._awaited[device]
            self._look_at_all()


def _name(key: tuple[bytes, int]) -> bytes:
    """A chunk, by session and index, as one name."""
    return key[0] + key[1].to_bytes(4, "big")
