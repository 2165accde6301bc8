"""Waiting for descriptors."""

import math
import os
import select


def to_milliseconds(seconds: float | None) -> int | None:
    """A timeout as `poll` takes it, rounded up: waking too early would mean waiting again for nothing."""
    return None if seconds is None else math.ceil(seconds * 1000)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of `data`, and waits where others have made the descriptor non-blocking and it is full.

    Raises:
        OSError: it cannot be written.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
