"""A directory as a tar stream (PAX), written while it is read.

Rules:
- Symbolic links are kept as links and never followed, also when somebody exchanges a directory for one
  meanwhile: every step is taken from the descriptor of the directory above.
- Sockets are left out without a word. What cannot be read is reported and left out; the rest is kept. A file
  that shrinks or fails while it is read is reported and filled up with zeros: its length stands before its
  bytes.
- Names are sorted, so the same tree gives the same stream. Memory does not grow with the tree.
- Extended attributes and access lists are not kept.
"""

import contextlib
import grp
import io
import os
import pwd
import stat
import tarfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

OnUnreadable = Callable[[str, str], None]
Write = Callable[[bytes], object]
MAX_DEPTH = 256
_MAX_LINKED_FILES = 100_000
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


def write_tar(directory: Path, write: Write, buffer_bytes: int, on_unreadable: OnUnreadable) -> None:
    """Writes `directory` and everything below it; names begin with its own name.

    Args:
        directory: the top.
        write: takes all of the bytes it is given, and waits if it must.
        buffer_bytes: how much is written at a time.
        on_unreadable: told (path, reason) of what is missing from the stream, or is not as it should be.

    Raises:
        OSError: `directory` itself cannot be opened.
    """
    top = os.open(directory, _OPEN | os.O_DIRECTORY)
    try:
        with tarfile.open(
            mode="w|",
            fileobj=_Output(write),
            bufsize=buffer_bytes,
            format=tarfile.PAX_FORMAT,
        ) as tar:
            _TreeWriter(tar, on_unreadable).add_directory(top, directory.resolve().name or "root", 0)
    finally:
        os.close(top)


class _Output(io.RawIOBase):
    """What tarfile takes for a file."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def write(self, data: Any, /) -> int:
        self._write(bytes(data))
        return len(data)


class _TreeWriter:
    def __init__(self, tar: tarfile.TarFile, on_unreadable: OnUnreadable) -> None:
        self._tar = tar
        self._report = on_unreadable
        self._linked: dict[tuple[int, int], str] = {}

    def add_directory(self, descriptor: int, name: str, depth: int) -> None:
        self._add(_describe(os.fstat(descriptor), name))
        if depth >= MAX_DEPTH:
            self._report(name, f"its entries lie deeper than {MAX_DEPTH} directories")
            return
        try:
            entries = sorted(os.listdir(descriptor))
        except OSError as error:
            self._report(name, error.strerror or str(error))
            return
        for entry in entries:
            path = f"{name}/{entry}"
            try:
                self._add_entry(descriptor, entry, path, depth)
            except OSError as error:
                self._report(path, error.strerror or str(error))

    def _add_entry(self, parent: int, entry: str, path: str, depth: int) -> None:
        info = os.stat(entry, dir_fd=parent, follow_symlinks=False)
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFLNK:
            self._add(_describe(info, path, os.readlink(entry, dir_fd=parent)))
        elif kind in (stat.S_IFDIR, stat.S_IFREG):
            flags = _OPEN | (os.O_DIRECTORY if kind == stat.S_IFDIR else 0)
            with _opened(entry, flags, parent) as descriptor:
                if kind == stat.S_IFDIR:
                    self.add_directory(descriptor, path, depth + 1)
                else:
                    self._add_file(descriptor, path)
        elif kind in _TYPES:
            self._add(_describe(info, path))

    def _add_file(self, descriptor: int, path: str) -> None:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            self._report(path, "it was exchanged for something else meanwhile")
            return
        if info.st_nlink > 1:
            first = self._linked.get((info.st_dev, info.st_ino))
            if first is not None:
                link = _describe(info, path, first)
                link.type, link.size = tarfile.LNKTYPE, 0
                self._add(link)
                return
            if len(self._linked) < _MAX_LINKED_FILES:
                self._linked[info.st_dev, info.st_ino] = path
        reader = _FixedLengthReader(descriptor)
        self._add(_describe(info, path), reader)
        if reader.failure:
            self._report(path, f"{reader.failure}; the rest of it is zeros")

    def _add(self, entry: tarfile.TarInfo, reader: "_FixedLengthReader | None" = None) -> None:
        self._tar.addfile(entry, reader)
        self._tar.getmembers().clear()  # it would remember every entry


class _FixedLengthReader:
    """A file that always gives as many bytes as it is asked for.

    Attributes:
        failure: why some of them are zeros; empty if none are.
    """

    def __init__(self, descriptor: int) -> None:
        self.failure = ""
        self._descriptor = descriptor

    def read(self, size_bytes: int = 0, /) -> bytes:
        data = b""
        try:
            while not self.failure and len(data) < size_bytes:
                piece = os.read(self._descriptor, size_bytes - len(data))
                if not piece:
                    self.failure = "it became shorter while it was read"
                data += piece
        except OSError as error:
            self.failure = error.strerror or str(error)
        return data.ljust(size_bytes, b"\0")


@contextlib.contextmanager
def _opened(entry: str, flags: int, parent: int) -> Iterator[int]:
    descriptor = os.open(entry, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _describe(info: os.stat_result, name: str, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = _TYPES[stat.S_IFMT(info.st_mode)]
    entry.mode = stat.S_IMODE(info.st_mode)
    entry.uid, entry.gid = info.st_uid, info.st_gid
    entry.uname, entry.gname = _get_user(info.st_uid), _get_group(info.st_gid)
    entry.mtime = info.st_mtime
    entry.linkname = target
    if entry.isreg():
        entry.size = info.st_size
    if entry.isdev():
        entry.devmajor, entry.devminor = os.major(info.st_rdev), os.minor(info.st_rdev)
    return entry


@lru_cache(maxsize=256)
def _get_user(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return ""


@lru_cache(maxsize=256)
def _get_group(gid: int) -> str:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return ""
