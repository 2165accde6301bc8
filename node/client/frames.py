"""Frames of the data socket on the client's side (docs/spec/06-data-socket.md).

A frame is its length (4 bytes, big-endian) and one message of at most 1 MiB. The socket never blocks: a
daemon that is stopped or slow must not stop the terminal. Descriptors are sent with the first byte; none are
received.
"""

import array
import errno
import socket
from pathlib import Path

from google.protobuf.message import DecodeError

from kernel.errors import InvalidRecord, Reason, Unavailable, UsageError
from lucid.v1.data_pb2 import ClientFrame, ServerFrame

HEADER_BYTES = 4
MAX_FRAME_BYTES = 1 << 20
MAX_PIECE_BYTES = 256 << 10
_RECEIVE_BYTES = 64 << 10


def connect(path: Path) -> socket.socket:
    """A connection to the daemon that never blocks.

    Raises:
        Unavailable: nobody listens there, or it has too many connections waiting.
        UsageError: the path is too long for a socket.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        if error.errno is None or error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{path} is too long for a socket") from error
        hint = "Is the daemon running? Start it with `lucid-node run`."
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "This user may not use the socket: join its group."
        raise Unavailable(f"the daemon does not answer at {path}: {error.strerror}", hint=hint) from error
    return connection


def encode_frame(frame: ClientFrame) -> bytes:
    """The bytes of a frame.

    Raises:
        InvalidRecord: it is too large.
    """
    encoded = frame.SerializeToString()
    if len(encoded) > MAX_FRAME_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"a request of {len(encoded)} bytes is too large")
    return len(encoded).to_bytes(HEADER_BYTES, "big") + encoded


def send(connection: socket.socket, data: bytes | memoryview, descriptor: int | None) -> int:
    """Sends what the socket takes now, and with its first byte `descriptor`.

    Returns:
        How many bytes were taken; 0 if the socket is full.

    Raises:
        Unavailable: the daemon has closed the connection.
    """
    rights = []
    if descriptor is not None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    try:
        return connection.sendmsg([data], rights, socket.MSG_NOSIGNAL)
    except BlockingIOError:
        return 0
    except OSError as error:
        raise Unavailable(f"the connection to the daemon was lost: {error.strerror}") from error


class FrameReader:
    """Puts frames together from what a connection has."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def receive(self) -> list[ServerFrame]:
        """Frames that have arrived completely; does not wait.

        Raises:
            Unavailable: the daemon has closed the connection, and no frame is left.
            InvalidRecord: what it sends are no frames.
        """
        try:
            piece = self._connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise Unavailable(f"the connection to the daemon was lost: {error.strerror}") from error
        if not piece:
            raise Unavailable("the daemon closed the connection")
        self._buffer += piece
        return self._take_frames()

    def _take_frames(self) -> list[ServerFrame]:
        frames = []
        while len(self._buffer) >= HEADER_BYTES:
            size = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
            if not 0 < size <= MAX_FRAME_BYTES:
                raise InvalidRecord(Reason.TOO_LARGE, f"the daemon announces a frame of {size} bytes")
            if len(self._buffer) < HEADER_BYTES + size:
                break
            frames.append(_decode(bytes(self._buffer[HEADER_BYTES : HEADER_BYTES + size])))
            del self._buffer[: HEADER_BYTES + size]
        return frames


def _decode(encoded: bytes) -> ServerFrame:
    try:
        frame = ServerFrame.FromString(encoded)
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, "a frame of the daemon cannot be decoded") from error
    if frame.WhichOneof("kind") is None:
        raise InvalidRecord(Reason.MALFORMED, "a frame of the daemon is of no known kind")
    return frame
