"""One exact budget over blobs and journals.

Rules:
- What is counted is the length of files: of blobs, temporary ones included, and of journals. The index is
  not part of it.
- Space is taken before the first byte is written and given back if the write fails, so that writers side by
  side never go beyond the limit together.
- Ordinary writes stop 1 MiB short of the limit (an eighth of it if that is less). That reserve is for small
  facts: that a session was interrupted, is closed or held. Which streams may draw on it is told to the
  journal.
- A limit that is below what is there already refuses every write until enough was removed; it removes
  nothing. What announces a removal is counted, but never refused.
"""

from kernel.errors import StoreFull

RESERVE_BYTES = 1 << 20


class Quota:
    """Counts what is used, and refuses what does not fit.

    Attributes:
        limit_bytes: the budget; None means as much as the disk holds.
        used_bytes: taken so far.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._reserve_bytes = min(RESERVE_BYTES, (limit_bytes or 0) // 8)

    def take(self, size_bytes: int, *, from_reserve: bool = False) -> None:
        """Counts `size_bytes` that are about to be written.

        Args:
            size_bytes: length of the write.
            from_reserve: the write is a small fact that may use the last mebibyte.

        Raises:
            StoreFull: it does not fit; nothing was counted.
        """
        if self.limit_bytes is not None:
            free = self.limit_bytes - self.used_bytes - (0 if from_reserve else self._reserve_bytes)
            if size_bytes > free:
                raise StoreFull(
                    f"the quota of {self.limit_bytes} bytes is used up: {size_bytes} bytes are wanted,"
                    f" {max(free, 0)} are free",
                    hint="delete sessions that are no longer needed, or raise the quota",
                )
        self.used_bytes += size_bytes

    def adopt(self, size_bytes: int) -> None:
        """Counts what is on the disk already, or must be, limit or not."""
        self.used_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Counts `size_bytes` less: removed, or never written."""
        self.used_bytes -= size_bytes
