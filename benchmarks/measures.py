"""Figures: what was measured, of how many, and whether the target was reached.

Medians tell what is usual, minimum and maximum how far to trust them. Percentiles are nearest-rank: a value
that was measured, never one in between.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

Value = float | int | str | None
MEGABYTE = 1e6


def compute_percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the least value that `percent` of all values do not exceed.

    Raises:
        ValueError: there are no values, or `percent` is not within 0…100.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"percentile {percent} of {len(values)} values")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


@dataclass(frozen=True)
class Summary:
    """Repeated measurements of one thing.

    Attributes:
        median: middle value, mean of the two middle ones for an even count.
        least: smallest value.
        greatest: greatest value.
        count: how many there were.
    """

    median: float
    least: float
    greatest: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """The summary of at least one value."""
        if not values:
            raise ValueError("nothing was measured")
        return cls(median(values), min(values), max(values), len(values))

    def cells(self, name: str) -> dict[str, Value]:
        """Columns of a table: the median, and the range if there is one."""
        spread = f"{format_value(self.least)} to {format_value(self.greatest)}" if self.count > 1 else None
        return {name: self.median, f"{name} range": spread}


@dataclass(frozen=True)
class Verdict:
    """One target of a figure, and what became of it.

    Attributes:
        target: the target in words.
        measured: the measured value.
        reached: whether it meets the target; None where it is only reported.
    """

    target: str
    measured: str
    reached: bool | None


@dataclass
class Figure:
    """One table of the report.

    Attributes:
        name: short name, as given to `--only`.
        title: what was measured.
        rows: one per subject; all with the same keys, the column heads with their units.
        verdicts: the targets.
        notes: how it was measured, one sentence each.
        bars: for the plot: heading with unit → (subject, value).
    """

    name: str
    title: str
    rows: list[dict[str, Value]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bars: dict[str, list[tuple[str, float]]] = field(default_factory=dict)


def judge_at_most(target: str, measured: float, bound: float, unit: str) -> Verdict:
    """A verdict for "no more than"."""
    return Verdict(target, f"{format_value(measured)} {unit}", measured <= bound)


def judge_at_least(target: str, measured: float, bound: float, unit: str) -> Verdict:
    """A verdict for "no less than"."""
    return Verdict(target, f"{format_value(measured)} {unit}", measured >= bound)


def judge_speedup(target: str, ours: float, others: Mapping[str, float], factor: float) -> Verdict | None:
    """A verdict for "so many times as fast as the fastest of the others"; None if there are no others."""
    if not others:
        return None
    name = min(others, key=lambda other: others[other])
    ratio = others[name] / ours
    return Verdict(target, f"{ratio:.2f} times as fast as {name}", ratio >= factor)


def format_value(value: Value) -> str:
    """A cell as text: three significant digits for numbers with a fraction."""
    if value is None:
        return ""
    if isinstance(value, float):
        digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else value


def interleave(subjects: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """A B C, A B C, …: what changes on the machine meanwhile touches all alike."""
    for number in range(rounds):
        for subject in subjects:
            yield number, subject


Report = Callable[[str], None]
"""Tells the reader what is being done, one line at a time."""
