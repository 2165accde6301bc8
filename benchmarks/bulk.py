"""Record a file and restore it: wall time with `sync`, CPU time, memory and size, against restic and borg.

Each round gives every program an empty repository in turn. The input is in the page cache for all. Restored
bytes are compared with the input outside the timing.
"""

import filecmp
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lucid_node import Lucid
from benchmarks.measures import (
    MEGABYTE,
    Figure,
    Report,
    Summary,
    Value,
    Verdict,
    format_value,
    interleave,
    judge_speedup,
)
from benchmarks.peers import Borg, Copy, Restic, Store
from benchmarks.process import BenchmarkError, Usage, touch_memory, warm

OURS = "lucid-node"
SUBJECTS: dict[str, Callable[[Path], Store]] = {"restic": Restic, "borg": Borg, OURS: Lucid, "cp": Copy}


@dataclass(frozen=True)
class _Round:
    record: Usage
    restore: Usage
    stored_bytes: int
    utilisation: float | None
    stages: str


def measure_bulk(
    corpus: Path, scratch: Path, subjects: list[str], rounds: int, report: Report
) -> list[Figure]:
    """The figures for recording and for restoring `corpus`."""
    results: dict[str, list[_Round]] = {subject: [] for subject in SUBJECTS if subject in subjects}
    for number, subject in interleave(list(results), rounds):
        report(f"bulk: {subject}, round {number + 1} of {rounds}")
        results[subject].append(_measure_round(corpus, scratch / "bulk", SUBJECTS[subject]))
    size_bytes = corpus.stat().st_size
    record = _describe("record", "Record", results, size_bytes, lambda one: one.record)
    restore = _describe("restore", "Restore", results, size_bytes, lambda one: one.restore)
    for row, rounds_of in zip(record.rows, results.values(), strict=True):
        row["stored MB"] = rounds_of[-1].stored_bytes / MEGABYTE
    _judge_utilisation(record, results.get(OURS, []))
    return [record, restore]


def _measure_round(corpus: Path, directory: Path, make: Callable[[Path], Store]) -> _Round:
    directory.mkdir()
    store = make(directory)
    try:
        touch_memory(2 * corpus.stat().st_size)
        warm(corpus)
        record = store.record(corpus)
        output = directory / "output"
        output.mkdir()
        touch_memory(2 * corpus.stat().st_size)
        restore, restored = store.restore(output)
        if not filecmp.cmp(corpus, restored, shallow=False):
            raise BenchmarkError("the restored file is not what was recorded")
        return _Round(record, restore, store.compute_stored_bytes(), *_compute_utilisation(store, record))
    finally:
        store.close()
        shutil.rmtree(directory)


def _compute_utilisation(store: Store, record: Usage) -> tuple[float | None, str]:
    """How much of the time in which the cores could work the pipeline's stages did, and the parts of it."""
    if not isinstance(store, Lucid) or not store.stage_cpu_s:
        return None, ""
    working_s = record.run_s - store.fsync_wait_s
    parts = [f"{stage} {format_value(cpu_s)}" for stage, cpu_s in sorted(store.stage_cpu_s.items())]
    told = f"CPU seconds by stage: {', '.join(parts)}; waited for fsync {format_value(store.fsync_wait_s)}."
    return sum(store.stage_cpu_s.values()) / (os.cpu_count() or 1) / working_s, told


def _describe(
    name: str,
    title: str,
    results: dict[str, list[_Round]],
    size_bytes: int,
    select: Callable[[_Round], Usage],
) -> Figure:
    figure = Figure(name, f"{title} {size_bytes / (1 << 20):,.0f} MiB")
    medians: dict[str, float] = {}
    for subject, rounds in results.items():
        usages = [select(one) for one in rounds]
        wall = Summary.of([usage.wall_s for usage in usages])
        medians[subject] = wall.median
        row: dict[str, Value] = {"program": subject, **wall.cells("seconds")}
        row["MB/s"] = size_bytes / wall.median / MEGABYTE
        row["CPU seconds"] = Summary.of([usage.cpu_s for usage in usages]).median
        peaks = [usage.peak_bytes / MEGABYTE for usage in usages if usage.peak_bytes]
        row["peak MB"] = Summary.of(peaks).median if peaks else None
        figure.rows.append(row)
    figure.bars[f"{figure.title}, seconds"] = list(medians.items())
    figure.notes += [
        "Wall time of the command and of a `sync` behind it; the input is in the page cache.",
        "Before each timing, twice the file's size of memory is touched and freed: see the method above.",
        f"Medians of {len(next(iter(results.values())))} interleaved rounds, each with an empty repository.",
        "CPU time of lucid-node is that of client and daemon; peak memory here is the client's, the daemon's "
        "has its own table.",
        "`cp` neither compresses nor encrypts: it shows what disk and page cache allow.",
    ]
    if OURS in medians:
        others = {name: value for name, value in medians.items() if name not in (OURS, "cp")}
        verdict = judge_speedup(
            "at least 2 times as fast as the faster of restic and borg", medians[OURS], others, 2
        )
        figure.verdicts += [verdict] if verdict else []
    return figure


def _judge_utilisation(figure: Figure, rounds: list[_Round]) -> None:
    values = [one.utilisation for one in rounds if one.utilisation is not None]
    if values:
        middle = Summary.of(values).median
        target = "stage CPU ÷ cores ÷ (wall minus fsync wait), aim 0.85"
        figure.verdicts.append(Verdict(target, f"{middle:.2f}", middle >= 0.85))
        figure.notes.append(rounds[-1].stages)
    elif rounds:
        figure.notes.append("The daemon exports no counters of its stages.")
