"""What is folded, what is left out, and that it is said."""

import pytest

from kernel.errors import UsageError
from simnet.world.notes import make_notes
from simnet.world.timeline import MAX_MARKS, MAX_PLACES, MAX_ROWS, OTHERS, Choice, Timeline, make_timeline
from simnet.world.timeline_text import render
from simnet.world.trace import Event, Header
from simnet.world.virtual_time import format_span, format_time, parse_time

S = 10**9


def at(second: float, place: str, kind: str, detail: str = "") -> Event:
    return Event(int(second * S), place, kind, detail)


def make(*events: Event, choice: Choice | None = None) -> Timeline:
    return make_timeline(events, choice or Choice())


def show(timeline: Timeline, width: int = 80) -> list[str]:
    return [line.plain for line in render(Header("x", 7), timeline, width)]


def summarize(timeline: Timeline) -> list[tuple[float, str, int, list[str]]]:
    return [(row.at_ns / S, row.kind, row.count, sorted(row.places)) for row in timeline.rows]


def test_runs_of_a_lane_are_folded_across_other_lanes() -> None:
    timeline = make(at(0, "n0", "call"), at(1, "n1", "call"), at(2, "n0", "call"), at(3, "n0", "chunk"))
    assert summarize(timeline) == [(0, "call", 2, ["n0"]), (1, "call", 1, ["n1"]), (3, "chunk", 1, ["n0"])]


def test_no_run_goes_across_what_is_loud() -> None:
    timeline = make(at(0, "n0", "call"), at(1, "n1", "crash"), at(2, "n0", "call"), at(3, "n0", "call"))
    assert [row.count for row in timeline.rows] == [1, 1, 2]


def test_when_runs_do_not_fit_kinds_are_folded_between_what_is_loud() -> None:
    quiet = [
        at(number, f"n{number % 2}", ("call", "chunk")[number // 2 % 2]) for number in range(4 * MAX_ROWS)
    ]
    timeline = make(*quiet, at(4 * MAX_ROWS, "n0", "crash"), at(4 * MAX_ROWS + 1, "n1", "call"))
    assert [(kind, count) for _, kind, count, _ in summarize(timeline)] == [
        ("call", 2 * MAX_ROWS),
        ("chunk", 2 * MAX_ROWS),
        ("crash", 1),
        ("call", 1),
    ]


def test_what_is_loud_stands_by_itself_as_long_as_it_fits() -> None:
    events = []
    for number in range(MAX_ROWS // 2):
        events += [at(3 * number, "n0", "crash"), at(3 * number + 1, "n0", "restart")][number % 2 :][:1]
        events += [at(3 * number + 2, "n1", "call"), at(3 * number + 2.5, "n2", "chunk")]
    rows = make(*events).rows
    assert len(rows) <= MAX_ROWS
    assert sum(row.kind in ("crash", "restart") for row in rows) == MAX_ROWS // 2
    assert sum(row.count for row in rows) == len(events)


def test_everything_is_folded_in_the_end() -> None:
    timeline = make(*(at(number, f"n{number % 50}", "crash", str(number)) for number in range(20 * MAX_ROWS)))
    assert len(timeline.rows) <= MAX_ROWS
    assert sum(row.count for row in timeline.rows) == 20 * MAX_ROWS


def test_marks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simnet.world.timeline.MAX_MARKS", 100)
    timeline = make(*(at(number, f"n{number % 3}", "call") for number in range(5000)))
    assert MAX_MARKS > 100
    assert len(timeline.marks) <= 100
    assert sum(mark.count for mark in timeline.marks) == 5000
    assert all(len(mark.places) == 1 for mark in timeline.marks)
    (note,) = make_notes(timeline, timeline.marks, timeline.marks_window_ns)
    assert "5000 events are shown as" in note


def test_a_choice_leaves_out_and_says_so() -> None:
    events = [at(0, "n0", "call"), at(1, "n1", "call"), at(2, "world", "heal"), at(3, "n1", "chunk")]
    chosen = make(*events, choice=Choice(nodes=frozenset({"n1", "n9"})))
    assert [row.at_ns for row in chosen.rows] == [S, 2 * S, 3 * S]
    assert chosen.lanes == ["n1"]
    assert make_notes(chosen, chosen.rows) == [
        "The trace has no node n9.",
        "1 of 4 events are not in your choice.",
    ]
    assert len(make(*events, choice=Choice(kinds=frozenset({"call"}))).rows) == 2
    assert len(make(*events, choice=Choice(from_ns=S, until_ns=2 * S)).rows) == 2


def test_faults_are_followed_though_they_are_not_chosen() -> None:
    events = [at(0, "n0", "crash"), at(1, "n1", "call"), at(2, "n0", "restart"), at(3, "n1", "call")]
    timeline = make(*events, choice=Choice(kinds=frozenset({"call"})))
    assert [(span.from_ns, span.until_ns) for span in timeline.spans] == [(0, 2 * S)]
    rows = [line for line in show(make(*events)) if "call" in line]
    assert "  ∙  call" in rows[0]
    assert "│ ∙  call" in rows[1]


def test_the_world_heals_all_and_names_whom_it_stops() -> None:
    timeline = make(
        at(0, "n1", "start"),
        at(1, "world", "partition", "n1 | n2"),
        at(2, "n1", "partition"),
        at(3, "world", "crash", "n1: power cut"),
        at(4, "world", "heal"),
        at(5, "n1", "restart"),
        at(6, "n1", "crash"),
    )
    assert [(span.place, span.kind, span.until_ns) for span in timeline.spans] == [
        ("world", "partition", 4 * S),
        ("n1", "partition", 4 * S),
        ("n1", "crash", 5 * S),
        ("n1", "crash", None),
    ]


def test_failures_are_counted_though_they_are_not_chosen() -> None:
    timeline = make(at(0, "n0", "fail", "why"), choice=Choice(kinds=frozenset({"call"})))
    assert (timeline.failed, timeline.failures) == (1, [])
    assert "1 failed" in show(timeline)[0]


def test_too_many_places_and_kinds_share_one() -> None:
    events = [at(number, f"m{number}", f"k{number}") for number in range(MAX_PLACES + 50)]
    timeline = make(*events)
    assert len(timeline.places) == MAX_PLACES + 1
    assert timeline.places[OTHERS] == 50
    assert OTHERS in timeline.kinds
    assert len(make_notes(timeline, timeline.rows)) == 3


def test_lanes_are_in_the_order_of_their_numbers() -> None:
    assert make(*(at(0, name, "call") for name in ("n10", "n2", "a", "world"))).lanes == ["a", "n2", "n10"]


@pytest.mark.parametrize("nodes", [1, 3, 12, 40, 200, 1000])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_line_fits_and_shared_lanes_are_told(nodes: int, width: int) -> None:
    events = [at(number, f"n{number}", "crash", "because of " + "x" * 300) for number in range(nodes)]
    lines = show(make(*events), width)
    assert max(map(len, lines)) <= width
    assert any("There is no room for" in line for line in lines) == (nodes > width - 50)


def test_an_empty_trace_can_be_shown() -> None:
    assert show(make())[0].startswith("x: nothing failed (seed 7, 0 events on 0 nodes")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("1.5", 1.5),
        ("02:03", 7380),
        ("02:03:04.567", 7384.567),
        ("1d 00:00:01", 86401),
        ("1d12h", 129600),
    ],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_time(text) == int(seconds * 1000) * 10**6


@pytest.mark.parametrize("text", ["", "x", "-1", "1:2:3", "00:61", "99999d 00:00", "1e9", "\uff19"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_time(text)


def test_times_are_written_as_they_are_read() -> None:
    for ns in (0, 7384567 * 10**6, 93784567 * 10**6):
        assert parse_time(format_time(ns)) == ns
    assert format_time(93784567 * 10**6) == "1d 02:03:04.567"
    spans = [340 * 10**6, 3.2 * S, 725 * S, 7380 * S, 100800 * S]
    assert [format_span(int(span)) for span in spans] == ["340 ms", "3.2 s", "12m 5s", "2h 3m", "1d 4h"]
