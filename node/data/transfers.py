"""Descriptors that clients pass: where a recording's bytes come from, and where they go.

Regular files are read and written at offsets, off the event loop, by a thread of the transfer's own: a file
on a hung network disk holds up nobody else. Pipes and sockets are written when they are ready, on the loop,
without a thread.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import stat

from kernel.errors import Conflict, LocalError, UsageError
from kernel.ports import Offload
from node.data.wire import wait_writable
from storage.direct_io import write_at


class FileSource:
    """`session.ports.Source` over a descriptor of a regular file.

    Attributes:
        size_bytes: length of the file when it was passed.
        modified_ns: its modification time then.
    """

    def __init__(self, descriptor: int, offload: Offload) -> None:
        """Takes a descriptor; the caller closes it.

        Raises:
            UsageError: it is no regular file, or cannot be read from.
        """
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise UsageError(
                "what is to be recorded as a file is no regular file",
                hint="Pipes and devices are recorded from standard input: `session record -`.",
            )
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
            raise UsageError("the file was not opened for reading")
        self.size_bytes = info.st_size
        self.modified_ns = info.st_mtime_ns
        self._descriptor = descriptor
        self._offload = offload
        self._position = 0
        with contextlib.suppress(OSError):  # only advice
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def seek(self, position: int) -> None:
        """The next read begins here."""
        self._position = position

    async def read(self, size_bytes: int) -> bytes:
        """See `session.ports.Source`.

        Raises:
            LocalError: the file cannot be read.
        """
        piece = await self._offload.run(_read_at, self._descriptor, self._position, size_bytes)
        self._position += len(piece)
        return piece


class FileSink:
    """`session.ports.Sink` over a descriptor of a regular file, from its start."""

    random_access = True

    def __init__(self, descriptor: int, offload: Offload) -> None:
        self._descriptor = descriptor
        self._offload = offload

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """See `session.ports.Sink`."""
        await self._offload.run(_write_at, self._descriptor, offset, data)

    async def set_size(self, size_bytes: int) -> None:
        """Gives the file its final length: what was left out at its end becomes zeros too."""
        await self._offload.run(_set_size, self._descriptor, size_bytes)


class PipeSink:
    """`session.ports.Sink` over a pipe or socket: bytes in order, at the pace of the reader."""

    random_access = False

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """See `session.ports.Sink`.

        Raises:
            Conflict: nobody reads any more.
        """
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                await wait_writable(self._descriptor)
            except (BrokenPipeError, ConnectionResetError) as error:
                raise Conflict("whoever reads the output has gone away") from error
            except OSError as error:
                raise LocalError(f"the output cannot be written: {error.strerror}") from error
            else:
                await asyncio.sleep(0)

    async def set_size(self, size_bytes: int) -> None:
        """Does nothing: a pipe has no length."""


def open_sink(descriptor: int, offload: Offload) -> FileSink | PipeSink:
    """The sink that fits a descriptor; the caller closes it.

    Raises:
        UsageError: nothing can be written there safely.
    """
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if flags & os.O_ACCMODE == os.O_RDONLY:
        raise UsageError("the output was not opened for writing")
    info = os.fstat(descriptor)
    if stat.S_ISREG(info.st_mode):
        if flags & os.O_APPEND:
            raise UsageError("the output file was opened for appending")
        return FileSink(descriptor, offload)
    if stat.S_ISFIFO(info.st_mode) or _is_stream_socket(descriptor, info):
        return PipeSink(descriptor)
    raise UsageError("the output is neither a regular file nor a pipe")


def _is_stream_socket(descriptor: int, info: os.stat_result) -> bool:
    if not stat.S_ISSOCK(info.st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as channel:
        return channel.family == socket.AF_UNIX and channel.type == socket.SOCK_STREAM


def _read_at(descriptor: int, offset: int, size_bytes: int) -> bytes:
    """Reads until `size_bytes` are there or the file ends: one read gives all of it, nearly always."""
    pieces: list[bytes] = []
    try:
        while size_bytes and (piece := os.pread(descriptor, size_bytes, offset)):
            pieces.append(piece)
            offset += len(piece)
            size_bytes -= len(piece)
    except OSError as error:
        raise LocalError(f"the file to record cannot be read: {error.strerror}") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _write_at(descriptor: int, offset: int, data: bytes | memoryview) -> None:
    try:
        write_at(descriptor, offset, [data])
    except OSError as error:
        raise _describe_output_failure(error) from error


def _set_size(descriptor: int, size_bytes: int) -> None:
    try:
        os.ftruncate(descriptor, size_bytes)
    except OSError as error:
        raise _describe_output_failure(error) from error


def _describe_output_failure(error: OSError) -> LocalError:
    hint = "Choose an output on a disk with more room." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return LocalError(f"the output cannot be written: {error.strerror}", hint=hint)
