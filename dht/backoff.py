"""Peers that failed are left alone for a while, twice as long each time. Pure."""


class Backoffs:
    """Who is left alone, and until when. Times are monotonic nanoseconds."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._failures: dict[bytes, int] = {}
        self._until_ns: dict[bytes, int] = {}
        self._false: dict[bytes, None] = {}

    def on_failure(self, device: bytes, now_ns: int, *, fault: bool = False) -> None:
        """A call failed; with `fault` the peer broke the rules, and the pause is the longest at once.

        Calls that were on their way together fail together: that is one failure.
        """
        if fault:
            self._false[device] = None
        elif not self.is_over(device, now_ns):
            return
        failures = self._failures[device] = self._failures.get(device, 0) + 1
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
