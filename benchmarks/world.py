"""The simulated world: how fast calls are beside bare asyncio, how fast a network lives, what a node takes.

The nodes are whole ones: composition, interceptors, tokens, metrics, disks.
"""

import asyncio
from pathlib import Path

from benchmarks.measures import Figure, Report, Verdict
from benchmarks.process import BenchmarkError
from benchmarks.simulation import NODES, STREAMS, TARGETS, measure_memory, measure_speed
from dht.lease import CHUNK_ID_BYTES
from lucid.v1 import chunk_pb2
from simnet.world.faults import no_faults
from simnet.world.machine import Machine
from simnet.world.run import Outcome, Scenario, run_scenario
from simnet.world.world import World

CALLING_NODES = 16
FAST = 700
IDLE_NODES = 1000
KNOWN = 4
"""Peers that each node has configured."""
SETTLE_S = 120.0
MOST_MB = 1.0
MOST_STREAMS_KB = 200
HOUR_S = 3600


def measure_world(hours: int, report: Report) -> Figure:
    """The figure; `hours` of virtual time are simulated."""
    report("world: calls")
    rows: list[dict[str, float | int | str | None]] = []
    verdicts = []
    for name, ratio in measure_speed().items():
        rows.append({"what": f"{name}, share of bare switches", "measured": ratio, "target": TARGETS[name]})
        verdicts.append(Verdict(f"{name}: at least {TARGETS[name]}", f"{ratio:.2f}", ratio >= TARGETS[name]))
    kilobytes = asyncio.run(measure_memory()) / 1e3
    rows.append(
        {"what": f"{STREAMS} open streams: kB a node", "measured": kilobytes, "target": MOST_STREAMS_KB}
    )
    verdicts.append(
        Verdict(
            f"{STREAMS} streams take at most {MOST_STREAMS_KB} kB a node, of {NODES}",
            f"{kilobytes:.0f} kB",
            kilobytes <= MOST_STREAMS_KB,
        )
    )
    report(f"world: {CALLING_NODES} nodes for {hours} virtual hours")
    speed = _measure_day(hours)
    rows.append(
        {
            "what": f"{CALLING_NODES} nodes, a call each a second: × real time",
            "measured": speed,
            "target": FAST,
        }
    )
    verdicts.append(Verdict(f"a day at least {FAST} times as fast", f"{speed:.0f} times", speed >= FAST))
    report(f"world: {IDLE_NODES} nodes")
    megabytes = _measure_memory()
    rows.append({"what": f"{IDLE_NODES:,} nodes, idle: MB a node", "measured": megabytes, "target": MOST_MB})
    verdicts.append(Verdict(f"at most {MOST_MB:g} MB a node", f"{megabytes:.2f} MB", megabytes <= MOST_MB))
    notes = [
        f"Each node has {KNOWN} configured peers, and each second asks one for a chunk; "
        f"{hours} virtual hours, start included.",
        "Memory: what the process grew by, divided by the nodes, two virtual minutes after they connected.",
    ]
    return Figure("world", "The simulated world", rows, verdicts, notes)


def _measure_day(hours: int) -> float:
    """Virtual seconds a second."""

    asked = chunk_pb2.HasChunksRequest(chunk_ids=[bytes(CHUNK_ID_BYTES)])

    async def ask(machine: Machine, peers: list[Machine]) -> None:
        for second in range(hours * HOUR_S):
            peer = machine.node.peering.book.find(peers[second % KNOWN].device)
            if peer is not None:
                await peer.has_chunks(asked)
            await asyncio.sleep(1)

    async def story(world: World) -> None:
        machines = await world.start_nodes(world.nodes, known=KNOWN)
        rings = [machines[place + 1 :] + machines[:place] for place in range(len(machines))]
        calls = (machine.call(ask(machine, ring)) for machine, ring in zip(machines, rings, strict=True))
        await world.gather(*calls)

    outcome = _run(Scenario("calls", story, CALLING_NODES, no_faults))
    return outcome.virtual_s / outcome.real_s


def _measure_memory() -> float:
    """Megabytes a node."""
    grown: list[float] = []

    async def story(world: World) -> None:
        await world.start_nodes(2)
        before = _read_rss()
        await world.start_nodes(world.nodes, known=KNOWN)
        await world.sleep(SETTLE_S)
        grown.append(_read_rss() - before)

    _run(Scenario("idle", story, IDLE_NODES, no_faults))
    return grown[0] / IDLE_NODES / 1e6


def _run(scenario: Scenario) -> Outcome:
    outcome = run_scenario(scenario, 1)
    if outcome.failures:
        raise BenchmarkError(f"{scenario.name}: {outcome.failures[0]}")
    return outcome


def _read_rss() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
