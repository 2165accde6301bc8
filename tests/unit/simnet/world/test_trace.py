"""The trace: what stands in it, its identity, and how little it costs to keep."""

from pathlib import Path

import pytest
from blake3 import blake3

from kernel.errors import LocalError, UsageError
from simnet.world.trace import KEPT_LINES, MAX_DETAIL, MAX_TIME_NS, Event, Trace
from simnet.world.trace_reader import MAX_LINE_BYTES, open_trace, read_trace


def write(path: Path | None, count: int) -> Trace:
    with Trace("churn", 7, path) as trace:
        for number in range(count):
            trace.add(number * 10, f"n{number % 3}", "call", f"put {number}")
    return trace


def test_the_file_holds_what_was_added(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    trace = write(path, 1000)
    with open_trace(path) as reader:
        events = list(reader)
        assert reader.header == ("churn", 7)
        assert reader.is_complete
        assert reader.hash_hex == trace.hash_hex
    assert events == [Event(number * 10, f"n{number % 3}", "call", f"put {number}") for number in range(1000)]
    assert trace.count == 1000
    assert trace.places == {"n0": 334, "n1": 333, "n2": 333}


def test_the_hash_is_of_all_bytes_before_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    trace = write(path, 300)
    lines = path.read_bytes().splitlines(keepends=True)
    assert blake3(b"".join(lines[:-1])).hexdigest() == trace.hash_hex
    assert lines[-1] == f"end\t300\t{trace.hash_hex}\n".encode()


def test_the_identity_needs_no_file_and_depends_on_everything(tmp_path: Path) -> None:
    assert write(None, 300).hash_hex == write(tmp_path / "trace", 300).hash_hex

    def identify(
        scenario: str = "a", seed: int = 1, at_ns: int = 2, place: str = "n", kind: str = "k"
    ) -> str:
        trace = Trace(scenario, seed)
        trace.add(at_ns, place, kind, "")
        return trace.hash_hex

    variants = [identify(), identify("b"), identify(seed=2), identify(at_ns=3), identify(place="m")]
    assert len({*variants, identify(kind="l")}) == 6
    assert identify() == identify()


def test_asking_for_the_hash_changes_nothing() -> None:
    asked = Trace("churn", 7)
    for number in range(300):
        asked.add(number * 10, f"n{number % 3}", "call", f"put {number}")
        _ = asked.hash_hex
    assert asked.hash_hex == write(None, 300).hash_hex


def test_the_last_lines_are_kept_and_no_more() -> None:
    trace = write(None, 3 * KEPT_LINES)
    assert len(trace.last_lines) == KEPT_LINES
    assert trace.last_lines[-1] == f"{(3 * KEPT_LINES - 1) * 10}\tn2\tcall\tput {3 * KEPT_LINES - 1}"


@pytest.mark.parametrize(
    "detail",
    [
        "",
        "a\nb\tc",
        "\x1b[2J",
        "ü × 漢",
        "\udc80",
        "\x7f",
        "\u202e",
        "x" * 5000,
        "\n" * 5000,
        "x" * MAX_DETAIL,
    ],
)
def test_any_detail_becomes_a_line_that_can_be_read(detail: str, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    with Trace("x", 0, path) as trace:
        trace.add(MAX_TIME_NS, "n" * 32, "k" * 32, detail)
    assert max(map(len, path.read_bytes().splitlines(keepends=True))) <= MAX_LINE_BYTES
    (event,) = read_trace(path)
    assert event.detail.isascii()
    assert event.detail.isprintable() or not event.detail
    if detail.isascii() and detail.isprintable() and len(detail) <= MAX_DETAIL:
        assert event.detail == detail


@pytest.mark.parametrize("name", ["", "N1", "a b", "a\tb", "a\n", "-a", "x" * 33, "ü"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        Trace(name, 0)
    with pytest.raises(UsageError):
        Trace("x", 0).add(0, name, "call", "")
    with pytest.raises(UsageError):
        Trace("x", 0).add(0, "n0", name, "")


def test_time_does_not_go_back_or_beyond() -> None:
    trace = Trace("x", 0)
    trace.add(5, "n0", "call", "")
    trace.add(5, "n0", "call", "")
    for at_ns in (4, -1, MAX_TIME_NS + 1):
        with pytest.raises(UsageError):
            trace.add(at_ns, "n0", "call", "")
    assert trace.count == 2
    for seed in (-1, 1 << 64):
        with pytest.raises(UsageError):
            Trace("x", seed)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(LocalError):
        Trace("x", 0, tmp_path)
    with pytest.raises(LocalError), Trace("x", 0, Path("/dev/full")):
        pass


def test_a_run_that_fails_leaves_a_whole_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    with pytest.raises(ZeroDivisionError), Trace("x", 0, path) as trace:
        trace.add(1, "n0", "call", "")
        _ = 1 // 0
    assert len(list(read_trace(path))) == 1
    trace.close()
