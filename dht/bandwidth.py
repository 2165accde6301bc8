"""Limits on speed: how fast this node sends and receives, how long it waits for a peer that says nothing.

A token bucket fills with `rate` bytes a second, up to one second's worth. Whoever takes more than there is
goes into debt and waits until that is paid: nobody is refused, those who come later wait longer.
"""

import asyncio
from dataclasses import dataclass, field
from types import TracebackType

from kernel.errors import Unavailable
from kernel.ports import Clock

_NS = 1_000_000_000


class TokenBucket:
    """The pure bucket.

    Args:
        rate_bytes_s: bytes a second, more than 0.
        now_ns: monotonic time.
    """

    def __init__(self, rate_bytes_s: int, now_ns: int) -> None:
        self._rate = rate_bytes_s
        self._level = float(rate_bytes_s)
        self._at_ns = now_ns

    def take(self, size_bytes: int, now_ns: int) -> float:
        """Takes `size_bytes` at monotonic time `now_ns`; returns the seconds to wait before using them."""
        filled = (now_ns - self._at_ns) * self._rate / _NS
        self._level = min(self._level + filled, float(self._rate)) - size_bytes
        self._at_ns = now_ns
        return max(0.0, -self._level / self._rate)


class Throttle:
    """A bucket over a clock. All transfers of one direction share one.

    Args:
        clock: what time it is.
        rate_bytes_s: bytes a second; 0 means no limit.
    """

    def __init__(self, clock: Clock, rate_bytes_s: int = 0) -> None:
        self._clock = clock
        # It begins full, whenever that is: composing a node asks no clock.
        self._bucket = TokenBucket(rate_bytes_s, 0) if rate_bytes_s else None

    @property
    def is_limited(self) -> bool:
        """True if there is a limit."""
        return self._bucket is not None

    async def wait(self, size_bytes: int) -> None:
        """Returns when `size_bytes` may pass."""
        if self._bucket is not None:
            delay_s = self._bucket.take(size_bytes, self._clock.monotonic_ns())
            if delay_s > 0:
                await self._clock.sleep(delay_s)


class Patience:
    """Ends what it encloses with `Unavailable` when nothing has gone forward for too long.

    Drops do not count: only every `STEP_BYTES` of progress start the wait anew, so that a transfer has an end
    however slowly a peer feeds it. Without a clock it waits forever.
    """

    STEP_BYTES = 256 << 10

    def __init__(self, clock: Clock | None, seconds: float) -> None:
        self._clock = clock
        self._limit_ns = round(seconds * _NS)
        self._deadline_ns: int | None = None
        self._bytes = 0
        self._expired = False
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Patience":
        self._task = asyncio.current_task()
        if self._clock is not None:
            self.restart()
            self._watcher = asyncio.create_task(self._watch(self._clock))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        if self._expired and self._task is not None:
            others = self._task.uncancel()
            if kind is asyncio.CancelledError and not others:
                seconds = self._limit_ns / _NS
                raise Unavailable(f"the peer moved nothing for {seconds:g} s in mid-transfer") from error

    def restart(self) -> None:
        """Something that counts has happened."""
        self._bytes = 0
        if self._clock is not None:
            self._deadline_ns = self._clock.monotonic_ns() + self._limit_ns

    def advance(self, size_bytes: int) -> None:
        """So many bytes have moved."""
        self._bytes += size_bytes
        if self._bytes >= self.STEP_BYTES:
            self.restart()

    def pause(self) -> None:
        """It is this node that waits; until `restart`."""
        self._deadline_ns = None

    async def _watch(self, clock: Clock) -> None:
        while True:
            now_ns = clock.monotonic_ns()
            left_ns = self._limit_ns if self._deadline_ns is None else self._deadline_ns - now_ns
            if left_ns <= 0 and self._task is not None:
                self._expired = True
                self._task.cancel()
                return
            await clock.sleep(left_ns / _NS)


@dataclass(frozen=True, slots=True)
class Pace:
    """How transfers of this node are paced.

    Attributes:
        clock: measures silence; None: whoever calls sets deadlines of its own.
        up: limit on what is sent to peers.
        down: limit on what is received from them.
        patience_s: see `Patience`.
    """

    clock: Clock | None = None
    up: Throttle | None = None
    down: Throttle | None = None
    patience_s: float = field(default=60.0)

    @classmethod
    def limited(cls, clock: Clock, *, up_bytes_s: int = 0, down_bytes_s: int = 0) -> "Pace":
        """A pace with limits in bytes a second; 0 means none."""
        return cls(clock, Throttle(clock, up_bytes_s), Throttle(clock, down_bytes_s))

    def patience(self) -> Patience:
        """For one transfer."""
        return Patience(self.clock, self.patience_s)

    async def send(self, size_bytes: int, patience: Patience | None = None) -> None:
        """Waits until `size_bytes` may be sent; `patience` does not run out meanwhile."""
        await _pass(self.up, size_bytes, patience)

    async def receive(self, size_bytes: int, patience: Patience | None = None) -> None:
        """Waits until more may be asked for than the `size_bytes` that came."""
        await _pass(self.down, size_bytes, patience)


async def _pass(throttle: Throttle | None, size_bytes: int, patience: Patience | None) -> None:
    if patience is not None:
        patience.advance(size_bytes)
    if throttle is None or not throttle.is_limited:
        return
    if patience is not None:
        patience.pause()
    await throttle.wait(size_bytes)
    if patience is not None:
        patience.restart()


UNPACED = Pace()
"""No limits, no patience of its own."""
