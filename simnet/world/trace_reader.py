"""Reads a trace that anybody may have written.

- A line is matched as a whole before any of it is used, and no more is read of it than a right one may have:
  no file costs more than a pass over it in constant memory.
- What comes before the first wrong byte is given out first; then the error says which line is wrong.
- A file that ends early, even within a line, is no error: its run was killed, or is still going.
  `is_complete` tells.
- The last line must hold the hash of all lines before, and nothing may follow it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from kernel.errors import InvalidRecord, LocalError, NotFound, Reason
from simnet.world.trace import FORMAT_VERSION, MAX_DETAIL, MAX_NAME, Event, Header

MAX_LINE_BYTES = 512
MAX_EVENTS = 100_000_000
"""What nobody would read on; a stream without an end is given up here."""

_NAME = rb"([a-z0-9][a-z0-9._-]{0,%d})" % (MAX_NAME - 1)
_HEADER = re.compile(rb"lucid-trace\t(\d{1,9})\t%s\t(0|[1-9]\d{0,19})\n" % _NAME)
_EVENT = re.compile(rb"(0|[1-9]\d{0,17})\t%s\t%s\t([ -~]{0,%d})\n" % (_NAME, _NAME, MAX_DETAIL))
_END = re.compile(rb"end\t(0|[1-9]\d{0,9})\t([0-9a-f]{64})\n")


class TraceReader:
    """The events of an open trace, once.

    Attributes:
        header: which run it is of.
        count: events given out so far.
        is_complete: the last line was there, and is right.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Reads the first line.

        Raises:
            InvalidRecord: it is no trace, or one of another version.
        """
        self._file = file
        self._hasher = blake3()
        self.count = 0
        self.is_complete = False
        line = file.readline(MAX_LINE_BYTES + 1)
        found = _HEADER.fullmatch(line)
        if found is None:
            raise InvalidRecord(
                Reason.MALFORMED, "this is no trace", hint="A run of a simulated world writes traces."
            )
        if int(found[1]) != FORMAT_VERSION:
            raise InvalidRecord(
                Reason.WRONG_VERSION, f"a trace of version {int(found[1])}; this is {FORMAT_VERSION}"
            )
        self.header = Header(found[2].decode("ascii"), int(found[3]))
        self._hasher.update(line)

    @property
    def hash_hex(self) -> str:
        """BLAKE3 of the lines read so far, in hexadecimal."""
        return self._hasher.hexdigest()

    def __iter__(self) -> Iterator[Event]:
        """The events.

        Raises:
            InvalidRecord: the trace is wrong behind what was given out.
        """
        last_ns = 0
        while (line := self._file.readline(MAX_LINE_BYTES + 1)).endswith(b"\n"):
            found = _EVENT.fullmatch(line)
            if found is None:
                self._finish(line)
                return
            at_ns = int(found[1])
            if at_ns < last_ns:
                raise self._make_error("goes back in time")
            if self.count >= MAX_EVENTS:
                raise InvalidRecord(Reason.TOO_LARGE, f"the trace has more than {MAX_EVENTS} events")
            last_ns = at_ns
            self._hasher.update(line)
            self.count += 1
            yield Event(at_ns, found[2].decode("ascii"), found[3].decode("ascii"), found[4].decode("ascii"))
        if len(line) > MAX_LINE_BYTES:
            raise self._make_error("is too long")

    def _finish(self, line: bytes) -> None:
        found = _END.fullmatch(line)
        if found is None:
            raise self._make_error("is neither an event nor the end")
        if int(found[1]) != self.count or found[2].decode("ascii") != self.hash_hex:
            raise InvalidRecord(Reason.WRONG_HASH, "the trace is not what was written: its hash is another")
        if self._file.read(1):
            raise InvalidRecord(Reason.MALFORMED, "something follows the end of the trace")
        self.is_complete = True

    def _make_error(self, what: str) -> InvalidRecord:
        return InvalidRecord(Reason.MALFORMED, f"line {self.count + 2} of the trace {what}")


@contextmanager
def open_trace(path: Path) -> Iterator[TraceReader]:
    """A trace to read.

    Raises:
        NotFound: there is no such file.
        LocalError: it cannot be read.
        InvalidRecord: it is no trace.
    """
    try:
        with path.open("rb") as file:
            yield TraceReader(file)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}") from error
    except OSError as error:
        raise LocalError(f"{path} cannot be read: {error.strerror}") from error


def read_trace(path: Path) -> Iterator[Event]:
    """The events of a file, for those who need no more.

    Raises:
        NotFound: there is no such file.
        LocalError: it cannot be read.
        InvalidRecord: it is no trace, or wrong behind what was given out.
    """
    with open_trace(path) as trace:
        yield from trace
