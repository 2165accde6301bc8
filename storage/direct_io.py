"""Large writes past the page cache.

What is written once and read seldom should not push other files out of memory; and where pages are scarce, or
handed out by a hypervisor, filling the cache costs more than compressing does (docs/adr/0005). So the whole
blocks of a large write go straight to the disk (O_DIRECT) from an aligned buffer; the rest, small writes, and
file systems that do not know this way take the usual one. Nothing here makes anything durable: that is what
fsync is for.
"""

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator, Sequence

BLOCK_BYTES = 4096
MIN_DIRECT_BYTES = 256 << 10
_BUFFER_BYTES = 1 << 20
_MAX_IDLE_BUFFERS = 8

# Buffers at rest. Taking and giving back are single operations, so threads need no lock.
_idle: list[mmap.mmap] = []


def write_at(descriptor: int, offset: int, parts: Sequence[bytes | memoryview]) -> None:
    """Writes the concatenation of `parts` at `offset` of a regular file, all of it.

    While it runs, nobody else may write through the same descriptor.

    Raises:
        OSError: of the system; a prefix may have been written.
    """
    size_bytes = sum(map(len, parts))
    whole_bytes = 0 if offset % BLOCK_BYTES else size_bytes - size_bytes % BLOCK_BYTES
    done = 0
    if whole_bytes >= MIN_DIRECT_BYTES and _set_direct(descriptor, True):
        try:
            done = _write_direct(descriptor, offset, parts, whole_bytes)
        finally:
            _set_direct(descriptor, False)
    for rest in _skip(parts, done):
        view = rest
        while view:
            count = os.pwrite(descriptor, view, offset + done)
            done += count
            view = view[count:]


def _set_direct(descriptor: int, direct: bool) -> bool:
    """Switches the descriptor; False if its file system does not know direct writes."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    wanted = flags | os.O_DIRECT if direct else flags & ~os.O_DIRECT
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, wanted)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def _write_direct(descriptor: int, offset: int, parts: Sequence[bytes | memoryview], whole_bytes: int) -> int:
    """Writes up to `whole_bytes`; returns how many, fewer if the file system stops taking whole blocks."""
    buffer = _idle.pop() if _idle else mmap.mmap(-1, _BUFFER_BYTES)
    view, done, filled = memoryview(buffer), 0, 0
    try:
        for piece in _cut(parts, whole_bytes):
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
            if filled == _BUFFER_BYTES or done + filled == whole_bytes:
                try:
                    count = os.pwrite(descriptor, view[:filled], offset + done)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    return done
                done += count
                if count != filled:
                    return done
                filled = 0
        return done
    finally:
        view.release()
        if len(_idle) < _MAX_IDLE_BUFFERS:
            _idle.append(buffer)


def _cut(parts: Sequence[bytes | memoryview], size_bytes: int) -> Iterator[memoryview]:
    """The first `size_bytes` of `parts`, in pieces none of which crosses a multiple of the buffer size."""
    position = 0
    for part in parts:
        view = memoryview(part)
        while view and position < size_bytes:
            room = min(_BUFFER_BYTES - position % _BUFFER_BYTES, size_bytes - position)
            yield view[:room]
            position += len(view[:room])
            view = view[room:]


def _skip(parts: Sequence[bytes | memoryview], size_bytes: int) -> Iterator[memoryview]:
    """What follows the first `size_bytes` of `parts`."""
    for part in parts:
        view = memoryview(part)[size_bytes:]
        size_bytes = max(0, size_bytes - len(part))
        if view:
            yield view
