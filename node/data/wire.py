"""Frames of the data socket on the daemon's side (docs/spec/06-data-socket.md).

A frame is its length (4 bytes, big-endian) and one message of at most 1 MiB. Descriptors come with the first
frame of a connection alone; whatever else is passed is closed. Nothing here blocks: a peer that is slow
delays itself.
"""

import array
import asyncio
import os
import socket

from google.protobuf.message import DecodeError

from kernel.errors import InvalidRecord, Reason, Unavailable
from lucid.v1 import data_pb2

HEADER_BYTES = 4
MAX_FRAME_BYTES = 1 << 20
MAX_DESCRIPTORS = 4
SEND_TIMEOUT_S = 30.0


class PeerGone(Unavailable):
    """The other side has closed the connection."""


class FrameChannel:
    """One connection. One task may receive while others send."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._sending = asyncio.Lock()

    async def receive_first(self, timeout_s: float) -> tuple[data_pb2.ClientFrame, int | None]:
        """The first frame, and the descriptor that came with it (the caller closes it).

        Raises:
            PeerGone: the connection ended, or nothing came in time.
            InvalidRecord: it is no frame.
        """
        descriptors: list[int] = []
        try:
            async with asyncio.timeout(timeout_s):
                size = _check_size(await self._receive_with_descriptors(HEADER_BYTES, descriptors))
                frame = _decode(await self._receive_with_descriptors(size, descriptors))
            return frame, descriptors.pop(0) if descriptors else None
        except TimeoutError as error:
            raise PeerGone(f"no request came within {timeout_s:.0f} s") from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    async def receive(self) -> data_pb2.ClientFrame:
        """The next frame.

        Raises:
            PeerGone: the connection ended.
            InvalidRecord: it is no frame.
        """
        size = _check_size(await self._receive_exactly(HEADER_BYTES))
        return _decode(await self._receive_exactly(size))

    async def wait_gone(self) -> None:
        """Returns when the other side closes, or sends what nobody asked for."""
        try:
            await asyncio.get_running_loop().sock_recv(self._socket, 1)
        except OSError:
            return

    async def send(self, **kind: object) -> None:
        """Sends one frame; the keyword names its kind.

        Raises:
            PeerGone: the connection ended, or the peer does not read.
        """
        frame = data_pb2.ServerFrame(**kind)  # type: ignore[arg-type]
        encoded = frame.SerializeToString()
        try:
            async with self._sending, asyncio.timeout(SEND_TIMEOUT_S):
                message = len(encoded).to_bytes(HEADER_BYTES, "big") + encoded
                await asyncio.get_running_loop().sock_sendall(self._socket, message)
        except TimeoutError as error:
            raise PeerGone("the client does not read what it is sent") from error
        except OSError as error:
            raise PeerGone(f"the client has gone away: {error.strerror}") from error

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    async def _receive_exactly(self, size_bytes: int) -> bytearray:
        loop = asyncio.get_running_loop()
        buffer = bytearray(size_bytes)
        view = memoryview(buffer)
        while view:
            try:
                # Descriptors that come uninvited find no room here, and the kernel closes them.
                count = await loop.sock_recv_into(self._socket, view)
            except OSError as error:
                raise PeerGone(f"the client has gone away: {error.strerror}") from error
            if count == 0:
                raise PeerGone("the client has gone away")
            view = view[count:]
        return buffer

    async def _receive_with_descriptors(self, size_bytes: int, descriptors: list[int]) -> bytearray:
        buffer = bytearray()
        while len(buffer) < size_bytes:
            await wait_readable(self._socket.fileno())
            try:
                piece, ancillary, _, _ = self._socket.recvmsg(
                    size_bytes - len(buffer), socket.CMSG_SPACE(MAX_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                continue
            except OSError as error:
                raise PeerGone(f"the client has gone away: {error.strerror}") from error
            descriptors += _get_descriptors(ancillary)
            if not piece:
                raise PeerGone("the client has gone away")
            buffer += piece
        return buffer


async def wait_readable(descriptor: int) -> None:
    """Returns when reading from `descriptor` would not block."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def wait_writable(descriptor: int) -> None:
    """Returns when writing to `descriptor` would not block."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _get_descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _check_size(header: bytearray) -> int:
    size = int.from_bytes(header, "big")
    if not 0 < size <= MAX_FRAME_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"a frame of {size} bytes is not allowed")
    return size


def _decode(encoded: bytearray) -> data_pb2.ClientFrame:
    try:
        return data_pb2.ClientFrame.FromString(bytes(encoded))
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, "the frame cannot be decoded") from error
