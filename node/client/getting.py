"""Recordings out of the daemon, into a descriptor.

Rules (docs/spec/06-data-socket.md): an empty regular file is passed to the daemon, which writes into it;
everything else gets a pipe made here, so that nobody changes the flags of a descriptor that other processes
share.
"""

import contextlib
import fcntl
import os
import select
import stat
from pathlib import Path

from kernel.errors import InvalidRecord, LocalError, LucidError, Reason, Unavailable
from lucid.v1.data_pb2 import ClientFrame, GetDone, GetRecording, ServerFrame
from node.client import frames
from node.client.polling import to_milliseconds, write_all
from node.client.recording import OnProgress
from node.failures import decode_failure

_COPY_BYTES = 256 << 10


def get_recording(
    socket_path: Path,
    session_id: bytes,
    output: int,
    *,
    partial: bool = False,
    follow: bool = False,
    on_progress: OnProgress | None = None,
) -> GetDone:
    """Writes the plaintext of a recording into the descriptor `output`.

    Args:
        socket_path: data socket of the daemon.
        session_id: 16 bytes.
        output: open for writing; an empty regular file is written and cut to size by the daemon.
        partial: leave damaged parts out instead of failing; `GetDone.findings` names them.
        follow: go on while it is being recorded.
        on_progress: told how far it is, some times a second.

    Raises:
        Unavailable: the daemon cannot be reached, or went away.
        BrokenPipeError: whoever reads `output` has gone.
        LocalError: `output` cannot be written.
        LucidError: what the daemon answered.
    """
    request = GetRecording(session_id=session_id, partial=partial, follow=follow)
    if _is_passable(output):
        with contextlib.closing(RecordingTransfer(socket_path, request, output, on_progress)) as transfer:
            while not transfer.is_over:
                transfer.poll()
            return transfer.get_result()
    transfer, reading = open_pipe(socket_path, request, on_progress)
    try:
        _copy(transfer, reading, output)
        return transfer.get_result()
    finally:
        transfer.close()
        os.close(reading)


def open_pipe(
    socket_path: Path, request: GetRecording, on_progress: OnProgress | None = None
) -> tuple["RecordingTransfer", int]:
    """A transfer and the descriptor to read the recording from; the caller closes both.

    Raises:
        Unavailable: the daemon cannot be reached.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        return RecordingTransfer(socket_path, request, writing, on_progress), reading
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)


class RecordingTransfer:
    """One `get` under way.

    Attributes:
        is_over: the daemon has said its last word, or went away.
        failure: why there will be nothing more.
    """

    def __init__(
        self, socket_path: Path, request: GetRecording, output: int, on_progress: OnProgress | None = None
    ) -> None:
        """Connects and asks; `output` is passed on, and the caller may close it afterwards.

        Raises:
            Unavailable: the daemon cannot be reached.
        """
        self.is_over = False
        self.failure: LucidError | None = None
        self._done = GetDone()
        self._on_progress = on_progress
        self._socket = frames.connect(socket_path)
        try:
            self._reader = frames.FrameReader(self._socket)
            request_bytes = frames.encode_frame(ClientFrame(get=request))
            # A fresh socket takes a frame of this size at once.
            if frames.send(self._socket, request_bytes, output) != len(request_bytes):
                raise Unavailable("the daemon does not take requests")
        except BaseException:
            self.close()
            raise

    def poll(self, *others: int, timeout_s: float | None = None) -> list[int]:
        """Waits until the daemon says something or one of `others` can be read; returns the latter."""
        poll = select.poll()
        for descriptor in (*others, *(() if self.is_over else (self._socket.fileno(),))):
            poll.register(descriptor, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(to_milliseconds(timeout_s))]
        if not self.is_over and self._socket.fileno() in ready:
            self._receive()
        return [descriptor for descriptor in ready if descriptor in others]

    def get_result(self) -> GetDone:
        """The daemon's last word, after `is_over`.

        Raises:
            Unavailable: it went away.
            LucidError: it said that it failed.
        """
        if self.failure is not None:
            raise self.failure
        return self._done

    def close(self) -> None:
        """Ends the transfer, wherever it is."""
        self._socket.close()

    def _receive(self) -> None:
        try:
            for frame in self._reader.receive():
                self._process(frame)
        except LucidError as error:
            if not self.is_over:
                self.is_over, self.failure = True, error

    def _process(self, frame: ServerFrame) -> None:
        kind = frame.WhichOneof("kind")
        if kind == "failure":
            raise decode_failure(frame.failure)
        if kind == "got":
            self.is_over, self._done = True, frame.got
        elif kind == "progress":
            if self._on_progress:
                self._on_progress(frame.progress)
        else:
            raise InvalidRecord(Reason.MALFORMED, f"the daemon sent {kind} to one who gets a recording")


def _is_passable(output: int) -> bool:
    info = os.fstat(output)
    flags = fcntl.fcntl(output, fcntl.F_GETFL)
    is_at_start = info.st_size == 0 and not flags & os.O_APPEND
    return stat.S_ISREG(info.st_mode) and is_at_start


def _copy(transfer: RecordingTransfer, reading: int, output: int) -> None:
    """Copies until the daemon said its last word and the pipe is empty: all was written before that word."""
    while True:
        if transfer.poll(reading, timeout_s=0 if transfer.is_over else None):
            piece = os.read(reading, _COPY_BYTES)
            if not piece:
                break
            try:
                write_all(output, piece)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise LocalError(f"the output cannot be written: {error.strerror}") from error
        elif transfer.is_over:
            break
    while not transfer.is_over:
        transfer.poll()
