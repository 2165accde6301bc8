"""Nodes killed at random instants while they record, replicate and restore: is anything acknowledged lost?"""

import secrets
from pathlib import Path

from benchmarks.measures import Figure, Report, Verdict
from benchmarks.process import BenchmarkError
from simnet.kills import KINDS, BytesLost, KillRun
from simnet.launch import running_cluster

NODES = 4
REPORT_EVERY = 10


def measure_kills(scratch: Path, count: int, report: Report) -> Figure:
    """The figure: so many kills by SIGKILL, and how often something acknowledged was lost."""
    seed = secrets.randbits(32)
    directory = scratch / "kills"
    directory.mkdir()
    with running_cluster(directory / "c", NODES) as layout:
        kills = KillRun(layout, directory, seed)
        for number in range(count):
            try:
                said = kills.step(number)
            except BytesLost as error:
                raise BenchmarkError(f"BYTES LOST at step {number} of seed {seed}: {error}") from error
            if number % REPORT_EVERY == 0:
                report(f"kills: {number + 1} of {count}: {said}")
    figure = Figure("kills", "SIGKILL at random instants")
    for kind in KINDS:
        dead = {"owner": kills.kills.get((kind, 0), 0)}
        dead["holder"] = sum(times for (of, node), times in kills.kills.items() if of == kind and node)
        figure.rows.append({"while it": kind + "s", **dead})
    figure.verdicts = [Verdict("no acknowledged byte is lost", f"0 lost in {count} kills", True)]
    figure.notes = [
        f"{NODES} processes, one owner; seed {seed}. After each kill and restart every recording is compared "
        "with its source, verified, and audited on its holders."
    ]
    return figure
