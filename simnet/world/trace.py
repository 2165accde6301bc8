"""What happened in a simulated run, line by line; the hash of the lines is the run's identity.

    lucid-trace TAB 1 TAB scenario TAB seed LF
    virtual nanoseconds TAB place TAB kind TAB detail LF     once per event, in the order of time
    end TAB number of events TAB BLAKE3 of all lines before, in hexadecimal LF

All of it is ASCII: the bytes, and so the hash, are the same on every Python, whatever Unicode that knows.
Neither the time of day nor the machine nor the version of the code stands in it: two runs that did the same
have one hash. `head -n -1 FILE | b3sum` gives it, too.
"""

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from blake3 import blake3

from kernel.errors import LocalError, UsageError

FORMAT_VERSION: Final = 1
MAX_NAME = 32
MAX_DETAIL = 400
MAX_TIME_NS = 10**18 - 1
"""Almost 32 years."""
KEPT_LINES = 1000
WORLD = "world"
"""The place of faults and of the story: what concerns all nodes."""

_BATCH = 256
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{MAX_NAME - 1}}}")
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)}


class Event(NamedTuple):
    """Something that happened.

    Attributes:
        at_ns: virtual time since the start of the run, in nanoseconds.
        place: where: the name of a node, or "world".
        kind: what, in one word.
        detail: more about it, in printable ASCII; may be empty.
    """

    at_ns: int
    place: str
    kind: str
    detail: str


class Header(NamedTuple):
    """Which run a trace is of.

    Attributes:
        scenario: name of what was run.
        seed: what all of its randomness was drawn from; not negative.
    """

    scenario: str
    seed: int


class Trace:
    """The trace of one run. Without a file it takes bounded memory: the hash, counts and the last lines.

    Attributes:
        header: which run it is of.
        kinds: events by kind.
        places: events by place.
    """

    def __init__(self, scenario: str, seed: int, path: Path | None = None) -> None:
        """Begins a trace.

        Args:
            scenario: name of what is run: lower-case letters, digits, ".", "_" and "-", at most 32.
            seed: not negative, at most 64 bits.
            path: file to write; what it held before is gone. Batches of lines are written as they come: a
                process that is killed loses the last few. After an error it is closed. None keeps only the
                last lines, in memory.

        Raises:
            UsageError: `scenario` or `seed` is none.
            LocalError: the file cannot be written.
        """
        if not 0 <= seed < 1 << 64:
            raise UsageError(f"the seed {seed} does not fit into 64 bits")
        self.header = Header(_check_name(scenario), seed)
        self.kinds: dict[str, int] = {}
        self.places: dict[str, int] = {}
        self._hasher = blake3()
        self._last_ns = 0
        self._batch: list[str] = []
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._path = path
        self._file: FileIO | None = None
        if path is not None:
            with self._guard():
                self._file = path.open("wb", buffering=0)
        self._put(format_header(self.header))

    def add(self, at_ns: int, place: str, kind: str, detail: str) -> None:
        """Notes an event.

        Args:
            at_ns: virtual time since the start, in nanoseconds; never before the event noted last.
            place: name of a node, or "world"; made up as a scenario's name is.
            kind: one word, made up likewise.
            detail: any text; what is not printable ASCII becomes an escape, what is behind 400 letters "...".

        Raises:
            UsageError: an argument is none of these.
            LocalError: the file cannot be written.
        """
        if not self._last_ns <= at_ns <= MAX_TIME_NS:
            raise UsageError(f"an event at {at_ns} ns cannot follow one at {self._last_ns} ns")
        self._last_ns = at_ns
        try:
            self.kinds[kind] += 1
        except KeyError:
            self.kinds[_check_name(kind)] = 1
        try:
            self.places[place] += 1
        except KeyError:
            self.places[_check_name(place)] = 1
        if len(detail) > MAX_DETAIL or not (detail.isascii() and detail.isprintable()):
            detail = make_printable(detail)
        line = f"{at_ns}\t{place}\t{kind}\t{detail}\n"
        self._batch.append(line)
        if len(self._batch) >= _BATCH:
            self._flush()

    @property
    def count(self) -> int:
        """Number of events so far."""
        return sum(self.kinds.values())

    @property
    def hash_hex(self) -> str:
        """BLAKE3 of header and events so far, in hexadecimal: the identity of the run.

        Raises:
            LocalError: the file cannot be written.
        """
        self._flush()
        return self._hasher.hexdigest()

    @property
    def last_lines(self) -> list[str]:
        """The last 1000 events as they stand in the file, without line ends: for reports of failures."""
        return [line[:-1] for line in deque((*self._kept, *self._batch), maxlen=KEPT_LINES)]

    def close(self) -> None:
        """Writes what is left and the last line, if there is a file; again does nothing.

        Raises:
            LocalError: the file cannot be written.
        """
        file = self._file
        if file is None:
            return
        end = format_end(self.count, self.hash_hex)
        self._file = None
        with self._guard(), file:
            _write_all(file, end.encode("ascii"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _flush(self) -> None:
        """Many lines at once: a call of the hasher for each would cost more than all the rest."""
        if self._batch:
            text = "".join(self._batch)
            self._kept.extend(self._batch)
            self._batch.clear()
            self._put(text)

    def _put(self, text: str) -> None:
        data = text.encode("ascii")
        self._hasher.update(data)
        if self._file is not None:
            with self._guard():
                _write_all(self._file, data)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._file is not None:
                self._file.close()
                self._file = None
            raise LocalError(f"the trace {self._path} cannot be written: {error.strerror}") from error


def _write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def format_header(header: Header) -> str:
    """The first line."""
    return f"lucid-trace\t{FORMAT_VERSION}\t{header.scenario}\t{header.seed}\n"


def format_end(count: int, hash_hex: str) -> str:
    """The last line."""
    return f"end\t{count}\t{hash_hex}\n"


def make_printable(text: str) -> str:
    """`text` in at most 400 letters of printable ASCII; all others become escapes as Python writes them."""
    whole = text[: MAX_DETAIL + 1].encode("ascii", "backslashreplace").decode("ascii").translate(_CONTROLS)
    return whole if len(whole) <= MAX_DETAIL else whole[: MAX_DETAIL - 3] + "..."


def _check_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f'"{make_printable(name)}" is no name in a trace',
            hint=f'At most {MAX_NAME} of a-z, 0-9, ".", "_" and "-"; the first is a letter or digit.',
        )
    return name
