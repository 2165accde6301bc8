"""Writes a command's output file: whole or not at all, and never by accident over another one.

The bytes go to a temporary name in the same directory, are fsynced, then get their name. Without `force` the
name is taken by a hard link, which fails if somebody took it meanwhile.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kernel.errors import Conflict, LocalError, UsageError


@contextmanager
def open_output(path: Path, *, force: bool) -> Iterator[int]:
    """A descriptor to write to; what was written gets the name `path` when the block ends well.

    An existing path that is no regular file, such as a named pipe, is written to as it is.

    Raises:
        Conflict: the file exists, and `force` is False.
        UsageError: it is a directory.
        LocalError: it cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a directory", hint="Name a file in it.")
    try:
        if path.exists() and not path.is_file():
            yield from _open_special(path)
        elif path.exists() and not force:
            raise _make_conflict(path)
        else:
            yield from _open_new(path, force=force)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LocalError(f"{path} cannot be written: {error.strerror}") from error


def _open_special(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_new(path: Path, *, force: bool) -> Iterator[int]:
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor
        os.fsync(descriptor)
        _name(temporary, path, force=force)
        _fsync_directory(path.parent)
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            temporary.unlink()


def _name(temporary: Path, path: Path, *, force: bool) -> None:
    if force:
        temporary.replace(path)
        return
    try:
        path.hardlink_to(temporary)
    except FileExistsError as error:
        raise _make_conflict(path) from error
    except OSError as error:
        # A file system without hard links: the check and the rename are two steps there.
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if path.exists():
            raise _make_conflict(path) from error
        temporary.rename(path)


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_conflict(path: Path) -> Conflict:
    return Conflict(f"{path} exists already", hint="Choose another name, or overwrite it with --force.")
