"""Brings a chunk back from those who hold it, several at a time.

Rules:
- Asked are, in this order: the holders of its replicas, the nodes where placement would have put it,
  everybody who is connected. Who served badly comes last; who lied is not asked for a while.
- While no peer at all is connected, the first fetch waits for one for `meet_s`. For so long after a start,
  what nobody gives is asked of those who come.
- The first who answers gives the leaf hashes, which must give the chunk ID; who is silent is overtaken by the
  next. From then on several bring ranges at once (`dht.shares`), every frame checked by itself.
- A source that lies, fails or falls silent is dropped, and its range taken over. A holder whose copy is gone
  or wrong is marked in its replica row, so that another copy is made elsewhere. In memory are as many blobs
  as `fetches_in_flight`, and a frame per source.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from dht.bandwidth import UNPACED, Pace
from dht.placement import rank_peers
from dht.ports import Peer, Peers
from dht.preset import SpreadPreset
from dht.replicas import OnTrouble, mark_broken, scan_replicas
from dht.shares import Share, Shares
from dht.transfer import ChunkReceiver, blaming, check_leaves
from kernel.chunk_id import LEAF_BYTES
from kernel.errors import InvalidRecord, LucidError, NotFound, PeerFault, Reason, StoreDamaged, StoreError
from kernel.ports import Clock, Records
from kernel.waiting import wait_for_event
from lucid.v1 import chunk_pb2

T = TypeVar("T")

MEET_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class FetchedChunk:
    """A blob from peers, every leaf of which was checked.

    Attributes:
        blob: its bytes.
        sources: devices that brought some of it, the greatest part first.
    """

    blob: bytes
    sources: tuple[bytes, ...]


class Fetcher:
    """Fetches chunks."""

    def __init__(
        self,
        records: Records,
        clock: Clock,
        peers: Peers,
        preset: SpreadPreset,
        on_trouble: OnTrouble,
        pace: Pace = UNPACED,
        *,
        expects_peers: bool = False,
    ) -> None:
        """`expects_peers`: some are configured; they may not have been met yet."""
        self._expects_peers = expects_peers
        self._is_alone = False
        self._first_ns: int | None = None
        self._records = records
        self._clock = clock
        self._peers = peers
        self._preset = preset
        self._on_trouble = on_trouble
        self._pace = pace
        self._slots = asyncio.Semaphore(preset.fetches_in_flight)
        self._merits: dict[bytes, float] = {}
        self._avoided_until_ns: dict[bytes, int] = {}

    async def fetch(
        self, session_id: bytes, index: int, chunk_id: bytes, size_bytes: int
    ) -> FetchedChunk | None:
        """A chunk of a session; None if nobody gives it."""
        group = index // self._preset.group_chunks
        known = self._peers.known()
        wanted = [row.holder for row in scan_replicas(self._records, session_id, index).values()]
        for replica in range(self._preset.replicas):
            wanted += [peer.device for peer in rank_peers(known, session_id, group, replica)]
        broken: dict[bytes, str] = {}
        try:
            return await self.fetch_from(wanted, chunk_id, size_bytes, broken)
        finally:
            for device, what in broken.items():
                with suppress(StoreError):  # an audit finds it, too
                    if await mark_broken(self._records, session_id, index, device, f"fetch: {what}"):
                        self._on_trouble(session_id, index)

    async def fetch_from(
        self,
        devices: Sequence[bytes],
        chunk_id: bytes,
        size_bytes: int,
        broken: dict[bytes, str] | None = None,
    ) -> FetchedChunk | None:
        """A blob from the connected ones among `devices`, and then from everybody else who is connected.

        Args:
            devices: who is asked first, in this order.
            chunk_id: what.
            size_bytes: its length.
            broken: gets who does not have it, or not as it was, and why.
        """
        async with self._slots:
            await self._meet()
            asked: set[bytes] = set()
            while sources := [one for one in self._find_sources(devices) if one.identity.device not in asked]:
                asked |= {peer.identity.device for peer in sources}
                fetch = _Fetch(chunk_id, size_bytes, self._clock, self._preset, self._pace, self._merits)
                try:
                    found = await fetch.run(sources)
                finally:
                    self._learn(fetch)
                    if broken is not None:
                        broken.update(fetch.broken)
                if found is not None or not await self._meet_more(asked):
                    return found
            return None

    async def _meet(self) -> None:
        """Waits for the first peer for a while, as after a start; in vain, the next one does not wait."""
        end_ns = self._clock.monotonic_ns() + round(self._preset.meet_s * 1e9)
        while not any(self._peers.find(peer.device) for peer in self._peers.known()):
            expects = self._expects_peers or self._peers.known()
            if self._is_alone or not expects or self._clock.monotonic_ns() >= end_ns:
                self._is_alone = True
                return
            await self._clock.sleep(MEET_POLL_S)
        self._is_alone = False

    def _is_young(self) -> bool:
        """True for as long after the first fetch of this process as peers may take to be met."""
        now_ns = self._clock.monotonic_ns()
        self._first_ns = now_ns if self._first_ns is None else self._first_ns
        return now_ns - self._first_ns < self._preset.meet_s * 1e9

    async def _meet_more(self, asked: Collection[bytes]) -> bool:
        """Soon after the first fetch, waits for peers that were not asked; False if there are none."""
        while self._is_young():
            others = [peer.device for peer in self._peers.known() if peer.device not in asked]
            if any(map(self._peers.find, others)):
                return True
            if not others and not self._expects_peers:
                return False
            await self._clock.sleep(MEET_POLL_S)
        return False

    def _find_sources(self, devices: Sequence[bytes]) -> list[Peer]:
        order = dict.fromkeys([*devices, *(peer.device for peer in self._peers.known())])
        now_ns = self._clock.monotonic_ns()
        found = [
            (rank, device, peer)
            for rank, device in enumerate(order)
            if self._avoided_until_ns.get(device, 0) <= now_ns
            and (peer := self._peers.find(device)) is not None
        ]
        # Whoever was never asked counts as good: only experience moves a source back.
        found.sort(key=lambda entry: (self._merits.get(entry[1], 1.0) < _POOR, entry[0]))
        return [peer for _, _, peer in found]

    def _learn(self, fetch: "_Fetch") -> None:
        until_ns = self._clock.monotonic_ns() + round(self._preset.longest_backoff_s * 1e9)
        for device in fetch.liars:
            self._avoided_until_ns[device] = until_ns
        most = max(fetch.useful.values(), default=0)
        for device in fetch.asked:
            merit = fetch.useful.get(device, 0) / most if most else 0.0
            self._merits[device] = (self._merits.get(device, merit) + merit) / 2


_POOR = 0.25
"""A source that brings less than this part of what the best one brings is asked after the others."""


class _Fetch:
    """One blob on its way.

    Attributes:
        asked: devices that were asked for anything.
        liars: devices that broke the protocol.
        broken: devices that do not have the blob, or not as it was, and why.
        useful: bytes by device.
    """

    def __init__(
        self,
        chunk_id: bytes,
        size_bytes: int,
        clock: Clock,
        preset: SpreadPreset,
        pace: Pace,
        merits: dict[bytes, float],
    ) -> None:
        self._chunk_id = chunk_id
        self._size_bytes = size_bytes
        self._clock = clock
        self._preset = preset
        self._pace = pace
        self._merits = merits
        self._leaves = b""
        self._shares = Shares(size_bytes)
        self._blob = bytearray()
        self._changed = asyncio.Event()
        self._opener: list[Peer] = []
        self._asking: dict[asyncio.Task[None], Peer] = {}
        self._working: list[asyncio.Task[None]] = []
        self.asked: dict[bytes, None] = {}
        self.liars: dict[bytes, None] = {}
        self.broken: dict[bytes, str] = {}
        self.useful: dict[bytes, int] = {}

    async def run(self, sources: Sequence[Peer]) -> FetchedChunk | None:
        """Fetches the blob; None if the sources do not give all of it."""
        await self._open(sources)
        if not self._leaves:
            return None
        self._blob = bytearray(self._size_bytes)
        fresh = [peer for peer in sources if peer.identity.device not in self.asked]
        best_first = {peer.identity.device: peer for peer in (*self._opener, *fresh, *self._asking.values())}
        waiting = deque(best_first.values())
        async with asyncio.TaskGroup() as group:
            for _ in range(self._preset.sources):
                self._working.append(group.create_task(self._work_through(waiting)))
        if self._shares.missing:
            return None
        best = sorted(self.useful, key=lambda device: (-self.useful[device], device))
        return FetchedChunk(bytes(self._blob), tuple(best))

    async def _open(self, sources: Sequence[Peer]) -> None:
        """Gets the leaf hashes from the first who gives them; whoever is silent is overtaken by the next."""
        turn = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for peer in sources:
                asked = group.create_task(self._ask_leaves(peer, turn))
                self._asking[asked] = peer
                await wait_for_event(turn, self._clock, self._preset.hedge_s)
                turn.clear()
                if self._leaves:
                    break

    async def _ask_leaves(self, peer: Peer, turn: asyncio.Event) -> None:
        """Asks for the leaf hashes; if they are right, nobody else needs to answer."""
        self.asked[peer.identity.device] = None
        length = LEAF_BYTES if self._size_bytes > LEAF_BYTES else 0
        request = chunk_pb2.GetChunkRequest(chunk_id=self._chunk_id, length=length)
        own = asyncio.current_task()
        try:
            with self._dropping(peer):
                async with _closing(peer.get_chunk(request)) as responses, self._pace.patience():
                    first = await anext(responses, None)
                with blaming(peer):
                    leaves = self._check_size(first)
                    check_leaves(self._chunk_id, self._size_bytes, leaves)
                self._leaves, self._opener = leaves, [peer]
                for task in self._asking:
                    if task is not own:
                        task.cancel()
                return
            # It failed: of no use for this chunk.
            self._asking = {task: other for task, other in self._asking.items() if other is not peer}
        finally:
            turn.set()

    async def _work_through(self, waiting: deque[Peer]) -> None:
        """Lets one source after the other work; when all is there, nobody needs to go on."""
        while waiting and self._shares.missing:
            await self._work(waiting.popleft())
        if not self._shares.missing:
            for task in self._working:
                task.cancel()

    def _check_size(self, response: chunk_pb2.GetChunkResponse | None) -> bytes:
        """Judges the first message; returns the leaf hashes in it, unchecked."""
        if response is None or response.WhichOneof("kind") != "open":
            raise InvalidRecord(Reason.MALFORMED, "the transfer does not begin with the size")
        if response.open.size_bytes != self._size_bytes:
            raise InvalidRecord(Reason.WRONG_HASH, f"{response.open.size_bytes} bytes are announced")
        return response.open.leaves

    async def _work(self, peer: Peer) -> None:
        """Lets one source bring share after share, until all is there or it fails."""
        device = peer.identity.device
        self._shares.expect(device, self._merits.get(device, 1.0) * self._size_bytes)
        with self._dropping(peer):
            while self._shares.missing:
                share = self._shares.assign(device)
                if share is None:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                try:
                    await self._stream(peer, share)
                finally:
                    self._shares.give_back(device)
                    self._changed.set()

    async def _stream(self, peer: Peer, share: Share) -> None:
        """Takes frames of a share, until it ends: which another source may bring nearer meanwhile."""
        self.asked[peer.identity.device] = None
        receiver = ChunkReceiver(
            self._chunk_id, self._size_bytes, self._leaves, start=share.position, end=share.end
        )
        request = chunk_pb2.GetChunkRequest(
            chunk_id=self._chunk_id,
            offset=share.position,
            length=0 if share.end == self._size_bytes else share.end - share.position,
            without_leaves=True,
        )
        async with (
            _closing(peer.get_chunk(request)) as responses,
            self._pace.patience() as patience,
        ):
            first = await anext(responses, None)
            with blaming(peer):
                self._check_size(first)
            while share.position < share.end and self._shares.missing:
                response = await anext(responses, None)
                with blaming(peer):
                    size_bytes = self._take(peer, share, receiver, response)
                await self._pace.receive(size_bytes, patience)

    def _take(
        self, peer: Peer, share: Share, receiver: ChunkReceiver, response: chunk_pb2.GetChunkResponse | None
    ) -> int:
        """Judges the next message; returns the length of the frame in it."""
        if response is None or response.WhichOneof("kind") != "frame":
            raise InvalidRecord(Reason.MALFORMED, "the transfer ends, or goes on without a frame")
        frame = response.frame  # each look at it makes a copy
        receiver.take(frame)
        receiver.parts.clear()
        start, device = share.position, peer.identity.device
        self._blob[start : start + len(frame)] = frame
        self.useful[device] = self.useful.get(device, 0) + self._shares.bring(device, len(frame))
        return len(frame)

    @contextmanager
    def _dropping(self, peer: Peer) -> Iterator[None]:
        """Ends what is done with a peer when it fails; remembers one that lied."""
        try:
            yield
        except PeerFault as error:
            self.liars[peer.identity.device] = None
            self.broken[peer.identity.device] = str(error)
        except (NotFound, StoreDamaged) as error:
            self.broken[peer.identity.device] = str(error)
        except LucidError:  # silent, or busy: nothing is known of the blob
            pass


@asynccontextmanager
async def _closing(responses: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Ends a call that is not read to its end."""
    try:
        yield responses
    finally:
        if isinstance(responses, AsyncGenerator):
            await responses.aclose()
