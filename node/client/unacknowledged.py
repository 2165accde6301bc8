"""Bytes on their way: everything from the last acknowledged position to the end of the source.

Usually one run of bytes; two or more if the client had to let bytes go between them (a gap in the positions).
"""

from collections import deque

from kernel.errors import InvalidRecord, Reason


class Unacknowledged:
    """What was not acknowledged yet, and how much of it was sent on this connection.

    Attributes:
        acknowledged: position up to which the daemon has everything that it was sent.
        end: position after the last byte of the source.
        size_bytes: bytes held.
    """

    def __init__(self, position: int) -> None:
        self.acknowledged = self.end = position
        self.size_bytes = 0
        self._sent = position
        self._runs: deque[tuple[int, bytearray]] = deque()

    @property
    def has_unsent(self) -> bool:
        """Is there something to `take`?"""
        return bool(self._runs) and self._runs[-1][0] + len(self._runs[-1][1]) > self._sent

    def append(self, data: bytes) -> None:
        """Adds the next bytes of the source."""
        if not self._runs or self._runs[-1][0] + len(self._runs[-1][1]) != self.end:
            self._runs.append((self.end, bytearray()))
        self._runs[-1][1].extend(data)
        self.end += len(data)
        self.size_bytes += len(data)

    def skip(self, size_bytes: int) -> None:
        """Bytes of the source that are let go: they count, and are not held."""
        self.end += size_bytes

    def acknowledge(self, position: int) -> bool:
        """Lets go of everything before `position`; says whether that is progress.

        Raises:
            InvalidRecord: nobody sent that much.
        """
        if position > self.end:
            raise InvalidRecord(Reason.NOT_CONSISTENT, "the daemon acknowledges bytes that nobody sent")
        while self._runs and self._runs[0][0] < position:
            start, run = self._runs.popleft()
            count = min(position - start, len(run))
            self.size_bytes -= count
            if count < len(run):
                del run[:count]
                self._runs.appendleft((start + count, run))
        is_progress = position > self.acknowledged
        self.acknowledged = max(position, self.acknowledged)
        return is_progress

    def rewind(self) -> None:
        """Everything held is to be sent again: the connection is a new one."""
        self._sent = 0

    def take(self, limit_bytes: int, *, by_lines: bool) -> tuple[int, bytes] | None:
        """The next piece to send and its position; None if all was sent.

        Args:
            limit_bytes: greatest length of the piece.
            by_lines: end it at the end of a line, if there is one within the limit.
        """
        for start, run in self._runs:
            offset = max(self._sent - start, 0)
            if offset >= len(run):
                continue
            stop = min(offset + limit_bytes, len(run))
            if by_lines:
                stop = run.rfind(b"\n", offset, stop) + 1 or stop
            self._sent = start + stop
            return start + offset, bytes(memoryview(run)[offset:stop])
        return None
