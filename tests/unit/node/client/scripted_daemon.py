"""A daemon's side of the data socket, for tests of the client: real sockets and frames, sessions in memory.

Tests script it: it can be killed and started again, refuse, keep silent, hold acknowledgements back, and lie.
"""

import array
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lucid.v1 import data_pb2, session_pb2
from node.client.polling import write_all

DEADLINE_S = 30.0


@dataclass
class Session:
    """What a recording left behind."""

    session_id: bytes
    token: bytes
    request: data_pb2.StartRecording
    position: int = 0
    data: bytearray = field(default_factory=bytearray)
    pieces: list[bytes] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    finish: data_pb2.FinishRecording | None = None
    resumptions: int = 0
    is_accepted: bool = False


class ScriptedDaemon:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.sessions: dict[bytes, Session] = {}
        self.contents: dict[bytes, bytes] = {}
        self.requests: list[data_pb2.ClientFrame] = []
        self.errors: list[str] = []
        self.changed = threading.Condition()
        # The script
        self.answers: Callable[[data_pb2.ClientFrame], bytes | None] = lambda frame: None
        self.acknowledges = True
        self.reads = True
        self.reads_files = True
        self.live: int | None = None  # where the contents of every `get` come from
        self.findings: list[data_pb2.Finding] = []
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    # Life

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._spawn(self._accept, self._listener)

    def kill(self) -> None:
        """As a killed process: the socket's name stays, nobody listens."""
        if not self._listener:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads.pop(0).join(DEADLINE_S)
        self._listener.close()
        with self.changed:
            self._listener = None
            for connection in self._connections:
                connection.shutdown(socket.SHUT_RDWR)
            self.changed.notify_all()
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
        self._threads.clear()

    def wait(self, is_reached: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(is_reached, DEADLINE_S), "it did not happen"

    def set(self, **script: object) -> None:
        with self.changed:
            for name, value in script.items():
                assert hasattr(self, name)
                setattr(self, name, value)
            self.changed.notify_all()

    @property
    def session(self) -> Session:
        """The only one."""
        (session,) = self.sessions.values()
        return session

    def is_open(self) -> bool:
        return any(session.is_accepted for session in self.sessions.values())

    # Connections

    def _spawn(self, target: Callable[[socket.socket], None], sock: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(sock,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self.changed:
                self._connections.add(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            frame, descriptor = self._receive_first(connection)
            with self.changed:
                self.requests.append(frame)
                self.changed.notify_all()
            answer = self.answers(frame)
            if answer is not None:
                if descriptor is not None:
                    os.close(descriptor)
                connection.sendall(answer)
                if answer:
                    connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
                return
            self._process(connection, frame, descriptor)
        except (OSError, EOFError):
            return
        finally:
            with self.changed:
                self._connections.discard(connection)
            connection.close()

    def _process(
        self, connection: socket.socket, frame: data_pb2.ClientFrame, descriptor: int | None
    ) -> None:
        kind = frame.WhichOneof("kind")
        if kind == "get":
            assert descriptor is not None
            self._send_contents(connection, frame.get.session_id, descriptor)
            return
        if kind == "start":
            with self.changed:
                number = len(self.sessions) + 1
                session = Session(bytes([number]) * 16, b"token%d" % number, frame.start)
                self.sessions[session.session_id] = session
                self.changed.notify_all()
        else:
            request = frame.continue_recording
            session = self.sessions[request.session_id]
            session.resumptions += 1
            if request.resume_token not in (b"", session.token):
                self.errors.append("wrong token")
        send(
            connection,
            accepted=data_pb2.RecordingAccepted(
                session_id=session.session_id,
                resume_token=session.token,
                position=session.position,
                started_ns=1_000_000_000,
                metadata=session.request.metadata,
            ),
        )
        with self.changed:
            session.is_accepted = True
            self.changed.notify_all()
        if descriptor is not None:
            self._read_file(connection, session, descriptor)
        else:
            self._take_data(connection, session)

    def _send_contents(self, connection: socket.socket, session_id: bytes, descriptor: int) -> None:
        with os.fdopen(descriptor, "wb", buffering=0) as output:
            if self.live is not None:
                while piece := os.read(self.live, 65536):
                    output.write(piece)
            else:
                write_all(output.fileno(), self.contents[session_id])
        send(connection, got=data_pb2.GetDone(findings=self.findings, plaintext_bytes=self._size(session_id)))
        connection.recv(1)

    def _size(self, session_id: bytes) -> int:
        return len(self.contents.get(session_id, b""))

    def _read_file(self, connection: socket.socket, session: Session, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as file:
            self._wait_alive(lambda: self.reads_files)
            file.seek(session.position)
            session.data += file.read()
        session.position = len(session.data)
        send(connection, progress=data_pb2.TransferProgress(plaintext_bytes=session.position))
        session.finish = data_pb2.FinishRecording()
        self._send_recorded(connection, session)

    def _take_data(self, connection: socket.socket, session: Session) -> None:
        while True:
            self._wait_alive(lambda: self.reads)
            frame = receive(connection)
            if frame.WhichOneof("kind") == "finish":
                with self.changed:
                    session.finish = frame.finish
                    self.changed.notify_all()
                self._send_recorded(connection, session)
                return
            piece = frame.data
            with self.changed:
                if piece.position < session.position or not piece.data:
                    self.errors.append(f"{piece.position} after {session.position}")
                if piece.position > session.position:
                    session.gaps.append((session.position, piece.position))
                session.data += piece.data
                session.pieces.append(piece.data)
                session.position = piece.position + len(piece.data)
                self.changed.notify_all()
            if self.acknowledges:
                send(connection, acknowledged=data_pb2.DataAcknowledged(position=session.position))

    def _wait_alive(self, is_allowed: Callable[[], object]) -> None:
        self.wait(lambda: is_allowed() or self._listener is None)
        if self._listener is None:
            raise EOFError

    def _send_recorded(self, connection: socket.socket, session: Session) -> None:
        send(
            connection,
            recorded=data_pb2.RecordingDone(
                session_id=session.session_id,
                state=session_pb2.STATE_COMPLETE,
                plaintext_bytes=len(session.data),
            ),
        )
        connection.recv(1)

    def _receive_first(self, connection: socket.socket) -> tuple[data_pb2.ClientFrame, int | None]:
        header, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(16), socket.MSG_WAITALL)
        if len(header) < 4:
            raise EOFError
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data)
        body = receive_exactly(connection, struct.unpack(">I", header)[0])
        return data_pb2.ClientFrame.FromString(body), descriptors[0] if descriptors else None


def encode(**kind: object) -> bytes:
    encoded = data_pb2.ServerFrame(**kind).SerializeToString()  # type: ignore[arg-type]
    return struct.pack(">I", len(encoded)) + encoded


def refuse(code: str) -> bytes:
    return encode(failure=data_pb2.Failure(code=code, message=f"scripted {code}"))


def send(connection: socket.socket, **kind: object) -> None:
    connection.sendall(encode(**kind))


def receive(connection: socket.socket) -> data_pb2.ClientFrame:
    (size,) = struct.unpack(">I", receive_exactly(connection, 4))
    assert size <= 1 << 20
    return data_pb2.ClientFrame.FromString(receive_exactly(connection, size))


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
