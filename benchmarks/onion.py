"""Chunks and calls through onion services, beside a bare stream through the same kind of circuit.

A private Tor network on loopback; two Tors of their own on it, as two nodes have. Bare: bytes over a stream,
as they come. The node: all that chapter 10 asks for, over gRPC. Both alternate, and each round has new
circuits for both, since circuits differ.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.measures import MEGABYTE, Figure, Report, Summary, Verdict, compute_percentile
from benchmarks.onion_node import ECHO, ECHO_BYTES, GET, PORT, PUT, take
from benchmarks.process import BenchmarkError
from benchmarks.transfer import get, make_chunks, make_records, meet, put
from benchmarks.transfer_node import BLOB_BYTES, make_peering
from kernel.multiaddr import Multiaddr
from kernel.uninterrupted import end_task
from node.adapters import SystemEntropy, ThreadOffload
from node.memory import keep_buffers
from node.transport.tor.supervisor import TorSupervisor
from node.transport.tor.torrc import TorSettings
from node.transport.tor.transport import TorTransport
from simnet.tor.client import running_tor, wait_ready
from simnet.tor.network import TorNetwork
from simnet.tor.probe import connect

CALLS = 50
CHUNKS = 2
ROOT = Path(__file__).resolve().parent.parent
THROUGHPUT_PERCENT = 85
LATENCY_RATIO = 1.3

Times = dict[tuple[str, str], list[float]]


def measure_onion(scratch: Path, rounds: int, report: Report) -> Figure:
    """The figure: MB/s of put and get, and seconds of a call, of the node and of a bare stream."""
    keep_buffers()
    return _describe(asyncio.run(_measure(scratch, rounds, report)), rounds)


async def _measure(scratch: Path, rounds: int, report: Report) -> Times:
    network = TorNetwork(scratch / "network", scratch / "keys")
    await network.start(lambda line, _keep: report(line))
    times: Times = {}
    try:
        options = network.client_options
        with _running_node(scratch / "far", options) as (node, bare):
            async with running_tor(scratch / "near", TorSettings(options=tuple(options))) as tor:
                await wait_ready(tor)
                for number in range(rounds):
                    report(f"onion: round {number + 1} of {rounds}")
                    await _measure_round(tor, scratch / "near", Multiaddr("onion3", node, PORT), bare, times)
    finally:
        await network.stop()
    return times


async def _measure_round(
    tor: TorSupervisor, directory: Path, node: Multiaddr, bare: str, times: Times
) -> None:
    offload = ThreadOffload("io", 2)
    transport = TorTransport(tor, directory, SystemEntropy())
    peering = make_peering(2, make_records(), offload, node, transport=transport)
    peering.load()
    meeting = asyncio.create_task(peering.book.run())
    isolation = os.urandom(8).hex()
    reader, writer = await connect(tor.get_tunnel(), f"{bare}.onion:{PORT}", isolation)
    try:
        peer = await meet(peering.book)
        await _ask(reader, writer, ECHO)
        for chunk in make_chunks(peer, CHUNKS):
            await _time(times, "put", "bare", _ask(reader, writer, PUT))
            await _time(times, "put", "node", put(peer, chunk))
            await _time(times, "get", "bare", _ask(reader, writer, GET))
            await _time(times, "get", "node", get(peer, chunk))
        for _ in range(CALLS):
            await _time(times, "call", "bare", _ask(reader, writer, ECHO))
            await _time(times, "call", "node", peer.ping())
    finally:
        writer.close()
        await end_task(meeting)
        offload.close()


async def _time(times: Times, what: str, who: str, work: Any) -> None:
    started = perf_counter()
    await work
    times.setdefault((what, who), []).append(perf_counter() - started)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wanted: bytes) -> None:
    sent = {GET: b"", PUT: bytes(BLOB_BYTES), ECHO: bytes(ECHO_BYTES)}[wanted]
    writer.write(wanted + sent)
    await writer.drain()
    await take(reader, {GET: BLOB_BYTES, PUT: 1, ECHO: ECHO_BYTES}[wanted])


@contextmanager
def _running_node(directory: Path, options: list[str]) -> Iterator[tuple[str, str]]:
    """The far side; gives the onion addresses of node and bare server."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "proto")))}
    command = [sys.executable, "-m", "benchmarks.onion_node", str(directory)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise BenchmarkError("the far side was started without pipes")
        process.stdin.write(json.dumps(options) + "\n")
        process.stdin.flush()
        words = process.stdout.readline().split()
        if len(words) != 2:
            raise BenchmarkError("the far side did not start")
        yield words[0], words[1]
    finally:
        process.communicate(timeout=30)


def _describe(times: Times, rounds: int) -> Figure:
    rows, verdicts = [], []
    for what in ("put", "get"):
        node, bare = (
            Summary.of([BLOB_BYTES / MEGABYTE / seconds for seconds in times[what, who]])
            for who in ("node", "bare")
        )
        percent = 100 * node.median / bare.median
        rows.append(
            {"what": f"{what}, MB/s"}
            | node.cells("node")
            | bare.cells("bare stream")
            | {"ratio": percent / 100}
        )
        target = f"{what} of a chunk reaches {THROUGHPUT_PERCENT} % of the bare stream"
        verdicts.append(Verdict(target, f"{percent:.0f} %", percent >= THROUGHPUT_PERCENT))
    for percentile in (50, 95):
        node_s, bare_s = (compute_percentile(times["call", who], percentile) for who in ("node", "bare"))
        ratio = node_s / bare_s
        rows.append(
            {
                "what": f"warm call, p{percentile}, ms",
                "node": node_s * 1e3,
                "node range": None,
                "bare stream": bare_s * 1e3,
                "bare stream range": None,
                "ratio": ratio,
            }
        )
        target = f"p{percentile} of a warm call is at most {LATENCY_RATIO} times that of a bare echo"
        verdicts.append(Verdict(target, f"{ratio:.2f}", ratio <= LATENCY_RATIO))
    count = len(times["call", "node"])
    notes = [
        f"{rounds} rounds, each with new circuits for both: {CHUNKS} chunks of {BLOB_BYTES >> 20} MiB"
        f" put and got, one after the other, then {CALLS} calls; as many echoes of {ECHO_BYTES} bytes.",
        f"All Tor processes share this machine's cores. Percentiles over {count} calls; median of chunks"
        f" {median(times['put', 'node']):.1f} s a put.",
    ]
    return Figure("onion", "Chunks and calls through onion services", rows, verdicts, notes)
