"""The commands of `lucid-simnet` for traces of simulated worlds."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from simnet.world.timeline import Choice, Timeline
    from simnet.world.trace_reader import TraceReader

MIN_WIDTH = 60


@click.command("show")
@click.option(
    "--node", "nodes", metavar="N", multiple=True, help="Only this node and the world; again for more."
)
@click.option("--kind", "kinds", metavar="K", multiple=True, help="Only events of this kind; again for more.")
@click.option(
    "--from", "from_text", metavar="T", help='From this virtual time on: "1d 02:03:04.567", "90", "1d12h".'
)
@click.option("--until", "until_text", metavar="T", help="Up to this virtual time.")
@click.option(
    "--html", "page", metavar="FILE", help="Write a page for a browser instead; it needs no other file."
)
@click.option("--force", is_flag=True, help="Overwrite FILE if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.argument("trace", metavar="TRACE", type=click.Path(path_type=Path))
def show_command(
    trace: Path,
    nodes: tuple[str, ...],
    kinds: tuple[str, ...],
    from_text: str | None,
    until_text: str | None,
    page: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Show what happened in a run of a simulated world: a lane for each node, time from top to bottom.

    Like events are folded until all fits, and what is not shown is said. A damaged trace is shown up to where
    it is right; then the exit code is 3.
    """
    from node.cli.output import emit
    from simnet.world.trace_reader import open_trace

    choice = _make_choice(nodes, kinds, from_text, until_text)
    with open_trace(trace) as reader:
        timeline, damage = _read(reader, choice)
    remarks = _make_remarks(reader, damage)
    if page is not None:
        _write_page(Path(page), reader, timeline, remarks, force=force)
    text = "" if as_json else _format(reader, timeline, remarks, page)
    emit(_describe(reader, timeline, damage, page), text, as_json=as_json)
    return 3 if damage else 0


def _make_choice(
    nodes: tuple[str, ...], kinds: tuple[str, ...], from_text: str | None, until_text: str | None
) -> "Choice":
    from kernel.errors import UsageError
    from simnet.world.timeline import Choice
    from simnet.world.trace import MAX_TIME_NS
    from simnet.world.virtual_time import parse_time

    from_ns = parse_time(from_text) if from_text is not None else 0
    until_ns = parse_time(until_text) if until_text is not None else MAX_TIME_NS
    if until_ns < from_ns:
        raise UsageError("--until is before --from")
    return Choice(frozenset(nodes), frozenset(kinds), from_ns, until_ns)


def _read(reader: "TraceReader", choice: "Choice") -> "tuple[Timeline, str]":
    """The timeline of what can be read, and what is wrong behind it."""
    from kernel.errors import InvalidRecord
    from simnet.world.timeline import Timeline

    timeline = Timeline(choice)
    try:
        for event in reader:
            timeline.add(event)
    except InvalidRecord as error:
        return timeline, str(error)
    return timeline, ""


def _make_remarks(reader: "TraceReader", damage: str) -> list[str]:
    if damage:
        return [f"The trace is damaged, and shown up to there: {damage}."]
    if not reader.is_complete:
        return ["The trace has no end: its run was killed, or is still going."]
    return []


def _write_page(
    path: Path, reader: "TraceReader", timeline: "Timeline", remarks: list[str], *, force: bool
) -> None:
    from node.cli.output_file import open_output
    from simnet.world.timeline_html import make_page

    text = make_page(reader.header, timeline, reader.hash_hex, remarks=remarks)
    with open_output(path, force=force) as descriptor, open(descriptor, "wb", closefd=False) as file:
        file.write(text.encode("utf-8"))


def _format(reader: "TraceReader", timeline: "Timeline", remarks: list[str], page: str | None) -> str:
    """What people see: the table, or where the page is."""
    from rich.console import Console

    from simnet.world.timeline_text import render

    if page is not None:
        return "\n".join([*remarks, f"{page} shows {timeline.chosen} events: open it with a browser."])
    console = Console(highlight=False)
    width = max(MIN_WIDTH, console.width)
    with console.capture() as capture:
        for line in render(reader.header, timeline, width, remarks=remarks):
            console.print(line, no_wrap=True, crop=False, overflow="ignore")
    return capture.get().rstrip("\n")


def _describe(reader: "TraceReader", timeline: "Timeline", damage: str, page: str | None) -> dict[str, Any]:
    """The fields are those of `simnet.fields`."""
    from dataclasses import asdict

    from simnet.world.notes import make_notes

    return {
        "scenario": reader.header.scenario,
        "seed": reader.header.seed,
        "hash": reader.hash_hex,
        "complete": reader.is_complete,
        "damage": damage,
        "events": timeline.count,
        "chosen_events": timeline.chosen,
        "last_ns": timeline.last_ns,
        "nodes": timeline.lanes,
        "kinds": timeline.kinds,
        "failed": timeline.failed,
        "failures": [event._asdict() for event in timeline.failures],
        "faults": [asdict(span) for span in timeline.spans],
        "rows": [asdict(row) for row in timeline.rows],
        "notes": make_notes(timeline, timeline.rows),
        "html": page,
    }
