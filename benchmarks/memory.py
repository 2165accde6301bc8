"""The daemon's memory: idle, and at its peak while it records a file, and one ten times as large."""

import shutil
from pathlib import Path
from time import sleep

from benchmarks.corpus import iterate_blocks
from benchmarks.lucid_node import Node
from benchmarks.measures import MEGABYTE, Figure, Report, Summary, Verdict, format_value, judge_at_most
from benchmarks.process import Usage, get_memory, reset_peak, run

SETTLE_S = 2.0
PEAK_BOUND_MB = 250
IDLE_BOUND_MB = 100
START_BOUND_S = 3
HELP_BOUND_S = 0.3
HELP_RUNS = 20


def measure_memory(scratch: Path, size_bytes: int, rounds: int, report: Report) -> Figure:
    """The figure: VmHWM, reset when idle, after a recording of `size_bytes` and of ten times that."""
    figure = Figure("memory", "Peak memory of the daemon while it records")
    directory = scratch / "memory"
    peaks: dict[int, list[float]] = {size_bytes: [], 10 * size_bytes: []}
    for size in peaks:
        directory.mkdir()
        source = directory / "source"
        report(f"memory: writing {size / (1 << 20):,.0f} MiB")
        with source.open("wb") as file:
            file.writelines(iterate_blocks(size))
        for number in range(rounds):
            report(f"memory: recording {size / (1 << 20):,.0f} MiB, round {number + 1} of {rounds}")
            peaks[size].append(_measure_peak(directory / f"n{number}", source) / MEGABYTE)
        shutil.rmtree(directory)
    medians = {size: Summary.of(values) for size, values in peaks.items()}
    for size, summary in medians.items():
        figure.rows.append({"MiB recorded": size / (1 << 20), **summary.cells("peak MB")})
    small, large = (summary.median for summary in medians.values())
    bars = [(f"{size / (1 << 20):,.0f} MiB", summary.median) for size, summary in medians.items()]
    figure.bars["Peak memory of the daemon, MB"] = bars
    figure.verdicts = [
        judge_at_most(
            f"at most {PEAK_BOUND_MB} MB", max(s.greatest for s in medians.values()), PEAK_BOUND_MB, "MB"
        ),
        Verdict(
            "the same for both (within 10 %)",
            f"{format_value(large / small)} times",
            abs(large / small - 1) <= 0.1,
        ),
    ]
    figure.notes = [
        "VmHWM of the daemon and its children, reset through /proc/PID/clear_refs when the daemon was idle; "
        f"{rounds} rounds, a fresh node each."
    ]
    return figure


def _measure_peak(directory: Path, source: Path) -> int:
    directory.mkdir()
    node = Node(directory)
    try:
        sleep(SETTLE_S)
        reset_peak(node.process.pid)
        run(node.command("session", "record", "--json", source), node.environment)
        return get_memory(node.process.pid)["VmHWM"]
    finally:
        node.close()
        shutil.rmtree(directory)


def measure_startup(scratch: Path, rounds: int, report: Report) -> Figure:
    """The figure: daemon start to healthy, idle memory, and the time of `lucid-node --help`."""
    figure = Figure("startup", "Start and idle")
    report("startup: daemon start, idle memory")
    directory = scratch / "startup"
    directory.mkdir()
    node = Node(directory)
    starts, resident, proportional = [node.start_s], [], []
    try:
        for number in range(rounds):
            sleep(SETTLE_S)
            memory = get_memory(node.process.pid)
            resident.append(memory["VmRSS"] / MEGABYTE)
            proportional.append(memory["Pss"] / MEGABYTE)
            node.close()
            if number + 1 < rounds:
                node.start()
                starts.append(node.start_s)
    finally:
        node.close()
    report("startup: lucid-node --help")
    helps = [_measure_help(node).wall_s for _ in range(HELP_RUNS)]
    shutil.rmtree(directory)
    for what, unit, values in (
        ("daemon start to healthy", "s", starts),
        ("idle daemon, resident (RSS)", "MB", resident),
        ("idle daemon, proportional (PSS)", "MB", proportional),
        ("lucid-node --help", "s", helps),
    ):
        figure.rows.append(
            {"what": what, "unit": unit, **Summary.of(values).cells("median"), "of": len(values)}
        )
    figure.verdicts = [
        judge_at_most(
            f"daemon healthy after at most {START_BOUND_S} s", Summary.of(starts).median, START_BOUND_S, "s"
        ),
        judge_at_most(
            f"idle at most {IDLE_BOUND_MB} MB resident", Summary.of(resident).median, IDLE_BOUND_MB, "MB"
        ),
        judge_at_most(f"--help at most {HELP_BOUND_S} s", Summary.of(helps).median, HELP_BOUND_S, "s"),
    ]
    figure.notes = [
        "Healthy: the daemon says over its control socket that it serves; the socket is tried every 2 ms "
        "from the start of the process. The first start is that of a new home.",
        f"Idle: {SETTLE_S:.0f} s after that.",
        f"`--help`: median of {HELP_RUNS} runs of the whole process.",
    ]
    return figure


def _measure_help(node: Node) -> Usage:
    return run(node.command("--help"), node.environment)
