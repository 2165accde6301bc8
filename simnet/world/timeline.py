"""What of a trace is shown: chosen, folded and counted in one pass, in bounded memory.

- Rows come in four grains, and the finest that fits is taken: a row for each run of like events in a lane;
  for each kind between two loud events; for each loud event, and each quiet kind in a window of time; for
  each kind in a window. Windows double until all fit.
- Marks stand by themselves while they fit; then like events of a lane in a window of time are one mark.
- What a view leaves out is counted, and `notes` says it in plain words.
- Faults are followed through events that the choice leaves out: a node that is down is shown so.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final

from simnet.world.kinds import FAILURES, SPANS, get_look
from simnet.world.trace import MAX_TIME_NS, WORLD, Event

MAX_PLACES: Final = 1000
MAX_KINDS: Final = 40
MAX_ROWS: Final = 300
MAX_MARKS: Final = 60_000
MAX_SPANS: Final = 5000
MAX_FAILURES: Final = 200
_OF_ALL: Final = {"partition", *SPANS["partition"]}
OTHERS: Final = "others"
"""The place and the kind of what is beyond the limits."""

_FIRST_WINDOW_NS = 1_000_000
_LOUD_SHIFT = 6


@dataclass(slots=True)
class Row:
    """Like events that are shown as one.

    Attributes:
        at_ns: of the first.
        until_ns: of the last.
        kind: of all.
        places: events by place.
        count: number of events.
        detail: of the first.
    """

    at_ns: int
    until_ns: int
    kind: str
    places: dict[str, int]
    count: int
    detail: str


@dataclass(slots=True)
class Span:
    """A time of trouble.

    Attributes:
        place: of whom; "world" concerns all.
        kind: what began it.
        from_ns: when.
        until_ns: when it ended; None: not before the trace did.
        detail: of its beginning.
    """

    place: str
    kind: str
    from_ns: int
    until_ns: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody wants to see.

    Attributes:
        nodes: these and the world; empty: all.
        kinds: these; empty: all.
        from_ns: nothing before.
        until_ns: nothing after.
    """

    nodes: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    from_ns: int = 0
    until_ns: int = MAX_TIME_NS

    def has_node(self, place: str) -> bool:
        """Whether a lane is wanted."""
        return not self.nodes or place in self.nodes

    def has(self, event: Event) -> bool:
        """Whether an event is wanted."""
        return (
            self.from_ns <= event.at_ns <= self.until_ns
            and (not self.kinds or event.kind in self.kinds)
            and (event.place == WORLD or self.has_node(event.place))
        )


class Folding:
    """Rows by key, in the order of their first event; at most `limit` of them.

    Attributes:
        window_ns: how wide the windows of time are; 0 while no window was needed.
        is_over: there were more rows than fit, and no wider window helps: it holds none.
    """

    def __init__(self, limit: int, window_key: Callable[[Event, int], Hashable] | None) -> None:
        """An empty one.

        Args:
            limit: most rows.
            window_key: by which rows are joined in windows of so many nanoseconds; None gives up instead.
        """
        self.window_ns = 0
        self.is_over = False
        self._limit = limit
        self._window_key = window_key
        self._rows: dict[Hashable, Row] = {}

    @property
    def rows(self) -> list[Row]:
        """What there is, in order of time."""
        return sorted(self._rows.values(), key=lambda row: row.at_ns)

    def add(self, key: Hashable, event: Event) -> None:
        """Takes an event; `key` tells which row it joins as long as there is no window."""
        if self.is_over:
            return
        if self.window_ns and self._window_key is not None:
            key = self._window_key(event, self.window_ns)
        row = self._rows.get(key)
        if row is None:
            self._rows[key] = Row(event.at_ns, event.at_ns, event.kind, {event.place: 1}, 1, event.detail)
            while len(self._rows) > self._limit and not self.is_over:
                self._widen()
        else:
            row.until_ns = event.at_ns
            row.count += 1
            row.places[event.place] = row.places.get(event.place, 0) + 1

    def _widen(self) -> None:
        rows = self.rows
        self._rows = {}
        if self._window_key is None or self.window_ns > MAX_TIME_NS:
            self.is_over = True
            return
        self.window_ns = self.window_ns * 2 or _FIRST_WINDOW_NS
        for row in rows:
            first = Event(row.at_ns, next(iter(row.places)), row.kind, row.detail)
            self._join(self._window_key(first, self.window_ns), row)

    def _join(self, key: Hashable, row: Row) -> None:
        found = self._rows.setdefault(key, row)
        if found is not row:
            found.until_ns = max(found.until_ns, row.until_ns)
            found.count += row.count
            for place, count in row.places.items():
                found.places[place] = found.places.get(place, 0) + count


def _by_kind(event: Event, window_ns: int) -> Hashable:
    return event.kind, event.at_ns // window_ns


def _by_quiet_kind(event: Event, window_ns: int) -> Hashable:
    return event if get_look(event.kind).is_loud else (event.kind, event.at_ns // window_ns)


def _by_lane(event: Event, window_ns: int) -> Hashable:
    """Loud events are joined only if they are so near to each other that nobody could tell them apart."""
    if get_look(event.kind).is_loud:
        return event.place, event.kind, -1 - event.at_ns // max(1, window_ns >> _LOUD_SHIFT)
    return event.place, event.kind, event.at_ns // window_ns


@dataclass(slots=True)
class Timeline:
    """A trace as views show it.

    Attributes:
        choice: what was wanted.
        places: events of each place, whether chosen or not.
        kinds: chosen events of each kind.
        count: all events.
        chosen: events that the choice has.
        last_ns: of the last event.
        spans: times of trouble of the lanes, the first 5000.
        failed: failures, chosen or not.
        failures: the first 200 that were chosen.
        left_spans: spans beyond.
        left_failures: chosen failures beyond.
    """

    choice: Choice = field(default_factory=Choice)
    places: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    count: int = 0
    chosen: int = 0
    last_ns: int = 0
    spans: list[Span] = field(default_factory=list)
    failed: int = 0
    failures: list[Event] = field(default_factory=list)
    left_spans: int = 0
    left_failures: int = 0
    _open: dict[str, dict[str, Span]] = field(default_factory=dict)
    _runs: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    _epoch: int = 0
    _grains: tuple[Folding, ...] = field(
        default_factory=lambda: tuple(
            Folding(MAX_ROWS, key) for key in (None, None, _by_quiet_kind, _by_kind)
        )
    )
    _marks: Folding = field(default_factory=lambda: Folding(MAX_MARKS, _by_lane))

    def add(self, event: Event) -> None:
        """Takes the next event."""
        event = self._bound(event)
        self.count += 1
        self.last_ns = event.at_ns
        self._follow(event)
        self.failed += event.kind in FAILURES
        if not self.choice.has(event):
            return
        self.chosen += 1
        self.kinds[event.kind] = self.kinds.get(event.kind, 0) + 1
        if event.kind in FAILURES:
            if len(self.failures) < MAX_FAILURES:
                self.failures.append(event)
            else:
                self.left_failures += 1
        self._marks.add(self.chosen, event)
        is_loud = get_look(event.kind).is_loud
        self._epoch += 2 * is_loud  # the loud event, and what is behind it
        kind, epoch, run = self._runs.get(event.place, ("", 0, 0))
        if kind != event.kind or epoch != self._epoch:
            run = self.chosen
        self._runs[event.place] = (event.kind, self._epoch, run)
        for grain, key in zip(
            self._grains, (run, (self._epoch - is_loud, event.kind), self.chosen, self.chosen), strict=True
        ):
            grain.add(key, event)

    @property
    def lanes(self) -> list[str]:
        """The nodes that are wanted, n2 before n10; without the world."""
        return sorted(
            (place for place in self.places if place != WORLD and self.choice.has_node(place)),
            key=natural_key,
        )

    @property
    def rows(self) -> list[Row]:
        """At most 300 rows for a table, in the finest grain that fits."""
        return next(grain for grain in self._grains if not grain.is_over).rows

    @property
    def marks(self) -> list[Row]:
        """At most 60 000 marks for a picture, each of one place."""
        return self._marks.rows

    @property
    def marks_window_ns(self) -> int:
        """Like events of a lane within this time are one mark; 0: each event has its own."""
        return self._marks.window_ns

    @property
    def end_ns(self) -> int:
        """Where a view ends."""
        return min(self.last_ns, self.choice.until_ns)

    def _bound(self, event: Event) -> Event:
        """The event; its place and kind are "others" if there are too many already."""
        place, kind = event.place, event.kind
        if place not in self.places and len(self.places) >= MAX_PLACES:
            place = OTHERS
        if kind not in self.kinds and len(self.kinds) >= MAX_KINDS:
            kind = OTHERS
        self.places[place] = self.places.get(place, 0) + 1
        return (
            event
            if place is event.place and kind is event.kind
            else Event(event.at_ns, place, kind, event.detail)
        )

    def _follow(self, event: Event) -> None:
        """Begins and ends times of trouble. What the world does ends, it ends for all."""
        place = self._find_victim(event)
        for kind, endings in SPANS.items():
            if event.kind in endings:
                of_kind = self._open.get(kind, {})
                for ended in list(of_kind) if place == WORLD else [place]:
                    if span := of_kind.pop(ended, None):
                        span.until_ns = event.at_ns
        if event.kind in SPANS and (place == WORLD or self.choice.has_node(place)):
            of_kind = self._open.setdefault(event.kind, {})
            if place in of_kind:
                return
            if len(self.spans) >= MAX_SPANS:
                self.left_spans += 1
                return
            of_kind[place] = Span(place, event.kind, event.at_ns, None, event.detail)
            self.spans.append(of_kind[place])

    def _find_victim(self, event: Event) -> str:
        """Whom a fault strikes: where the world stops a node, the first word names it."""
        if event.place != WORLD or event.kind in _OF_ALL:
            return event.place
        first = event.detail.partition(" ")[0].rstrip(":,;")
        return first if first in self.places else WORLD


def make_timeline(events: Iterable[Event], choice: Choice) -> Timeline:
    """The timeline of all events."""
    timeline = Timeline(choice)
    for event in events:
        timeline.add(event)
    return timeline


def natural_key(name: str) -> tuple[str, int, str]:
    """Sorts n2 before n10."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or -1), name
