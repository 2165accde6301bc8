"""Traces that nobody wrote like that."""

from pathlib import Path

import pytest

from kernel.errors import InvalidRecord, LocalError, NotFound, Reason
from simnet.world.trace import Event, Trace
from simnet.world.trace_reader import open_trace, read_trace

HEADER = b"lucid-trace\t1\tx\t7\n"


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    with Trace("x", 7, tmp_path / "whole") as trace:
        for number in range(5):
            trace.add(number, "n0", "call", "put")
    return (tmp_path / "whole").read_bytes()


def read(path: Path, data: bytes) -> tuple[list[Event], bool, InvalidRecord | None]:
    """What can be read, whether it is complete, and what is wrong."""
    path.write_bytes(data)
    events: list[Event] = []
    try:
        with open_trace(path) as reader:
            try:
                events.extend(event for event in reader)
            except InvalidRecord as error:
                return events, reader.is_complete, error
            return events, reader.is_complete, None
    except InvalidRecord as error:
        return events, False, error


def test_every_cut_is_shown_up_to_where_it_is_right(whole: bytes, tmp_path: Path) -> None:
    for length in range(len(HEADER), len(whole)):
        events, is_complete, error = read(tmp_path / "cut", whole[:length])
        assert error is None
        assert not is_complete
        assert len(events) == min(5, whole[:length].count(b"\n") - 1)
    assert read(tmp_path / "whole", whole)[1]


def test_every_changed_byte_is_found(whole: bytes, tmp_path: Path) -> None:
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1
        _, is_complete, error = read(tmp_path / "changed", bytes(changed))
        # A last line without its end is one that was cut.
        assert error is not None or position == len(whole) - 1, position
        assert not is_complete


@pytest.mark.parametrize(
    "line",
    [
        b"x\n",
        b"-1\tn0\tcall\t\n",
        b"01\tn0\tcall\t\n",
        b"1\tn0\tcall\n",
        b"1\tn0\tcall\ta\tb\n",
        b"1\tN0\tcall\t\n",
        b"1\tn0\tcall\t\x1b[2J\n",
        b"1\tn0\tcall\t\xff\n",
        b"1\tn0\tcall\t\r\n",
        b"1\tn0\tcall\t" + b"x" * 401 + b"\n",
        b"1" * 600,
        b"1" * 19 + b"\tn0\tcall\t\n",
        b"end\t0\t" + b"0" * 64 + b"\n",
        b"\n",
    ],
)
def test_what_stands_before_a_wrong_line_is_given_out(line: bytes, tmp_path: Path) -> None:
    events, is_complete, error = read(tmp_path / "trace", HEADER + b"0\tn0\tstart\t\n" + line)
    assert events == [Event(0, "n0", "start", "")]
    assert not is_complete
    assert error is not None


def test_time_that_goes_back_is_refused(tmp_path: Path) -> None:
    events, _, error = read(tmp_path / "trace", HEADER + b"5\tn0\tcall\t\n4\tn0\tcall\t\n")
    assert len(events) == 1
    assert "line 3" in str(error)


def test_nothing_may_follow_the_end(whole: bytes, tmp_path: Path) -> None:
    events, is_complete, error = read(tmp_path / "trace", whole + b"\n")
    assert len(events) == 5
    assert not is_complete
    assert error is not None


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"lucid-trace\t1\tx\t7", Reason.MALFORMED),
        (b"lucid-trace\t2\tx\t7\n", Reason.WRONG_VERSION),
        (b"lucid-trace\t1\tx\t-7\n", Reason.MALFORMED),
        (b"\x7fELF" + b"\0" * 4096, Reason.MALFORMED),
    ],
)
def test_what_is_no_trace_is_refused(header: bytes, reason: Reason, tmp_path: Path) -> None:
    _, _, error = read(tmp_path / "trace", header)
    assert error is not None
    assert error.reason is reason


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        list(read_trace(tmp_path / "nothing"))
    with pytest.raises(LocalError):
        list(read_trace(tmp_path))
    with pytest.raises(InvalidRecord):
        list(read_trace(Path("/dev/zero")))


def test_too_many_events_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simnet.world.trace_reader.MAX_EVENTS", 3)
    events, _, error = read(tmp_path / "trace", HEADER + b"0\tn0\tcall\t\n" * 9)
    assert len(events) == 3
    assert error is not None
    assert error.reason is Reason.TOO_LARGE
