"""Files of a real disk.

Rules:
- No descriptor outlives its call. None is inherited by children (O_CLOEXEC), none follows a symbolic link
  in the last component (O_NOFOLLOW), and none but of a regular file is read or written (a planted pipe
  would block for ever).
- Files are 0600, directories 0700.
- Short writes are continued; the parts of a write are never joined. Large new files bypass the page cache.
- A full disk or an exhausted quota of the file system is `StoreFull`; every other failure is `StoreError`
  with the path and the system's reason. `FileNotFoundError` and `FileExistsError` pass unchanged.
- A failed fsync means that written bytes may be lost although they can still be read: whoever called it
  must not count on them, and calling it again proves nothing.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kernel.errors import StoreError, StoreFull
from storage.direct_io import write_at
from storage.paths import check_directory, check_path

_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
# EFBIG: the limit on file sizes (ulimit -f, RLIMIT_FSIZE) is a kind of quota.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MAX_VECTOR = 512
# Between making a directory and using it somebody may remove it again, because it is empty.
_MAX_ATTEMPTS = 16


class OsFiles:
    """`Files` below one directory of the disk."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self, path: str, parts: Sequence[bytes]) -> None:
        """See `Files.create`."""
        with _failures("write", path):
            self._write(path, os.O_CREAT | os.O_TRUNC, lambda descriptor: write_at(descriptor, 0, parts))

    def append(self, path: str, parts: Sequence[bytes]) -> None:
        """See `Files.append`."""
        with _failures("append to", path):
            self._write(path, os.O_CREAT | os.O_APPEND, lambda descriptor: _append(descriptor, parts))

    def read(self, path: str, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """See `Files.read`."""
        with _failures("read", path), self._opened(path, os.O_RDONLY) as descriptor:
            left = max(os.fstat(descriptor).st_size - offset, 0)
            return _read(descriptor, offset, left if size_bytes is None else min(left, size_bytes))

    def size(self, path: str) -> int:
        """See `Files.size`."""
        with _failures("look at", path):
            return self._locate(path).lstat().st_size

    def truncate(self, path: str, size_bytes: int) -> None:
        """See `Files.truncate`."""
        with _failures("cut", path), self._opened(path, os.O_WRONLY) as descriptor:
            os.ftruncate(descriptor, size_bytes)

    def fsync(self, path: str) -> None:
        """See `Files.fsync`."""
        with _failures("fsync", path), self._opened(path, os.O_RDONLY) as descriptor:
            os.fsync(descriptor)

    def fsync_dir(self, path: str) -> None:
        """See `Files.fsync_dir`."""
        check_directory(path)
        with _failures("fsync", path or "."):
            descriptor = os.open(self._root / path, os.O_RDONLY | os.O_DIRECTORY | _SAFE)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        """See `Files.rename`."""
        source, target = self._locate(old), self._locate(new)
        with _failures("rename", old):
            for _ in range(_MAX_ATTEMPTS):
                try:
                    source.rename(target)
                    return
                except FileNotFoundError:
                    source.lstat()
                    _make_directory(target.parent)
            raise StoreError(f"cannot rename {old}: the directory of {new} vanishes again and again")

    def remove(self, path: str) -> None:
        """See `Files.remove`."""
        with _failures("remove", path):
            self._locate(path).unlink()

    def remove_dir(self, path: str) -> None:
        """See `Files.remove_dir`."""
        with _failures("remove", path):
            try:
                self._locate(path).rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                    raise

    def list_dir(self, path: str) -> list[str]:
        """See `Files.list_dir`."""
        check_directory(path)
        with _failures("list", path or "."):
            try:
                with os.scandir(self._root / path) as entries:
                    return sorted(e.name + "/" * e.is_dir(follow_symlinks=False) for e in entries)
            except FileNotFoundError:
                return []

    def _locate(self, path: str) -> Path:
        check_path(path)
        return self._root / path

    def _write(self, path: str, flags: int, write: Callable[[int], None]) -> None:
        for _ in range(_MAX_ATTEMPTS):
            try:
                with self._opened(path, os.O_WRONLY | flags) as descriptor:
                    return write(descriptor)
            except FileNotFoundError:
                _make_directory(self._locate(path).parent)
        raise StoreError(f"cannot write {path}: its directory vanishes again and again")

    @contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[int]:
        descriptor = os.open(self._locate(path), flags | _SAFE, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StoreError(f"{path} is no regular file")
            yield descriptor
        finally:
            os.close(descriptor)


def _make_directory(path: Path) -> None:
    """Makes a directory and those above it; may fail silently if somebody removes them meanwhile."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        _make_directory(path.parent)
        with suppress(FileNotFoundError):
            path.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def _failures(action: str, path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        reason = f"cannot {action} {path}: {error.strerror}"
        if error.errno in _FULL:
            raise StoreFull(reason, hint="free some space on the disk") from error
        raise StoreError(reason) from error


def _read(descriptor: int, offset: int, size_bytes: int) -> bytes:
    pieces = []
    while size_bytes > 0:
        piece = os.pread(descriptor, size_bytes, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        size_bytes -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _append(descriptor: int, parts: Sequence[bytes]) -> None:
    pending = [memoryview(part) for part in parts if len(part)]
    first = 0
    while first < len(pending):
        written = os.writev(descriptor, pending[first : first + _MAX_VECTOR])
        while first < len(pending) and written >= len(pending[first]):
            written -= len(pending[first])
            first += 1
        if written:
            pending[first] = pending[first][written:]
