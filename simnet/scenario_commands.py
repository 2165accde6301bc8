"""The commands of `lucid-simnet` that run scenarios in simulated worlds."""

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simnet.progress import report

if TYPE_CHECKING:
    from simnet.world.faults import Plan
    from simnet.world.run import Outcome, Scenario

MAX_PLAN_BYTES = 4 << 20
FAILED = 1

_with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
_with_seed = click.option(
    "--seed",
    metavar="S",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Everything follows from it.",
)
_with_nodes = click.option(
    "--nodes", metavar="N", type=click.IntRange(1, 1000), help="How many [default: the scenario says]."
)
_with_plan = click.option(
    "--plan",
    "plan_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Faults, instead of the seed's.",
)
_with_until = click.option(
    "--until", "until_text", metavar="T", help="End at this virtual time, such as 1d12h."
)


@click.command("list")
@_with_json
def list_command(as_json: bool) -> int:
    """List the scenarios."""
    from node.cli.output import emit, format_table
    from simnet.scenarios import SCENARIOS

    rows = [[each.name, str(each.nodes), each.summary] for each in SCENARIOS.values()]
    document = [
        {"name": each.name, "nodes": each.nodes, "summary": each.summary} for each in SCENARIOS.values()
    ]
    emit({"scenarios": document}, format_table(["SCENARIO", ">NODES", "STORY"], rows), as_json=as_json)
    return 0


@click.command("run")
@_with_seed
@_with_nodes
@_with_plan
@_with_until
@click.option(
    "--trace",
    "trace_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write what happens; see `show`.",
)
@_with_json
@click.argument("scenario", metavar="SCENARIO")
def run_command(
    scenario: str,
    seed: int,
    nodes: int | None,
    plan_file: Path | None,
    until_text: str | None,
    trace_file: Path | None,
    as_json: bool,
) -> int:
    """Run a scenario in a simulated world.

    The same code, scenario, seed and options give the same trace, whose hash is printed. The exit code is 1
    if something that must hold did not.
    """
    from node.cli.output import emit
    from simnet.world.run import run_scenario

    outcome = run_scenario(
        find_scenario(scenario),
        seed,
        nodes=nodes,
        until_s=_parse_until(until_text),
        plan=_read_plan(plan_file),
        trace_file=trace_file,
    )
    emit(_describe(outcome), _format(outcome), as_json=as_json)
    return FAILED if outcome.failures else 0


@click.command("explore")
@click.option(
    "--seeds", metavar="A..B", default="1..100", show_default=True, help="From A to B, both included."
)
@click.option(
    "--jobs", metavar="J", type=click.IntRange(1, 256), help="Processes at once [default: one a core]."
)
@_with_nodes
@_with_until
@_with_json
@click.argument("scenario", metavar="SCENARIO")
def explore_command(
    scenario: str, seeds: str, jobs: int | None, nodes: int | None, until_text: str | None, as_json: bool
) -> int:
    """Run a scenario with many seeds, over all cores.

    It stops at the first one that fails, and prints the command that repeats it; the exit code is 1 then.
    """
    from node.cli.output import emit
    from simnet.explore import explore

    find_scenario(scenario)
    first, last = _parse_seeds(seeds)
    explored = explore(
        scenario,
        range(first, last + 1),
        jobs or os.cpu_count() or 1,
        nodes,
        _parse_until(until_text),
        report,
    )
    report("")
    failed = explored.failed
    command = "" if failed is None else make_command(failed, nodes, until_text)
    document = {
        "scenario": scenario,
        "first_seed": first,
        "last_seed": last,
        "passed": explored.passed,
        "virtual_s": explored.virtual_s,
        "real_s": explored.real_s,
        "failed": None if failed is None else _describe(failed),
        "command": command or None,
    }
    speed = explored.virtual_s / explored.real_s if explored.real_s else 0.0
    lines = [f"{explored.passed} runs of {scenario} passed, at {speed:,.0f} times real time"]
    if failed is not None:
        lines += [
            f"seed {failed.seed} FAILED",
            *(f"  {failure}" for failure in failed.failures),
            f"repeat: {command}",
        ]
    emit(document, "\n".join(lines), as_json=as_json)
    return FAILED if failed is not None else 0


@click.command("shrink")
@_with_seed
@_with_nodes
@_with_plan
@_with_until
@click.option("--out", "out", metavar="FILE", required=True, help="Where the smaller plan is written.")
@click.option("--force", is_flag=True, help="Overwrite FILE if it exists.")
@_with_json
@click.argument("scenario", metavar="SCENARIO")
def shrink_command(
    scenario: str,
    seed: int,
    nodes: int | None,
    plan_file: Path | None,
    until_text: str | None,
    out: str,
    force: bool,
    as_json: bool,
) -> int:
    """Look for fewer and shorter faults with which a run that fails still fails."""
    from kernel.errors import Conflict
    from node.cli.output import emit
    from node.cli.output_file import open_output
    from simnet.world.faults import encode_plan, shrink_plan
    from simnet.world.run import run_scenario

    found, until_s, runs = find_scenario(scenario), _parse_until(until_text), 0

    def run(plan: "Plan | None") -> "Outcome":
        nonlocal runs
        runs += 1
        outcome = run_scenario(found, seed, nodes=nodes, until_s=until_s, plan=plan)
        report(f"{runs} runs: {len(outcome.plan)} faults {'fail' if outcome.failures else 'pass'}")
        return outcome

    whole = run(_read_plan(plan_file))
    if not whole.failures:
        raise Conflict(
            f"{scenario} does not fail with seed {seed}", hint="Only a run that fails can be shrunk."
        )
    smaller = shrink_plan(whole.plan, lambda plan: bool(run(plan).failures))
    report("")
    with open_output(Path(out), force=force) as descriptor, open(descriptor, "w", closefd=False) as file:
        file.write(encode_plan(smaller))
    command = make_command(whole, nodes, until_text, out)
    document = {
        "before": len(whole.plan),
        "after": len(smaller),
        "runs": runs,
        "plan": out,
        "command": command,
    }
    lines = [
        f"{len(smaller)} of {len(whole.plan)} faults are left:",
        *(f"  {each.at_s:.3f} s {each}" for each in smaller),
    ]
    emit(document, "\n".join([*lines, f"repeat: {command}"]), as_json=as_json)
    return 0


def find_scenario(name: str) -> "Scenario":
    """A scenario by its name.

    Raises:
        UsageError: there is none.
    """
    from kernel.errors import UsageError
    from simnet.scenarios import SCENARIOS

    if name not in SCENARIOS:
        raise UsageError(f'there is no scenario "{name}"', hint="`lucid-simnet list` shows them.")
    return SCENARIOS[name]


def make_command(
    outcome: "Outcome", nodes: int | None, until_text: str | None, plan: str | None = None
) -> str:
    """The command that repeats a run."""
    words = ["lucid-simnet", "run", outcome.scenario, "--seed", str(outcome.seed)]
    for option, value in (("--nodes", nodes), ("--until", until_text), ("--plan", plan)):
        if value is not None:
            words += [option, str(value)]
    return shlex.join(words)


def _parse_seeds(text: str) -> tuple[int, int]:
    from kernel.errors import UsageError

    match = re.fullmatch(r"(\d{1,18})(?:\.\.(\d{1,18}))?", text)
    if match is None or int(match[2] or match[1]) < int(match[1]):
        raise UsageError(f'"{text}" is no range of seeds', hint="Write 1..1000, or 7 for one alone.")
    return int(match[1]), int(match[2] or match[1])


def _parse_until(text: str | None) -> float | None:
    from simnet.world.virtual_time import parse_time

    return None if text is None else parse_time(text) / 1e9


def _read_plan(path: Path | None) -> "Plan | None":
    from kernel.errors import UsageError
    from simnet.world.faults import decode_plan
    from simnet.world.mishaps import get_kind

    if path is None:
        return None
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PLAN_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_PLAN_BYTES:
        raise UsageError(f"{path} is too long for a plan of faults")
    plan = decode_plan(data.decode("utf-8", "replace"))
    for fault in plan:
        get_kind(fault.kind)
    return plan


def _describe(outcome: "Outcome") -> dict[str, Any]:
    """The fields are those of `simnet.fields`."""
    return {
        "scenario": outcome.scenario,
        "seed": outcome.seed,
        "trace_hash": outcome.trace_hash,
        "virtual_s": outcome.virtual_s,
        "real_s": outcome.real_s,
        "steps": outcome.steps,
        "faults": len(outcome.plan),
        "failures": outcome.failures,
    }


def _format(outcome: "Outcome") -> str:
    from simnet.world.virtual_time import format_time

    verdict = f"FAILED: {len(outcome.failures)}" if outcome.failures else "all that must hold did"
    lines = [
        f"{outcome.scenario}, seed {outcome.seed}: {verdict}",
        f"  virtual time  {format_time(round(outcome.virtual_s * 1e9))}, in {outcome.real_s:.2f} s",
        f"  faults        {len(outcome.plan)}",
        f"  trace hash    {outcome.trace_hash}",
    ]
    return "\n".join([*lines, *(f"  {failure}" for failure in outcome.failures)])
