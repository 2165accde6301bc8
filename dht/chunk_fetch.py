"""One chunk on its way from several peers, every byte checked. Rules: `dht.fetching`."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from dht.bandwidth import Pace
from dht.ports import Peer
from dht.preset import SpreadPreset
from dht.shares import Share, Shares
from dht.transfer import ChunkReceiver, blaming, check_leaves
from kernel.chunk_id import LEAF_BYTES
from kernel.errors import InvalidRecord, LucidError, NotFound, PeerFault, Reason, StoreDamaged
from kernel.ports import Clock
from kernel.waiting import wait_for_event
from lucid.v1 import chunk_pb2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FetchedChunk:
    """A blob from peers, every leaf of which was checked.

    Attributes:
        blob: its bytes.
        sources: devices that brought some of it, the greatest part first.
    """

    blob: bytes
    sources: tuple[bytes, ...]


class ChunkFetch:
    """One blob on its way.

    Attributes:
        asked: devices that were asked for anything.
        liars: devices that broke the protocol.
        broken: devices that do not have the blob, or not as it was, and why.
        broke_off: devices that may have it, and did not give all that they were to.
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
        self.broke_off: dict[bytes, None] = {}
        self.useful: dict[bytes, int] = {}

    @property
    def missing(self) -> int:
        """Leaves that have not come yet."""
        return self._shares.missing

    async def run(self, sources: Sequence[Peer]) -> FetchedChunk | None:
        """Fetches what is missing of the blob; None if the sources do not give all of it."""
        best_first = list(sources)
        if not self._leaves:
            await self._open(sources)
            if not self._leaves:
                return None
            self._blob = bytearray(self._size_bytes)
            fresh = [peer for peer in sources if peer.identity.device not in self.asked]
            best_first = list(dict.fromkeys((*self._opener, *fresh, *self._asking.values())))
        waiting, self._working = deque(best_first), []
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
        self.broke_off.pop(peer.identity.device, None)
        try:
            yield
        except PeerFault as error:
            self.liars[peer.identity.device] = None
            self.broken[peer.identity.device] = str(error)
        except (NotFound, StoreDamaged) as error:
            self.broken[peer.identity.device] = str(error)
        except LucidError:  # silent, or busy: nothing is known of the blob
            self.broke_off[peer.identity.device] = None


@asynccontextmanager
async def _closing(responses: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Ends a call that is not read to its end."""
    try:
        yield responses
    finally:
        if isinstance(responses, AsyncGenerator):
            await responses.aclose()
