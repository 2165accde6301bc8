"""The figures as a table on the screen, as JSON, and in docs/benchmarks.md with its plots."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.chart import draw_bars
from benchmarks.measures import Figure, Value, format_value

BEGIN = "<!-- figures: written by `make bench ARGS=--write-docs`; begin -->"
END = "<!-- figures: end -->"
_HEADING = re.compile(r"^(?=### )", re.MULTILINE)


@dataclass(frozen=True)
class Context:
    """What the figures belong to.

    Attributes:
        date: UTC, ISO 8601.
        commit: of the sources that were measured.
        machine: what it was measured on.
        programs: versions of the programs compared with.
        settings: sizes and rounds.
    """

    date: str
    commit: str
    machine: Mapping[str, str]
    programs: Mapping[str, str]
    settings: Mapping[str, Value]

    def lines(self) -> dict[str, str]:
        """Everything, one line each."""
        return {
            "date": self.date,
            "commit": self.commit,
            **self.machine,
            "compared with": ", ".join(self.programs.values()) or "nothing",
            "settings": ", ".join(f"{key} {format_value(value)}" for key, value in self.settings.items()),
        }


def render_text(context: Context, figures: Sequence[Figure]) -> str:
    """The report for a terminal."""
    lines = [f"{key:>13}  {value}" for key, value in context.lines().items()]
    for figure in figures:
        lines += ["", figure.title, *_render_table(figure.rows, _pad)]
        lines += [
            f"  {_tell(verdict.reached):<13}{verdict.target}: {verdict.measured}"
            for verdict in figure.verdicts
        ]
    return "\n".join(lines) + "\n"


def render_markdown(context: Context, figure: Figure, plot: str | None) -> str:
    """The section of a figure in docs/benchmarks.md; `plot` is the path of its picture from there."""
    summary = f"Measured {context.date}, commit {context.commit}, {context.machine['processor']}"
    lines = [f"### {figure.title}", "", f"<details><summary>{summary}</summary>", "", "| | |", "|---|---|"]
    lines += [*(f"| {key} | {value} |" for key, value in context.lines().items()), "", "</details>", ""]
    if plot is not None:
        lines += [f"![{figure.title}, as bars]({plot})", ""]
    lines += _render_table(figure.rows, _bar)
    if figure.verdicts:
        lines += ["", "| target | measured | |", "|---|---|---|"]
        lines += [f"| {v.target} | {v.measured} | {_tell(v.reached)} |" for v in figure.verdicts]
    return "\n".join([*lines, "", *(f"- {note}" for note in figure.notes)]) + "\n"


def render_json(context: Context, figures: Sequence[Figure]) -> str:
    """The report for programs: {"context", "figures"}; unrounded."""
    document = {"context": asdict(context), "figures": [asdict(figure) for figure in figures]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write_docs(page: Path, context: Context, figures: Sequence[Figure]) -> None:
    """Puts figures between the markers of the page, each with a plot beside the page if it has bars.

    A figure replaces the one of the same title; the others stay, each with what it says of its own run.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    measured, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r}")
    sections = {_get_title(section): section for section in _HEADING.split(measured)[1:]}
    for figure in figures:
        plot = None
        if figure.bars:
            plot = page.with_name(f"{page.stem}-{figure.name}.svg")
            plot.write_text(draw_bars(figure.bars))
        section = render_markdown(context, figure, plot.name if plot else None)
        sections[_get_title(section)] = section
    text = "\n\n".join(section.strip() for section in sections.values())
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def _get_title(section: str) -> str:
    return section.partition("\n")[0]


def _tell(reached: bool | None) -> str:
    return {True: "reached", False: "NOT reached", None: "reported"}[reached]


def _render_table(
    rows: Sequence[Mapping[str, Value]],
    render_row: Callable[[Sequence[str], Sequence[int], Sequence[bool]], str],
) -> list[str]:
    """Head and rows; a column that is empty throughout is left out, numbers stand right."""
    heads = dict.fromkeys(key for row in rows for key in row)
    columns = [column for column in heads if any(row.get(column) is not None for row in rows)]
    cells = [[format_value(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    right = [any(isinstance(row.get(column), int | float) for row in rows) for column in columns]
    table = [render_row(cell, widths, right) for cell in [columns, *cells]]
    if render_row is _bar:
        table.insert(1, "|" + "|".join("---:" if is_right else "---" for is_right in right) + "|")
    return table


def _pad(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if is_right else cell.ljust(width)
        for cell, width, is_right in zip(cells, widths, right, strict=True)
    ]
    return "  " + "  ".join(padded).rstrip()


def _bar(cells: Sequence[str], _widths: Sequence[int], _right: Sequence[bool]) -> str:
    return "| " + " | ".join(cells) + " |"
