"""A timeline for a terminal: a lane per node, as long as there is room; text at the right says what happened.

    00:02:00.000  │ ✕ │  crash n1: power cut       a mark in each lane that it concerns
    00:02:03.120  ●   ∙  call ×128 for 3.2 s       a lane is empty while its node is down
    00:03:00.000 ─┼───┼─ partition n0 | n1 n2      what the world does goes through all lanes

When the lanes of all nodes do not fit, neighbours share one, and a line says so.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from simnet.world.kinds import FAILURES, Colour, get_look
from simnet.world.notes import make_notes
from simnet.world.timeline import Row, Timeline
from simnet.world.trace import WORLD, Header
from simnet.world.virtual_time import format_span, format_time

if TYPE_CHECKING:
    from rich.text import Text

STYLES = {
    Colour.BAD: "bold bright_red",
    Colour.WARN: "yellow",
    Colour.GOOD: "green",
    Colour.DATA: "bright_blue",
    Colour.CALL: "cyan",
    Colour.STORY: "bold magenta",
    Colour.PLAIN: "bright_black",
}
_LANE_STYLE = "bright_black"
_MIN_TEXT = 34
_MAX_NAME_ROWS = 6


class Lanes:
    """Which column each node's lane is in.

    Attributes:
        groups: nodes of each lane.
        gap: letters between two lanes.
    """

    def __init__(self, nodes: Sequence[str], width: int) -> None:
        """Lanes for these nodes in at most `width` letters."""
        self.gap = 1 if 2 * len(nodes) <= width else 0
        each = max(1, -(-len(nodes) // max(1, width)))
        self.groups = [nodes[first : first + each] for first in range(0, len(nodes), each)]
        self.of_node = {node: lane for lane, group in enumerate(self.groups) for node in group}

    def join(self, letters: Sequence[str], between: str = " ") -> str:
        """One letter per lane, with the gaps."""
        return (between * self.gap).join(letters)


def render(
    header: Header, timeline: Timeline, width: int, *, remarks: Sequence[str] = ()
) -> "Iterator[Text]":
    """The lines, none of them wider than `width`.

    Args:
        header: which run it is.
        timeline: of its trace.
        width: letters of the terminal.
        remarks: more to say about the trace, such as that it is damaged.
    """
    rows = timeline.rows
    time_width = max((len(format_time(row.at_ns)) for row in rows), default=12)
    lanes = Lanes(timeline.lanes, max(8, width - time_width - 4 - _MIN_TEXT))
    title = _make_title(header, timeline)
    title.truncate(width, overflow="ellipsis")
    yield title
    if rows:
        yield from _make_head(lanes, time_width)
    states = _States(timeline)
    for row in rows:
        line = _make_row(row, lanes, states, time_width)
        line.truncate(width, overflow="ellipsis")
        yield line
    yield from _make_foot(timeline, lanes, width, remarks)


class _States:
    """Which nodes are down, as rows go by."""

    def __init__(self, timeline: Timeline) -> None:
        self._spans = [span for span in timeline.spans if span.kind != "partition" and span.place != WORLD]
        self._next = 0
        self._down: dict[str, int | None] = {}

    def find_down(self, at_ns: int) -> set[str]:
        """Nodes that are down at a time; times must not go back."""
        while self._next < len(self._spans) and self._spans[self._next].from_ns <= at_ns:
            span = self._spans[self._next]
            self._down[span.place] = span.until_ns
            self._next += 1
        self._down = {node: end for node, end in self._down.items() if end is None or end > at_ns}
        return set(self._down)


def _make_title(header: Header, timeline: Timeline) -> "Text":
    from rich.text import Text

    nodes = len(timeline.places) - (WORLD in timeline.places)
    length, failed = format_span(timeline.last_ns), timeline.failed
    return Text.assemble(
        (header.scenario, "bold"),
        ": ",
        (f"{failed} failed", STYLES[Colour.BAD]) if failed else ("nothing failed", STYLES[Colour.GOOD]),
        f" (seed {header.seed}, {timeline.count} events on {nodes} nodes in {length})",
    )


def _make_head(lanes: Lanes, time_width: int) -> "Iterator[Text]":
    """The names of the lanes, from top to bottom."""
    from rich.text import Text

    names = [group[0] for group in lanes.groups]
    tall = min(_MAX_NAME_ROWS, max(map(len, names), default=0))
    names = [name[-tall:].rjust(tall) for name in names]
    for row in range(tall):
        yield Text(f"{'':{time_width}}  {lanes.join([name[row] for name in names])}".rstrip(), "bold")
    if tall:
        yield Text("")


def _make_row(row: Row, lanes: Lanes, states: _States, time_width: int) -> "Text":
    from rich.text import Text

    look = get_look(row.kind)
    style = STYLES[look.colour]
    down = states.find_down(row.at_ns)
    touched = {lanes.of_node[place] for place in row.places if place in lanes.of_node}
    through = WORLD in row.places and not touched
    line = Text()
    line.append(f"{format_time(row.at_ns):>{time_width}} ", _LANE_STYLE)
    line.append("─" if through else " ", style if through else _LANE_STYLE)
    for lane, group in enumerate(lanes.groups):
        if lane and lanes.gap:
            line.append("─" if through else " ", style if through else "")
        if lane in touched:
            line.append(look.mark, style)
        else:
            count = sum(node in down for node in group)
            up = "┼" if through else "│" if not count else "╎"
            gone = "─" if through else " "
            line.append(gone if count == len(group) else up, style if through else _LANE_STYLE)
    line.append("─ " if through else "  ", style if through else "")
    _append_text(line, row, style)
    return line


def _append_text(line: "Text", row: Row, style: str) -> None:
    line.append(row.kind, style)
    if row.count > 1:
        line.append(f" ×{row.count}", "bold")
    if len(row.places) > 1:
        line.append(f" on {len(row.places)} nodes")
    elif WORLD not in row.places:
        line.append(f" {next(iter(row.places))}")
    if row.until_ns > row.at_ns:
        line.append(f" for {format_span(row.until_ns - row.at_ns)}", _LANE_STYLE)
    if row.detail and row.count == 1:
        line.append(f"  {row.detail}", "bright_red" if row.kind in FAILURES else "")


def _make_foot(timeline: Timeline, lanes: Lanes, width: int, remarks: Sequence[str]) -> "Iterator[Text]":
    from rich.text import Text

    notes = make_notes(timeline, timeline.rows)
    shared = next((group for group in lanes.groups if len(group) > 1), None)
    if shared:
        notes.append(
            f"There is no room for {len(lanes.of_node)} lanes: each is of up to {len(shared)} neighbours, the"
            f" first of {shared[0]} to {shared[-1]}. Choose some with --node."
        )
    if notes or remarks:
        yield Text("")
    for note in (*notes, *remarks):
        yield from _wrap(note, width, "yellow" if note in remarks else "")


def _wrap(note: str, width: int, style: str) -> "Iterator[Text]":
    import textwrap

    from rich.text import Text

    for line in textwrap.wrap(note, max(20, width)):
        yield Text(line, style)
