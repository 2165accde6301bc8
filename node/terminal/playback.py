"""What playing a terminal recording is about: its events, when they are shown, and what keys mean.

Rules:
- Pauses are cut to the idle limit. Times that go back (a clock that was set meanwhile) count as no time.
- Lines that cannot be read are left out and counted, so that a damaged recording plays as far as possible.
"""

import re
from collections import deque
from enum import Enum
from typing import Protocol

from kernel.errors import InvalidRecord, Reason
from session import asciicast
from session.asciicast import Code, Event, Header, LineSplitter

_MAX_NOTES = 20
_SEQUENCE = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)


class Source(Protocol):
    """A recording, read from its start."""

    def fileno(self) -> int:
        """The descriptor to poll before `read`."""
        ...

    def read(self) -> bytes:
        """What there is; b"" at the end. May wait if it was not polled."""
        ...

    def close(self) -> None:
        """Ends it, wherever it is."""
        ...


class Key(Enum):
    """What the user wants."""

    PAUSE = (b" ",)
    FORWARD = (b"\x1b[C", b"\x1bOC")
    BACK = (b"\x1b[D", b"\x1bOD")
    HOME = (b"\x1b[H", b"\x1bOH", b"\x1b[1~", b"\x1b[7~")
    END = (b"\x1b[F", b"\x1bOF", b"\x1b[4~", b"\x1b[8~")
    QUIT = (b"q", b"Q", b"\x03")


def parse_keys(data: bytes) -> list[Key]:
    """Keys in what the terminal sent; others (and its answers to what the recording asks it) mean nothing."""
    return [key for sequence in _SEQUENCE.findall(data) for key in Key if sequence in key.value]


class Timeline:
    """Recorded times as times on the screen, at speed 1."""

    def __init__(self, idle_limit_s: float | None) -> None:
        self._idle_limit_s = idle_limit_s
        self._recorded_s = self._shown_s = 0.0

    def add(self, recorded_s: float) -> float:
        """When the next event is shown."""
        pause_s = max(recorded_s - self._recorded_s, 0.0)
        if self._idle_limit_s is not None:
            pause_s = min(pause_s, self._idle_limit_s)
        self._recorded_s = recorded_s
        self._shown_s += pause_s
        return self._shown_s


class Reader:
    """Events of a source, one after the other.

    Attributes:
        header: the first line; None before it was read.
        has_ended: the source has ended, and every event was taken.
    """

    def __init__(self, source: Source, notes: "Notes", idle_limit_s: float | None) -> None:
        self.source = source
        self.header: Header | None = None
        self._has_read_all = False
        self._lines = LineSplitter()
        self._events: deque[tuple[float, Event]] = deque()
        self._notes = notes
        self._idle_limit_s = idle_limit_s
        self._timeline = Timeline(idle_limit_s)

    @property
    def has_ended(self) -> bool:
        """See the class."""
        return self._has_read_all and not self._events

    @property
    def next(self) -> tuple[float, Event] | None:
        """The next event and when it is shown, if it is there already."""
        return self._events[0] if self._events else None

    @property
    def wants_more(self) -> bool:
        """Is it time to `fill`?"""
        return not self._events and not self._has_read_all

    def take(self) -> None:
        """The next event is done with."""
        self._events.popleft()

    def fill(self) -> None:
        """Reads what the source has.

        Raises:
            InvalidRecord: it is no asciicast.
        """
        piece = self.source.read()
        if not piece:
            self._has_read_all = True
            if self.header is None:
                raise InvalidRecord(Reason.MALFORMED, "the recording is empty")
        for line in self._lines.split(piece):
            if self.header is None:
                self.header = asciicast.decode_header(line)
                if self._idle_limit_s is None:
                    self._timeline = Timeline(self.header.idle_limit_s)
            else:
                self._add(line)

    def _add(self, line: bytes) -> None:
        try:
            event = asciicast.decode_event(line)
        except InvalidRecord:
            self._notes.unreadable_lines += 1
            return
        if event.code in (Code.OUTPUT, Code.MARKER):
            self._events.append((self._timeline.add(event.seconds), event))


class Notes:
    """What the user should know when it is over.

    Attributes:
        unreadable_lines: lines that were left out.
        markers: what the recording says about itself, and when.
    """

    def __init__(self) -> None:
        self.unreadable_lines = 0
        self.markers: dict[tuple[float, str], None] = {}

    def add_marker(self, event: Event) -> None:
        """Keeps a marker, once, and not too many."""
        if event.data and len(self.markers) < _MAX_NOTES:
            self.markers[event.seconds, event.data[:200]] = None

    def describe(self) -> list[str]:
        """In words, without control characters."""
        lines = [
            f"at {seconds:.1f} s: {''.join(c if c.isprintable() else ' ' for c in text)}"
            for seconds, text in self.markers
        ]
        if self.unreadable_lines:
            lines.append(
                f"{self.unreadable_lines} lines of the recording could not be read and were left out"
            )
        return lines
