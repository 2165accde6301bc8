"""The link of one recording to the daemon: sends, remembers, reconnects, sends again.

Rules (docs/spec/06-data-socket.md):
- Nothing here blocks, except `wait`. The owner of the event loop polls `fileno()` for `events()`, at most
  `timeout_s()` long, and calls `pump()` after every poll.
- At most WINDOW_BYTES are unacknowledged: the owner appends no more than there is `room` for. While bytes are
  being let go, it may: what finds no room is lost.
- A link is *overdue* when there was no progress for RECONNECT_S after a loss, or at once when the daemon
  refuses for good. Its owner then gives up, or calls `let_go()`, until acknowledgements come again.
- Only progress ends that count: a daemon that accepts and fails again and again is as good as none.
- The end of the source is tried at once, however long the daemon has been away: a later try may never come.
"""

import select
import socket
from collections.abc import Callable
from pathlib import Path

from kernel.errors import InvalidRecord, LucidError, Reason, StoreError, Unavailable
from lucid.v1.data_pb2 import (
    ClientFrame,
    ContinueRecording,
    DataPiece,
    FinishRecording,
    RecordingAccepted,
    RecordingDone,
    ServerFrame,
    TransferProgress,
)
from node.client import frames
from node.client.polling import to_milliseconds
from node.client.unacknowledged import Unacknowledged
from node.failures import decode_failure, may_pass

WINDOW_BYTES = 8 << 20
RECONNECT_S = 30.0
STALL_S = 30.0
ACCEPT_S = 10.0
_LAST_FRAMES = 64
_FIRST_RETRY_S, _LAST_RETRY_S, _QUIET_RETRY_S = 0.05, 1.0, 5.0

Monotonic = Callable[[], float]


class _Silence(Unavailable):
    """The daemon has been silent for as long as a lost one may be."""


class RecordingLink:
    """One recording, seen from its client.

    Attributes:
        accepted: the daemon's answer to the latest connection; None before the first.
        done: the session as the daemon closed it.
        refusal: why the daemon will never take more; None while it may.
        loss: why there is no connection now; None while there is one.
        lost_bytes: bytes that were let go.
        is_letting_go: bytes without room are lost instead of waiting for room.
    """

    def __init__(
        self,
        socket_path: Path,
        request: ClientFrame,
        monotonic: Monotonic,
        *,
        descriptor: int | None = None,
        by_lines: bool = False,
        on_gap: Callable[[int], bytes] | None = None,
        on_progress: Callable[[TransferProgress], None] | None = None,
    ) -> None:
        """Connects, and sends the request.

        Args:
            socket_path: data socket of the daemon.
            request: `start` or `continue_recording`.
            monotonic: seconds that never go back.
            descriptor: the file to record, passed with every connection; stays the caller's.
            by_lines: pieces end where lines end.
            on_gap: gives the bytes that tell, in the recording, that so many bytes were let go.
            on_progress: told what the daemon says about its progress.

        Raises:
            Unavailable: the daemon cannot be reached.
        """
        self.accepted: RecordingAccepted | None = None
        self.done: RecordingDone | None = None
        self.refusal: LucidError | None = None
        self.loss: LucidError | None = None
        self.lost_bytes = 0
        self._path, self._request, self._monotonic = socket_path, request, monotonic
        self._descriptor, self._by_lines = descriptor, by_lines
        self._on_gap, self._on_progress = on_gap, on_progress
        self._held = Unacknowledged(0)
        self._ending: FinishRecording | None = None
        self.is_letting_go = False
        self._gap_bytes = 0
        self._stored_progress = 0
        self._retry_s = _FIRST_RETRY_S
        self._retry_at: float | None = None
        self._trouble_at: float | None = None
        self._progress_at = self._connected_at = monotonic()
        self._socket: socket.socket | None = None
        self._connect()

    # What the owner of the loop needs to know

    def fileno(self) -> int | None:
        """The descriptor to poll; None while there is no connection."""
        return self._socket.fileno() if self._socket else None

    def events(self) -> int:
        """What to poll it for."""
        has_more = self._is_accepted and (self._held.has_unsent or self._may_finish())
        return select.POLLIN | (select.POLLOUT if self._outgoing or has_more else 0)

    def timeout_s(self) -> float | None:
        """Call `pump` after so many seconds at the latest; None: only when the socket is ready."""
        moments = []
        if self._socket is None:
            moments.append(self._retry_at)
        elif not self._is_accepted:
            moments.append(self._connected_at + ACCEPT_S)
        elif self._expects_answer():
            moments.append(self._progress_at + STALL_S)
        if self._trouble_at is not None and not self.is_overdue:
            moments.append(self._trouble_at + RECONNECT_S)
        known = [moment for moment in moments if moment is not None]
        return max(min(known) - self._monotonic(), 0.0) if known else None

    @property
    def position(self) -> int:
        """Bytes of the source so far, those that were let go included."""
        return self._held.end

    @property
    def acknowledged(self) -> int:
        """Position up to which the daemon has the source."""
        return self._held.acknowledged

    @property
    def unacknowledged_bytes(self) -> int:
        """Bytes that only this process has."""
        return self._held.size_bytes

    @property
    def room(self) -> int:
        """How many bytes may be appended now."""
        return max(WINDOW_BYTES - self._held.size_bytes, 0)

    @property
    def is_overdue(self) -> bool:
        """There was no progress for RECONNECT_S, or there never will be."""
        if self.refusal is not None:
            return True
        return self._trouble_at is not None and self._monotonic() - self._trouble_at >= RECONNECT_S

    @property
    def is_given_up(self) -> bool:
        """It is overdue, and no try is under way: whoever has nothing else to do need not wait."""
        return self.is_overdue and self._socket is None

    # What the owner of the recording does

    def append(self, data: bytes) -> None:
        """Takes the next bytes of the source, whole lines if the link is by lines."""
        if self.is_letting_go and (self._gap_bytes or len(data) > self.room):
            self._held.skip(len(data))
            self._gap_bytes += len(data)
            self.lost_bytes += len(data)
            return
        if not self._held.size_bytes:
            self._progress_at = self._monotonic()  # silence counts from here
        self._held.append(data)

    def finish(self, exit_status: int | None = None) -> None:
        """The source has ended: `done` follows when the daemon has closed the session."""
        self._ending = FinishRecording(has_exit_status=exit_status is not None, exit_status=exit_status or 0)
        self._progress_at = self._monotonic()
        if self._retry_at is not None:
            self._retry_at = self._progress_at

    def let_go(self) -> None:
        """From now on bytes that find no room are lost."""
        self.is_letting_go = True

    def pump(self, events: int = 0) -> None:
        """Receives, reconnects and sends, as far as possible without waiting.

        Args:
            events: what the poll reported for `fileno()`.
        """
        try:
            if self._socket is None:
                if self._retry_at is not None and self._monotonic() >= self._retry_at:
                    self._connect()
            elif events & ~select.POLLOUT:
                self._receive()
            self._check_silence()
            self._send()
        except LucidError as error:
            self._lose(self._get_last_word() or error)

    def wait(self, is_reached: Callable[[], bool]) -> None:
        """Does nothing else until something is reached.

        Raises:
            LucidError: it cannot be reached any more; why.
        """
        while not is_reached():
            if self.is_overdue:
                raise self.describe_loss()
            self.poll()

    def wait_accepted(self) -> RecordingAccepted:
        """The daemon's first answer, when it is there.

        Raises:
            LucidError: the daemon refuses, or does not answer.
        """
        self.wait(lambda: self.accepted is not None)
        if self.accepted is None:
            raise self.describe_loss()
        return self.accepted

    def wait_done(self) -> RecordingDone:
        """The session as the daemon closed it, when it has.

        Raises:
            LucidError: it will not; why.
        """
        self.wait(lambda: self.done is not None)
        if self.done is None:
            raise self.describe_loss()
        return self.done

    def poll(self, *others: int) -> list[int]:
        """Waits until the link or one of `others` can be read, or the link wants to be pumped; pumps it.

        Returns:
            Those of `others` that can be read.
        """
        poll = select.poll()
        for other in others:
            poll.register(other, select.POLLIN)
        connection = self.fileno()
        if connection is not None:
            poll.register(connection, self.events())
        ready = dict(poll.poll(to_milliseconds(self.timeout_s())))
        self.pump(0 if connection is None else ready.get(connection, 0))
        return [other for other in others if other in ready]

    def describe_loss(self) -> LucidError:
        """What to say when the link is given up."""
        if isinstance(self.loss, StoreError):
            return self.loss
        return self.refusal or Unavailable(
            f"there was no progress with the daemon for {RECONNECT_S:.0f} s"
            + (f" ({self.loss})" if self.loss else ""),
            hint="What was acknowledged is kept. When the daemon runs again: `lucid-node session recover`.",
        )

    def close(self) -> None:
        """Ends the connection. The daemon interrupts the session unless it is done."""
        if self._socket:
            self._socket.close()
        self._socket = None
        self._retry_at = None

    # The connection

    def _connect(self) -> None:
        self._is_accepted = self._has_finished = False
        self._connected_at = self._monotonic()
        self._socket = frames.connect(self._path)
        self._reader = frames.FrameReader(self._socket)
        request = self._request
        if self.accepted is not None:
            request = ClientFrame(
                continue_recording=ContinueRecording(
                    session_id=self.accepted.session_id, resume_token=self.accepted.resume_token
                )
            )
        self._outgoing = memoryview(frames.encode_frame(request))
        self._rights = self._descriptor

    def _lose(self, error: LucidError) -> None:
        """The connection is of no use any more: when will there be another?"""
        if self._socket:
            self._socket.close()
        self._socket = None
        self._outgoing = memoryview(b"")
        self.loss = error
        if self.done or self.accepted is None or not may_pass(error):
            self.refusal = None if self.done else error
            self._retry_at = None
            return
        if self._trouble_at is None:
            self._trouble_at = self._progress_at if isinstance(error, _Silence) else self._monotonic()
        retry_s = _QUIET_RETRY_S if self.is_overdue else self._retry_s
        self._retry_at = self._monotonic() + retry_s
        self._retry_s = min(self._retry_s * 2, _LAST_RETRY_S)

    def _check_silence(self) -> None:
        if self._socket is None:
            return
        now = self._monotonic()
        if not self._is_accepted and now - self._connected_at >= ACCEPT_S:
            raise Unavailable(f"the daemon took the connection, but did not answer for {ACCEPT_S:.0f} s")
        if self._is_accepted and self._expects_answer() and now - self._progress_at >= STALL_S:
            raise _Silence(f"the daemon has not acknowledged anything for {STALL_S:.0f} s")

    def _expects_answer(self) -> bool:
        return bool(self._held.size_bytes) or self._ending is not None

    def _get_last_word(self) -> LucidError | None:
        """What the daemon said before it closed a connection that we were still sending on."""
        try:
            for _ in range(_LAST_FRAMES if self._socket else 0):
                self._receive()
        except LucidError as error:
            return error if not isinstance(error, Unavailable) else None
        return None

    def _receive(self) -> None:
        for frame in self._reader.receive():
            self._process(frame)

    def _process(self, frame: ServerFrame) -> None:
        kind = frame.WhichOneof("kind")
        if kind == "failure":
            raise decode_failure(frame.failure)
        if kind == "recorded":
            self.done = frame.recorded
            self.close()
        elif kind == "accepted" and not self._is_accepted:
            self._on_accepted(frame.accepted)
        elif kind == "acknowledged" and self._is_accepted:
            if self._held.acknowledge(frame.acknowledged.position):
                self._on_new_progress()
        elif kind == "progress" and self._is_accepted:
            if frame.progress.plaintext_bytes > self._stored_progress:
                self._stored_progress = frame.progress.plaintext_bytes
                self._on_new_progress()
            if self._on_progress:
                self._on_progress(frame.progress)
        else:
            raise InvalidRecord(Reason.MALFORMED, f"the daemon sent {kind} when it was not its turn")

    def _on_accepted(self, accepted: RecordingAccepted) -> None:
        if self.accepted is None:
            self._held = Unacknowledged(accepted.position)
        elif accepted.session_id != self.accepted.session_id:
            raise InvalidRecord(Reason.WRONG_SESSION, "the daemon goes on in another session")
        elif self._descriptor is None:
            self._held.acknowledge(accepted.position)
        self.accepted = accepted
        self._is_accepted = True
        self._progress_at = self._monotonic()
        self.loss = None
        self._held.rewind()
        if self._descriptor is None and not self._held.size_bytes:
            self._on_new_progress()

    def _on_new_progress(self) -> None:
        self._progress_at = self._monotonic()
        self._retry_s = _FIRST_RETRY_S
        self._trouble_at = None
        self.is_letting_go = False
        if self._gap_bytes:
            lost, self._gap_bytes = self._gap_bytes, 0
            if self._on_gap:
                self._held.append(self._on_gap(lost))

    def _send(self) -> None:
        while self._socket is not None:
            if not self._outgoing:
                frame = self._next_frame() if self._is_accepted else None
                if frame is None:
                    return
                self._outgoing = memoryview(frames.encode_frame(frame))
            sent = frames.send(self._socket, self._outgoing, self._rights)
            if not sent:
                return
            self._rights = None
            self._outgoing = self._outgoing[sent:]

    def _may_finish(self) -> bool:
        """May the end be sent? Not before the marker of a gap, which waits for progress."""
        return self._ending is not None and not self._has_finished and not self._gap_bytes

    def _next_frame(self) -> ClientFrame | None:
        piece = self._held.take(frames.MAX_PIECE_BYTES, by_lines=self._by_lines)
        if piece is not None:
            return ClientFrame(data=DataPiece(position=piece[0], data=piece[1]))
        if self._ending is None or not self._may_finish():
            return None
        self._has_finished = True
        return ClientFrame(finish=self._ending)
