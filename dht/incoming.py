"""Chunks that are on their way to this node.

What has come is kept in memory, so that a broken transfer goes on behind it; a restart of the node begins
anew. All transfers, running and broken, share one budget of bytes, of which one owner gets a part. Room for
the whole chunk is taken when a transfer begins; broken ones give way to new ones, oldest first.

Memory and not an unfinished file, because a chunk is at most 17 MB: what a file would save is one such
transfer after a restart, what it would cost is a second kind of blob to count, sweep and recover.
"""

import asyncio
from dataclasses import dataclass

from dht.bandwidth import Patience
from dht.transfer import ChunkReceiver
from kernel.errors import Conflict, Unavailable
from kernel.ports import Clock

Key = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class IncomingLimits:
    """Bounds of what is on its way.

    Attributes:
        total_bytes: for all transfers together.
        owner_bytes: for those of one owner.
        transfers: how many, running and broken.
        keep_s: a broken one is forgotten after so long.
        wait_s: a new one waits so long for room.
        waiting: how many may wait.
    """

    total_bytes: int = 96 << 20
    owner_bytes: int = 48 << 20
    transfers: int = 256
    keep_s: float = 600.0
    wait_s: float = 30.0
    waiting: int = 256


@dataclass(eq=False, slots=True)
class Incoming:
    """One transfer. Of several calls about it the latest goes on, the others end.

    Attributes:
        key: owner and chunk ID.
        receiver: what has come.
        calls: how many calls there were.
        idle_since_ns: monotonic time at which the last call broke; None while one is running.
    """

    key: Key
    receiver: ChunkReceiver
    calls: int = 0
    idle_since_ns: int | None = None


class Turn:
    """One call's part in a transfer."""

    def __init__(self, transfer: Incoming) -> None:
        transfer.calls += 1
        transfer.idle_since_ns = None
        self.transfer = transfer
        self._number = transfer.calls

    @property
    def is_latest(self) -> bool:
        """True until another call takes the transfer over."""
        return self.transfer.calls == self._number

    def take(self, frame: bytes) -> None:
        """Adds the next frame.

        Raises:
            Conflict: another call goes on with this transfer.
            InvalidRecord: see `ChunkReceiver.take`.
        """
        if not self.is_latest:
            raise Conflict("another call has taken this transfer over")
        self.transfer.receiver.take(frame)


class IncomingChunks:
    """All transfers to this node."""

    def __init__(self, clock: Clock, limits: IncomingLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._transfers: dict[Key, Incoming] = {}
        self._room = asyncio.Condition()
        self._waiting = 0

    def used_bytes(self, owner: bytes | None = None) -> int:
        """Memory that is taken, by all or by one owner."""
        return sum(
            each.receiver.size_bytes
            for each in self._transfers.values()
            if owner is None or each.key[0] == owner
        )

    def is_running(self, chunk_id: bytes) -> bool:
        """True if the chunk is being received."""
        return any(
            each.key[1] == chunk_id and each.idle_since_ns is None for each in self._transfers.values()
        )

    async def begin(self, owner: bytes, chunk_id: bytes, size_bytes: int, leaves: bytes) -> Turn:
        """Begins a transfer, or goes on with it.

        Raises:
            InvalidRecord: the leaf hashes are not those of the chunk.
            Unavailable: there is no room, and was none for a while.
        """
        receiver = ChunkReceiver(chunk_id, size_bytes, leaves)
        key = (owner, chunk_id)
        if key not in self._transfers:
            await self._wait_for_room(key, size_bytes)
        transfer = self._transfers.setdefault(key, Incoming(key, receiver))
        return Turn(transfer)

    async def end(self, turn: Turn, *, keep: bool) -> None:
        """Ends a call; with `keep`, what has come waits for the next one."""
        transfer = turn.transfer
        if not turn.is_latest or self._transfers.get(transfer.key) is not transfer:
            return
        if keep and transfer.receiver.position:
            transfer.idle_since_ns = self._clock.monotonic_ns()
        else:
            del self._transfers[transfer.key]
        await self._tell()

    async def expire(self) -> None:
        """Forgets broken transfers that nobody came back for."""
        oldest_ns = self._clock.monotonic_ns() - round(self._limits.keep_s * 1e9)
        for each in self._idle():
            if each.idle_since_ns is not None and each.idle_since_ns <= oldest_ns:
                del self._transfers[each.key]
        await self._tell()

    async def _tell(self) -> None:
        async with self._room:
            self._room.notify_all()

    async def _wait_for_room(self, key: Key, size_bytes: int) -> None:
        if self._make_room(key, size_bytes):
            return
        if self._waiting >= self._limits.waiting:
            raise _busy()
        self._waiting += 1
        try:
            async with Patience(self._clock, self._limits.wait_s), self._room:
                await self._room.wait_for(lambda: self._make_room(key, size_bytes))
        except Unavailable as error:
            raise _busy() from error
        finally:
            self._waiting -= 1

    def _make_room(self, key: Key, size_bytes: int) -> bool:
        """True if the transfer may begin; broken ones are forgotten for it."""
        owner, limits = key[0], self._limits
        while key not in self._transfers:
            owner_fits = self.used_bytes(owner) + size_bytes <= limits.owner_bytes
            fits = self.used_bytes() + size_bytes <= limits.total_bytes
            if owner_fits and fits and len(self._transfers) < limits.transfers:
                break
            idle = next((each for each in self._idle() if owner_fits or each.key[0] == owner), None)
            if idle is None:
                return False
            del self._transfers[idle.key]
        return True

    def _idle(self) -> list[Incoming]:
        """Broken transfers, the oldest first."""
        idle = [each for each in self._transfers.values() if each.idle_since_ns is not None]
        return sorted(idle, key=lambda each: each.idle_since_ns or 0)


def _busy() -> Unavailable:
    return Unavailable("this node is receiving as much as it can", hint="try again in a minute")
