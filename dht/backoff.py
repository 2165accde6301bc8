"""Peers that failed are left alone for a while, longer each time unless a transfer goes forward. Pure."""

from collections.abc import Hashable

from dht.transfer import FRAME_BYTES

MAX_TRANSFERS = 4096


class Backoffs:
    """Who is left alone, and until when. Times are monotonic nanoseconds."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._failures: dict[bytes, int] = {}
        self._until_ns: dict[bytes, int] = {}
        self._false: dict[bytes, None] = {}

    def on_failure(self, device: bytes, now_ns: int, *, fault: bool = False, forward: bool = False) -> None:
        """A call failed.

        With `fault` the peer broke the rules, and the pause is the longest at once. With `forward` the call
        was part of a transfer that goes forward: the pause is the first one again.

        Calls that were on their way together fail together: that is one failure.
        """
        goes_on = forward and device not in self._false
        if fault:
            self._false[device] = None
        elif not goes_on and not self.is_over(device, now_ns):
            return
        failures = self._failures[device] = 1 if goes_on else self._failures.get(device, 0) + 1
        pause_s = min(self._first_s * 2.0 ** min(failures - 1, 30), self._longest_s)
        self._until_ns[device] = now_ns + round((self._longest_s if fault else pause_s) * 1e9)

    def on_success(self, device: bytes) -> None:
        """A call succeeded."""
        self._failures.pop(device, None)
        self._until_ns.pop(device, None)
        self._false.pop(device, None)

    def on_return(self, device: bytes) -> None:
        """A peer is there again: unless it broke the rules, it was only away, and is called at once."""
        if device not in self._false:
            self.on_success(device)

    def is_over(self, device: bytes, now_ns: int) -> bool:
        """May the peer be called again?"""
        return self._until_ns.get(device, 0) <= now_ns

    def next_end_s(self, now_ns: int) -> float | None:
        """Seconds until the next pause ends; None if there is none."""
        return min(
            ((until_ns - now_ns) / 1e9 for until_ns in self._until_ns.values() if until_ns > now_ns),
            default=None,
        )


class Advances:
    """How far broken transfers have come, by what their receivers said when they went on.

    A step counts once, and only if it is a whole frame: whoever tells stories gets no more tries out of them
    than the chunk has frames.
    """

    def __init__(self) -> None:
        self._furthest: dict[Hashable, int] = {}

    def on_broken(self, transfer: Hashable, begun_at: int) -> bool:
        """A try broke off that had begun at a byte; True if the tries before it had brought more there."""
        furthest = self._furthest.pop(transfer, 0)
        self._furthest[transfer] = max(furthest, begun_at)
        if len(self._furthest) > MAX_TRANSFERS:
            del self._furthest[next(iter(self._furthest))]
        return begun_at >= furthest + FRAME_BYTES

    def on_done(self, transfer: Hashable) -> None:
        """It came to its end."""
        self._furthest.pop(transfer, None)
