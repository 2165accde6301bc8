"""What of a terminal session is recorded: events, at their times, as lines of an asciicast."""

import time

from lucid.v1.data_pb2 import RecordingAccepted
from node.client.link import RecordingLink
from node.terminal.child import Size
from session import asciicast
from session.asciicast import Code, EventStream, Header


class Cast:
    """The recording of one session, going into a link.

    Times go by the monotonic clock, from the start of the session as the daemon knows it. A session that goes
    on gets no second header, but a marker and its new size.
    """

    def __init__(self) -> None:
        self._link: RecordingLink | None = None
        self._outputs = {descriptor: EventStream(Code.OUTPUT) for descriptor in (1, 2)}
        self._input = EventStream(Code.INPUT)
        self._start = time.monotonic()

    def begin(self, link: RecordingLink, accepted: RecordingAccepted, header: Header) -> None:
        """Writes the header, or says that the session goes on."""
        self._link = link
        elapsed_ns = max(time.time_ns() - accepted.started_ns, 0)
        if accepted.position == 0:
            link.append(asciicast.encode_header(header))
            return
        self._start = time.monotonic() - elapsed_ns / 1e9
        self.add_marker("The recording goes on after an interruption.")
        self.add_resize((header.columns, header.rows))

    def add_output(self, descriptor: int, data: bytes) -> None:
        """What the command wrote to its standard output (1) or error (2)."""
        self._append(self._outputs[descriptor].encode(self._now(), data))

    def add_input(self, data: bytes) -> None:
        """What was typed."""
        self._append(self._input.encode(self._now(), data))

    def add_resize(self, size: Size) -> None:
        """The terminal has a new size."""
        self._append(asciicast.encode_resize(self._now(), *size))

    def add_marker(self, text: str) -> None:
        """Something that a reader should know."""
        self._append(asciicast.encode_event(self._now(), Code.MARKER, text))

    def describe_gap(self, lost_bytes: int) -> bytes:
        """The line that stands where something was lost."""
        text = f"{lost_bytes} bytes of this recording were lost here: the daemon did not take them."
        return asciicast.encode_event(self._now(), Code.MARKER, text)

    def end(self) -> None:
        """Writes what waits for the rest of a character."""
        for stream in (*self._outputs.values(), self._input):
            self._append(stream.flush(self._now()))

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _append(self, lines: bytes) -> None:
        if self._link is not None and lines:
            self._link.append(lines)
