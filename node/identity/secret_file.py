"""Small files that hold secrets: read with bounds, written so that a crash leaves the old or the new whole.

Written: temporary file beside it, 0600 → fsync → name → fsync of the directory. A new file gets its name by
link(2), which fails where a name is taken: nothing is ever overwritten by accident. What a killed process
left (`NAME.….tmp`) is swept by the next write.
"""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from kernel.errors import Conflict, NotFound, StoreError, StoreFull, UsageError
from kernel.ports import Entropy

_TEMPORARY_BYTES = 8


def read_regular_file(path: Path, max_bytes: int) -> tuple[bytes, int]:
    """Contents and permission bits of a file.

    Raises:
        NotFound: there is none.
        UsageError: it is no regular file, or longer than `max_bytes`.
        StoreError: it cannot be read.
    """
    try:
        # Non-blocking: opening a named pipe that nobody writes would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{path} is no regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                contents = file.read(max_bytes + 1)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{path} does not exist") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if len(contents) > max_bytes:
        raise UsageError(f"{path} is longer than {max_bytes} bytes")
    return contents, stat.S_IMODE(status.st_mode)


def create_file(
    path: Path, contents: bytes, entropy: Entropy, before_name: Callable[[], None] = lambda: None
) -> None:
    """Writes a new file, durably.

    Args:
        path: its name, in an existing directory.
        contents: what it holds.
        entropy: for the temporary name.
        before_name: called when everything is on disk and only the name is missing. If it raises, there is no
            file.

    Raises:
        Conflict: there is a file of that name; it is left as it is.
        StoreFull: no space; there is no file.
        StoreError: the disk failed.
    """
    _write(path, contents, entropy, before_name, _name_new)


def replace_file(path: Path, contents: bytes, entropy: Entropy) -> None:
    """Puts `contents` in the place of a file, durably and at once.

    Raises:
        StoreFull: no space; the old file is there.
        StoreError: the disk failed.
    """
    _write(path, contents, entropy, lambda: None, os.replace)


def _write(
    path: Path,
    contents: bytes,
    entropy: Entropy,
    before_name: Callable[[], None],
    name: Callable[[Path, Path], None],
) -> None:
    temporary = path.with_name(f"{path.name}.{entropy.draw(_TEMPORARY_BYTES).hex()}.tmp")
    try:
        _sweep(path)
        try:
            _write_synced(temporary, contents)
            before_name()
            name(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_directory(path.parent)
    except FileExistsError as error:
        raise Conflict(f"{path} exists already, and is left as it is") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = StoreFull if full else StoreError
        raise kind(f"{path} cannot be written: {error.strerror}") from error


def _sweep(path: Path) -> None:
    for leftover in path.parent.glob(f"{path.name}.{'[0-9a-f]' * 2 * _TEMPORARY_BYTES}.tmp"):
        leftover.unlink(missing_ok=True)


def _write_synced(path: Path, contents: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(contents)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name_new(temporary: Path, path: Path) -> None:
    os.link(temporary, path)


def fsync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
