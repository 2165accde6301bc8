"""Links between hosts, and the pipes of connections over them: how bytes travel in one direction.

Rules, those of TCP as an application sees it:

- What goes into a pipe comes out of it in the same order, or not at all because the connection is lost.
- A lost segment is a stall, of a retransmission timeout that doubles while it is lost again.
- Bandwidth belongs to the link: all its connections share it.
- What cannot be acknowledged, because the link or the way back is cut, ends the connection after a while.
- Without faults a pipe delivers at once, inside `send`: a whole network costs no timer.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SEGMENT_BYTES = 1460
RETRANSMIT_S = 0.2
MAX_RETRANSMITS = 8
USER_TIMEOUT_S = 20.0
"""How long sent bytes may stay unacknowledged before the sender gives the connection up."""
CONNECT_TIMEOUT_S = 20.0
_TICK_S = 1e-9
"""A clock goes in steps: what is due within the next is due."""

Deliver = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What one directed link does to what is sent over it.

    Attributes:
        latency_s: of every segment.
        jitter_s: up to so much more, uniformly.
        tail: probability that a segment is much later.
        tail_s: mean of that delay, which is exponential.
        loss: probability that a segment is lost on the way.
        reset_per_s: how often a connection is reset, by chance.
        bandwidth_bytes_s: 0 for no limit.
        blocked: nothing comes through, and nobody is told.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    tail: float = 0.0
    tail_s: float = 0.0
    loss: float = 0.0
    reset_per_s: float = 0.0
    bandwidth_bytes_s: float = 0.0
    blocked: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError: a number is negative, or a probability above what may be."""
        numbers = (self.latency_s, self.jitter_s, self.tail_s, self.reset_per_s, self.bandwidth_bytes_s)
        if min(numbers) < 0 or not 0 <= self.tail <= 1 or not 0 <= self.loss < 1:
            raise ValueError(f"no such conditions: {self}")

    @property
    def is_instant(self) -> bool:
        """Does everything arrive at once?"""
        return not (
            self.blocked
            or self.latency_s
            or self.jitter_s
            or self.tail
            or self.loss
            or self.bandwidth_bytes_s
        )


class Link:
    """One direction between two hosts.

    Attributes:
        conditions: that hold now.
    """

    def __init__(self, conditions: Conditions, rng: random.Random) -> None:
        self.conditions = conditions
        self._rng = rng
        self._free_at = 0.0

    def draw_delay_s(self, size_bytes: int, now: float, first_timeout_s: float = RETRANSMIT_S) -> float:
        """How long a message of `size_bytes` takes that is sent `now`; it takes its share of the bandwidth.

        Args:
            size_bytes: of the message.
            now: time of the loop, in seconds.
            first_timeout_s: until the first retransmission.
        """
        conditions, rng = self.conditions, self._rng
        delay_s = conditions.latency_s
        if conditions.bandwidth_bytes_s:
            self._free_at = max(self._free_at, now) + size_bytes / conditions.bandwidth_bytes_s
            delay_s += self._free_at - now
        if conditions.jitter_s:
            delay_s += conditions.jitter_s * rng.random()
        if conditions.tail and rng.random() < conditions.tail:
            delay_s += rng.expovariate(1 / conditions.tail_s) if conditions.tail_s else 0.0
        if conditions.loss:
            delay_s += self._draw_stall_s(size_bytes, first_timeout_s)
        return delay_s

    def _draw_stall_s(self, size_bytes: int, timeout_s: float) -> float:
        loss, rng = self.conditions.loss, self._rng
        segments = -(-max(size_bytes, 1) // SEGMENT_BYTES)
        stall_s, lost = 0.0, 1 - (1 - loss) ** segments
        for _ in range(MAX_RETRANSMITS):
            if rng.random() >= lost:
                break
            stall_s += timeout_s
            timeout_s *= 2
            lost = loss  # what is sent again is one segment
        return stall_s


class Pipe:
    """One direction of one connection.

    Attributes:
        is_clear: what is sent now is delivered at once.
    """

    __slots__ = (
        "_due",
        "_is_closed",
        "_is_deaf",
        "_is_held",
        "_is_unacknowledged",
        "_link",
        "_loop",
        "_on_refused",
        "_on_timeout",
        "_queue",
        "_timeout",
        "_timer",
        "is_clear",
    )

    def __init__(self, link: Link, on_timeout: Callable[[], None], on_refused: Callable[[], None]) -> None:
        """A pipe that is open.

        Args:
            link: over which it leads.
            on_timeout: called when sent bytes were not acknowledged for too long.
            on_refused: called when bytes arrived where nobody knows the connection any more.
        """
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._on_timeout = on_timeout
        self._on_refused = on_refused
        self._queue: deque[tuple[float, Deliver, Any]] = deque()
        self._due = 0.0
        self._is_held = False
        self._is_unacknowledged = False
        self._is_deaf = False
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self.is_clear = link.conditions.is_instant

    @property
    def held_bytes(self) -> int:
        """Messages that are on their way."""
        return sum(len(argument) for _, _, argument in self._queue if isinstance(argument, bytes))

    def send(self, size_bytes: int, deliver: Deliver, argument: Any) -> None:
        """Has `deliver(argument)` called at the other end when the bytes arrive there."""
        if self.is_clear:
            deliver(argument)
            return
        if self._is_closed:
            return
        now = self._loop.time()
        self._due = max(self._due, now + self._link.draw_delay_s(size_bytes, now))
        self._queue.append((self._due, deliver, argument))
        if self._is_unacknowledged:
            self._watch()
        if self._timer is None and not self._is_held:
            self._arm()

    def update(self, *, is_held: bool, is_unacknowledged: bool) -> None:
        """Takes over what has changed about the link and its two hosts.

        Args:
            is_held: nothing moves now.
            is_unacknowledged: nothing that is sent now is acknowledged.
        """
        if self._is_closed:
            return
        if self._is_held and not is_held:
            now = self._loop.time()
            self._due = now + self._link.draw_delay_s(0, now)
            self._queue = deque(
                (max(due, self._due), deliver, argument) for due, deliver, argument in self._queue
            )
        self._is_held, self._is_unacknowledged = is_held, is_unacknowledged
        if not is_unacknowledged:
            self._stop_watching()
        elif self._queue:
            self._watch()
        self._arm()

    def set_deaf(self) -> None:
        """Whoever listened at the other end is gone: what arrives there is refused."""
        self._is_deaf = True
        self.is_clear = False

    def close(self) -> None:
        """Drops what is on its way, and whatever is still sent."""
        self._is_closed = True
        self.is_clear = False
        self._queue.clear()
        self._stop_watching()
        self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._disarm()
        if self._queue and not self._is_held:
            self._timer = self._loop.call_at(self._queue[0][0], self._on_due)
        is_hindered = self._is_held or self._is_unacknowledged or self._is_deaf or self._is_closed
        self.is_clear = not (self._queue or is_hindered) and self._link.conditions.is_instant

    def _on_due(self) -> None:
        self._timer = None
        now = self._loop.time() + _TICK_S
        while self._queue and self._queue[0][0] <= now and not self._is_held:
            _, deliver, argument = self._queue.popleft()
            if self._is_deaf:
                self.close()
                self._on_refused()
                return
            deliver(argument)
        if not self._is_closed:
            self._arm()

    def _watch(self) -> None:
        if self._timeout is None:
            self._timeout = self._loop.call_later(USER_TIMEOUT_S, self._give_up)

    def _stop_watching(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _give_up(self) -> None:
        self._timeout = None
        self._on_timeout()
