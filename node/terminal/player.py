"""Plays a terminal recording.

Rules:
- Time on the screen is recorded time, with pauses cut to the idle limit, divided by the speed. Seeking counts
  in the same time. Times that go back (a clock that was set during an interruption) count as no time.
- Keys: space pauses and goes on, left and right seek by 5 s, Home and End go to the ends, q quits.
- Memory is bounded, and nothing of the recording is written to disk: to seek back, it is asked for again.
- `follow` starts at the end of what is there and shows what comes as it comes.
- Where standard output is no terminal there is nobody to wait for: all output is written at once.
"""

import contextlib
import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lucid.v1.data_pb2 import GetRecording
from node.client.getting import open_pipe
from node.client.polling import to_milliseconds, write_all
from node.terminal.playback import Key, Notes, Reader, Source, parse_keys
from node.terminal.user_terminal import UserTerminal
from session.asciicast import Code, Header

SEEK_S = 5.0
_READ_BYTES = 64 << 10
# Leave the alternate screen, reset modes and colours, clear, go home.
_CLEAR = b"\x1b[?1049l\x1b[!p\x1b[0m\x1b[2J\x1b[H"
_LEAVE_ALTERNATE = b"\x1b[?1049l"
# What a recorded program may have left on: colours, hidden cursor, mouse, bracketed paste.
_LEAVE = b"\x1b[0m\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l"
_ALTERNATE_SCREEN = re.compile("\x1b\\[\\?(?:1049|1047|47)([hl])")


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """How a recording is played.

    Attributes:
        speed: 2.0 is twice as fast.
        idle_limit_s: no pause is longer; None: as the recording says.
        follow: the recording may still be going on: start at its end and go on with it.
    """

    speed: float = 1.0
    idle_limit_s: float | None = None
    follow: bool = False


class Player:
    """Plays on standard output; keys come from standard input, if that is a terminal.

    Attributes:
        notes: what the user should know when it is over.
    """

    def __init__(
        self, open_source: Callable[[], Source], options: PlayOptions, monotonic: Callable[[], float]
    ) -> None:
        self.notes = Notes()
        self._open_source, self._options, self._monotonic = open_source, options, monotonic
        self._is_live = options.follow
        self._has_keys = os.isatty(0)
        self._paused_at: float | None = None
        self._zero = monotonic()
        self._shown_s = 0.0
        self._is_alternate, self._ends_line = False, True
        self._reader = self._open()

    def play(self) -> None:
        """Plays until the end, or until the user quits.

        Raises:
            InvalidRecord: it is no asciicast.
        """
        try:
            while self._reader.header is None:
                self._reader.fill()
            self._warn_of_size(self._reader.header)
            self._zero = self._monotonic()
            with _keys_at_once() if self._has_keys else contextlib.nullcontext():
                self._loop()
        finally:
            self._reader.source.close()
            self._leave()

    def _loop(self) -> None:
        while not self._reader.has_ended:
            self._show_due()
            for key in self._wait():
                if key is Key.QUIT:
                    return
                self._on_key(key)

    def _show_due(self) -> None:
        position = self._get_position()
        while (upcoming := self._reader.next) is not None and (self._is_live or upcoming[0] <= position):
            self._reader.take()
            self._shown_s, event = upcoming
            if event.code == Code.MARKER:
                self.notes.add_marker(event)
            else:
                self._show(event.data)

    def _show(self, text: str) -> None:
        write_all(1, text.encode(errors="replace"))
        for switch in _ALTERNATE_SCREEN.finditer(text):
            self._is_alternate = switch[1] == "h"
        self._ends_line = text.endswith("\n")

    def _leave(self) -> None:
        """Leaves the terminal usable, whatever was played."""
        # Leaving a screen that was not entered would move the cursor to where it was long ago.
        alternate = _LEAVE_ALTERNATE if self._is_alternate else b""
        write_all(1, alternate + _LEAVE + (b"" if self._ends_line else b"\r\n"))

    def _wait(self) -> list[Key]:
        """Waits for the next event, more of the recording, or keys; gives the keys."""
        poll = select.poll()
        if self._has_keys:
            poll.register(0, select.POLLIN)
        if self._reader.wants_more:
            poll.register(self._reader.source.fileno(), select.POLLIN)
        timeout_s = None
        if self._paused_at is None and (upcoming := self._reader.next) is not None:
            timeout_s = max((upcoming[0] - self._get_position()) / self._options.speed, 0.0)
        ready = dict(poll.poll(to_milliseconds(timeout_s)))
        if self._reader.wants_more and self._reader.source.fileno() in ready:
            self._reader.fill()
        if 0 not in ready:
            return []
        data = os.read(0, 256)
        self._has_keys = bool(data)
        return parse_keys(data)

    def _get_position(self) -> float:
        """Where we are, in time on the screen at speed 1."""
        if self._is_live:
            return self._shown_s
        now = self._monotonic() if self._paused_at is None else self._paused_at
        return (now - self._zero) * self._options.speed

    def _go_to(self, position: float) -> None:
        """From now on time runs from `position`."""
        self._is_live = False
        now = self._monotonic()
        self._zero = now - position / self._options.speed
        if self._paused_at is not None:
            self._paused_at = now

    def _on_key(self, key: Key) -> None:
        position = self._get_position()
        if key is Key.PAUSE:
            is_paused = self._paused_at is not None
            self._paused_at = None if is_paused else self._monotonic()
            self._go_to(position)
        elif key is Key.END:
            self._is_live, self._paused_at = True, None
        elif key is Key.FORWARD:
            if not self._is_live:
                self._go_to(position + SEEK_S)
        else:
            self._start_again()
            self._go_to(0.0 if key is Key.HOME else max(position - SEEK_S, 0.0))

    def _start_again(self) -> None:
        """The screen at an earlier moment is what all output up to then makes of it."""
        self._reader.source.close()
        self._reader = self._open()
        write_all(1, _CLEAR)

    def _open(self) -> Reader:
        return Reader(self._open_source(), self.notes, self._options.idle_limit_s)

    def _warn_of_size(self, header: Header) -> None:
        columns, rows = UserTerminal().get_size()
        if header.columns > columns or header.rows > rows:
            print(
                f"lucid: recorded on {header.columns}x{header.rows}, this terminal has {columns}x{rows}",
                file=sys.stderr,
            )


def play(
    open_source: Callable[[], Source],
    options: PlayOptions,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Plays an asciicast on standard output; keys come from the terminal on standard input.

    Args:
        open_source: gives the asciicast from its start (closed here). Called again to seek back.
        options: how to play it.
        monotonic: seconds that never go back.

    Raises:
        InvalidRecord: it is no asciicast.
        BrokenPipeError: nobody reads standard output any more.
    """
    notes = Notes()
    if os.isatty(1):
        player = Player(open_source, options, monotonic)
        notes = player.notes
        with contextlib.suppress(KeyboardInterrupt):
            player.play()
    else:
        _dump(open_source(), notes)
    for note in notes.describe():
        print(f"lucid: {note}", file=sys.stderr)


def play_session(socket_path: Path, session_id: bytes, options: PlayOptions) -> None:
    """Plays a recording of the daemon behind `socket_path`. Damaged parts are left out, and named at the end.

    Raises:
        Unavailable: the daemon cannot be reached.
        LucidError: what the daemon answered.
        InvalidRecord: it is no terminal recording.
        BrokenPipeError: nobody reads standard output any more.
    """
    request = GetRecording(session_id=session_id, partial=True, follow=options.follow)
    findings: dict[str, None] = {}
    play(lambda: _DaemonSource(socket_path, request, findings), options)
    for finding in findings:
        print(f"lucid: {finding}", file=sys.stderr)


class _DaemonSource:
    """A recording as the daemon writes it into a pipe."""

    def __init__(self, socket_path: Path, request: GetRecording, findings: dict[str, None]) -> None:
        self._transfer, self._reading = open_pipe(socket_path, request)
        self._findings = findings

    def fileno(self) -> int:
        return self._reading

    def read(self) -> bytes:
        piece = os.read(self._reading, _READ_BYTES)
        if not piece:
            while not self._transfer.is_over:
                self._transfer.poll()
            for finding in self._transfer.get_result().findings:
                self._findings[finding.what] = None
        return piece

    def close(self) -> None:
        self._transfer.close()
        os.close(self._reading)


def _dump(source: Source, notes: Notes) -> None:
    try:
        reader = Reader(source, notes, None)
        while not reader.has_ended:
            while (upcoming := reader.next) is not None:
                reader.take()
                if upcoming[1].code == Code.OUTPUT:
                    write_all(1, upcoming[1].data.encode(errors="replace"))
                else:
                    notes.add_marker(upcoming[1])
            if reader.wants_more:
                reader.fill()
    finally:
        source.close()


@contextlib.contextmanager
def _keys_at_once() -> Iterator[None]:
    """Keys come without Enter, and are not shown."""
    before = termios.tcgetattr(0)
    tty.setcbreak(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSANOW, before)
