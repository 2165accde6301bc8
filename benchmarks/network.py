"""Four nodes on this machine: memory with peers, recording with three replicas, restoring from bad holders.

Everything goes through `lucid-node` and `lucid-simnet`, as anybody would use them.
"""

import json
import shutil
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from benchmarks.corpus import iterate_blocks
from benchmarks.lucid_node import PROGRAM
from benchmarks.measures import MEGABYTE, Figure, Report, judge_at_least, judge_at_most
from benchmarks.process import BenchmarkError, get_memory, reset_peak, run
from simnet.control import call
from simnet.homes import get_environment
from simnet.launch import running_cluster
from simnet.layout import Layout, read_cluster

NODES = 4
OWNER, HONEST, LYING, SLOW = range(NODES)
SETTLE_S = 2.0
IDLE_BOUND_MB = 140
PEAK_BOUND_MB = 300
RATE_BOUND = 0.8
SLOW_LIMIT = "1M"
CATCH_UP_S = 600.0
RESTORE_BYTES = 256 << 20


def measure_network(scratch: Path, size_bytes: int, report: Report) -> list[Figure]:
    """The figures: memory of nodes with peers, and restoring with one lying and one slow holder of three."""
    directory = scratch / "network"
    directory.mkdir()
    with running_cluster(directory / "c", NODES) as layout:
        bench = _Bench(layout, directory, report)
        memory = bench.measure_memory(size_bytes)
        restore = bench.measure_restore(min(size_bytes, RESTORE_BYTES))
    shutil.rmtree(directory)
    return [memory, restore]


class _Bench:
    def __init__(self, layout: Layout, directory: Path, report: Report) -> None:
        self._layout = layout
        self._directory = directory
        self._report = report

    def measure_memory(self, size_bytes: int) -> Figure:
        sleep(SETTLE_S)
        owner = read_cluster(self._layout).nodes[OWNER].pid or 0
        idle = get_memory(owner)["VmRSS"] / MEGABYTE
        source = self._write_source("large", size_bytes)
        self._report(f"network: recording {size_bytes >> 20} MiB with three replicas")
        reset_peak(owner)
        begin = monotonic()
        document = self._run("session", "record", "--require-replicas", "--wait", "3600", source)
        seconds = monotonic() - begin
        peak = get_memory(owner)["VmHWM"] / MEGABYTE
        if document["plaintext_bytes"] != size_bytes:
            raise BenchmarkError(f"the recording is not complete: {document}")
        self._run("session", "delete", document["session_id"], "--yes")
        source.unlink()
        figure = Figure("network", f"A node with {NODES - 1} peers")
        figure.rows = [
            {"what": "idle, connected, resident (RSS)", "unit": "MB", "value": idle},
            {"what": f"owner's peak, {size_bytes >> 20} MiB with R = 3", "unit": "MB", "value": peak},
            {
                "what": "rate until all replicas are acknowledged",
                "unit": "MB/s",
                "value": size_bytes / seconds / 1e6,
            },
        ]
        figure.verdicts = [
            judge_at_most(f"idle at most {IDLE_BOUND_MB} MB", idle, IDLE_BOUND_MB, "MB"),
            judge_at_most(f"peak at most {PEAK_BOUND_MB} MB", peak, PEAK_BOUND_MB, "MB"),
        ]
        figure.notes = [
            "VmRSS and VmHWM of the owner's daemon; all nodes share this machine's cores and disk."
        ]
        return figure

    def measure_restore(self, size_bytes: int) -> Figure:
        source = self._write_source("restored", size_bytes)
        session = self._run("session", "record", "--require-replicas", "--wait", "3600", source)["session_id"]
        self._report("network: restoring from one honest holder")
        for node in (LYING, SLOW):
            call(self._layout, "kill", node)
        honest_s = self._time_restore(session, source)
        self._flip_all(LYING)
        (self._layout.home(SLOW).config).write_text(f'limit_up = "{SLOW_LIMIT}"\n')
        for node in (LYING, SLOW):
            call(self._layout, "start", node)
        self._report("network: restoring from one honest, one lying and one slow holder")
        mixed_s = self._time_restore(session, source)
        figure = Figure("restore", "Chunks from holders, the owner's own being lost")
        for what, seconds in (("one honest holder", honest_s), ("one honest, one lying, one slow", mixed_s)):
            figure.rows.append({"holders": what, "s": seconds, "MB/s": size_bytes / seconds / 1e6})
        target = f"at least {RATE_BOUND:.0%} of the honest holder's rate"
        figure.verdicts = [judge_at_least(target, 100 * honest_s / mixed_s, 100 * RATE_BOUND, "%")]
        figure.notes = [
            "The owner's blobs are deleted, then `session get`; what it gives is compared with the source. "
            f"Lying: every blob has one bit flipped. Slow: `limit_up` of {SLOW_LIMIT} bytes a second."
        ]
        return figure

    def _time_restore(self, session: str, source: Path) -> float:
        """Seconds of `session get` by an owner whose blobs are gone."""
        call(self._layout, "kill", OWNER)
        shutil.rmtree(self._layout.home(OWNER).store / "blobs")
        call(self._layout, "start", OWNER)
        output = self._directory / "copy"
        begin = monotonic()
        self._run("session", "get", session, output, "--force")
        seconds = monotonic() - begin
        run(["cmp", source, output], get_environment())
        output.unlink()
        return seconds

    def _flip_all(self, node: int) -> None:
        """Flips one bit in the middle of every blob of a node."""
        for blob in (self._layout.home(node).store / "blobs").glob("??/*"):
            with blob.open("r+b") as file:
                file.seek(blob.stat().st_size // 2)
                byte = file.read(1)
                file.seek(-1, 1)
                file.write(bytes([byte[0] ^ 1]))

    def _write_source(self, name: str, size_bytes: int) -> Path:
        source = self._directory / name
        with source.open("wb") as file:
            file.writelines(iterate_blocks(size_bytes))
        return source

    def _run(self, *words: str | Path) -> dict[str, Any]:
        command = [PROGRAM, "--home", self._layout.home(OWNER).root, *words, "--json"]
        document: dict[str, Any] = json.loads(run(command, get_environment()).output.splitlines()[-1])
        return document
