import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidRecord
from node.terminal.playback import Key, Notes, Reader, Timeline, parse_keys
from session import asciicast
from session.asciicast import Code, Event, Header

HEADER = asciicast.encode_header(Header(80, 24, idle_limit_s=2.0))


class Pieces:
    """A source that gives one piece at a time."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = [*pieces, b""]

    def fileno(self) -> int:
        return -1

    def read(self) -> bytes:
        return self._pieces.pop(0)

    def close(self) -> None:
        self._pieces = []


def read_all(reader: Reader) -> list[tuple[float, str]]:
    found = []
    while not reader.has_ended:
        while (upcoming := reader.next) is not None:
            found.append((upcoming[0], upcoming[1].data))
            reader.take()
        if reader.wants_more:
            reader.fill()
    return found


def test_pauses_are_cut() -> None:
    timeline = Timeline(2.0)
    assert [timeline.add(seconds) for seconds in (1.0, 1.5, 9.5, 10.0)] == [1.0, 1.5, 3.5, 4.0]


def test_a_clock_that_goes_back_costs_no_time() -> None:
    timeline = Timeline(None)
    assert [timeline.add(seconds) for seconds in (5.0, 3.0, 4.0)] == [5.0, 5.0, 6.0]


def test_events_whatever_the_pieces() -> None:
    lines = HEADER + b"".join(asciicast.encode_event(n, Code.OUTPUT, str(n)) for n in range(3))
    for size in (1, 7, 1000):
        pieces = [lines[start : start + size] for start in range(0, len(lines), size)]
        assert read_all(Reader(Pieces(*pieces), Notes(), None)) == [(0.0, "0"), (1.0, "1"), (2.0, "2")]


def test_the_recordings_own_idle_limit_counts_unless_another_is_given() -> None:
    lines = HEADER + asciicast.encode_event(10, Code.OUTPUT, "x")
    assert read_all(Reader(Pieces(lines), Notes(), None)) == [(2.0, "x")]
    assert read_all(Reader(Pieces(lines), Notes(), 5.0)) == [(5.0, "x")]


def test_unreadable_lines_are_counted_and_unknown_events_left_out() -> None:
    notes = Notes()
    lines = (
        HEADER + b'garbage\n[1, "b", "AA=="]\n[1, "z", "?"]\n[1, "r", "1x1"]\n[1, "o", "x"]\n[2, "o", "torn'
    )
    assert read_all(Reader(Pieces(lines), notes, None)) == [(1.0, "x")]
    assert notes.describe() == ["1 lines of the recording could not be read and were left out"]


@pytest.mark.parametrize("contents", [b"", b"no cast\n", b'{"version": 2', b"{}\n"])
def test_what_is_no_recording(contents: bytes) -> None:
    with pytest.raises(InvalidRecord):
        read_all(Reader(Pieces(contents) if contents else Pieces(), Notes(), None))


def test_markers_are_told_once_and_without_control_characters() -> None:
    notes = Notes()
    for _ in range(2):
        notes.add_marker(Event(1.25, "m", "lost\x1b]0;evil\x07"))
    notes.add_marker(Event(2.0, "m", ""))
    assert notes.describe() == ["at 1.2 s: lost ]0;evil "]
    for number in range(100):
        notes.add_marker(Event(number, "m", "x" * 1000))
    assert len(notes.describe()) <= 20
    assert max(len(line) for line in notes.describe()) < 300


def test_keys() -> None:
    assert parse_keys(b" \x1b[Cq") == [Key.PAUSE, Key.FORWARD, Key.QUIT]
    assert parse_keys(b"\x1bOD\x1b[H\x1b[4~") == [Key.BACK, Key.HOME, Key.END]
    assert parse_keys(b"\x1b[24;80R\x1b[?1;2cx\n") == []  # what a terminal answers is no key


@given(st.binary(max_size=40))
def test_any_bytes_are_some_keys(data: bytes) -> None:
    assert len(parse_keys(data)) <= len(data)
