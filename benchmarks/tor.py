"""Two nodes over a private Tor network, while their Tors are killed and their circuits are closed.

A recovery goes from the kill of the Tor of the node that is called to the next call that succeeds. The soak
is a call every two seconds, while all circuits of the caller are closed every ten.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from benchmarks.lucid_node import Node
from benchmarks.measures import Figure, Report, Value, Verdict, compute_percentile
from benchmarks.process import BenchmarkError
from benchmarks.tor_network import measure_starts
from kernel.errors import LucidError
from lucid.v1 import control_pb2
from node.adapters import SystemEntropy
from node.control.client import ControlClient
from node.home import Home
from node.transport.tor.control import TorControl, TorRefused
from simnet.tor.network import TorNetwork

CALL_EVERY_S = 2.0
CLOSE_EVERY_S = 10.0
GIVE_UP_S = 240.0
MEDIAN_START_S, WORST_START_S = 25, 60
LATE_S = 30
POLL_S = 0.05


def ignore(_line: str) -> None:
    """Reports nothing."""


@dataclass
class Pair:
    """Two nodes, the first of which is a configured peer of the second."""

    called: Node
    caller: Node

    def call(self) -> bool:
        """One call from one to the other, dialled anew if they are not connected; True if it succeeded."""
        with ControlClient(Home(self.called.home)) as client:
            peer_id = client.get_status().peer_id
        try:
            with ControlClient(Home(self.caller.home)) as client:
                return client.ping_peer(peer_id).round_trip_us > 0
        except LucidError:
            return False

    def explain(self) -> str:
        """What both nodes say of Tor and of each other."""
        said = []
        for node in (self.called, self.caller):
            with ControlClient(Home(node.home)) as client:
                said += [f"{client.get_status().tor}", *map(str, client.list_peers())]
        return "\n".join(said)

    def call_until_it_succeeds(self) -> tuple[float, int]:
        """Seconds until a call has succeeded, and how many failed before.

        Raises:
            BenchmarkError: none does.
        """
        begun = monotonic()
        failed = 0
        while not self.call():
            failed += 1
            if monotonic() - begun > GIVE_UP_S:
                raise BenchmarkError(f"no call has succeeded for {GIVE_UP_S:.0f} s\n{self.explain()}")
            sleep(POLL_S)
        return monotonic() - begun, failed


@dataclass
class Soak:
    """What became of many calls.

    Attributes:
        seconds: that each took, with what had to be tried again.
        retried: how many were not answered the first time.
        failed: how many were not answered at all.
        closed: circuits that were closed meanwhile.
    """

    seconds: list[float] = field(default_factory=list)
    retried: int = 0
    failed: int = 0
    closed: int = 0


@contextmanager
def running_pair(directory: Path, tor_options: Sequence[str]) -> Iterator[Pair]:
    """Two nodes on a Tor network, connected."""
    settings = {"LUCID_LISTEN": "onion", "LUCID_TOR_OPTIONS": "\n".join(tor_options)}
    for name in ("called", "caller"):
        (directory / name).mkdir(parents=True)
    called = Node(directory / "called", settings)
    try:
        address = wait_published(called).address
        caller = Node(directory / "caller", settings | {"LUCID_PEERS": address})
        try:
            pair = Pair(called, caller)
            wait_known(pair)
            pair.call_until_it_succeeds()
            yield pair
        finally:
            caller.close()
    finally:
        called.close()


def wait_published(node: Node) -> control_pb2.Onion:
    """Waits until peers can find a node; its service."""
    deadline = monotonic() + GIVE_UP_S
    while monotonic() < deadline:
        with ControlClient(Home(node.home)) as client:
            for onion in client.get_status().tor.onions:
                if onion.published:
                    return onion
        sleep(POLL_S)
    raise BenchmarkError("the onion service is not published")


def wait_known(pair: Pair) -> None:
    """Waits until the caller has met the other one."""
    deadline = monotonic() + GIVE_UP_S
    while monotonic() < deadline:
        with ControlClient(Home(pair.caller.home)) as client:
            if client.get_status().peers_connected:
                return
        sleep(POLL_S)
    raise BenchmarkError("the nodes have not met")


def measure_recoveries(pair: Pair, count: int, report: Report = ignore) -> list[float]:
    """Seconds from each kill of the called node's Tor to the next call that succeeds.

    Raises:
        BenchmarkError: there is no such call.
    """
    taken = []
    for number in range(count):
        [tor] = _get_children(pair.called.process.pid)
        os.kill(tor, signal.SIGKILL)
        seconds, failed = pair.call_until_it_succeeds()
        taken.append(seconds)
        report(f"tor: kill {number + 1} of {count}: {seconds:.1f} s, {failed} calls failed")
        wait_published(pair.called)
    return taken


def measure_soak(pair: Pair, duration_s: float) -> Soak:
    """Calls for so long, while circuits are closed under them."""
    soak = Soak()
    begun = monotonic()
    next_close_s = begun + CLOSE_EVERY_S
    while (started_s := monotonic()) < begun + duration_s:
        if started_s >= next_close_s:
            next_close_s = started_s + CLOSE_EVERY_S
            soak.closed += asyncio.run(close_circuits(pair.caller.home))
        try:
            seconds, failed = pair.call_until_it_succeeds()
        except BenchmarkError:
            soak.failed += 1
            continue
        soak.seconds.append(seconds)
        soak.retried += bool(failed)
        sleep(max(0.0, started_s + CALL_EVERY_S - monotonic()))
    return soak


async def close_circuits(home: Path) -> int:
    """Closes all circuits of a node's Tor; how many."""
    control = await TorControl.open(Home(home).tor_socket, SystemEntropy(), lambda _line: None)
    closed = 0
    try:
        for line in (await control.get_info("circuit-status")).splitlines():
            try:
                await control.ask(f"CLOSECIRCUIT {line.split()[0]}")
            except TorRefused:  # it has ended meanwhile
                continue
            closed += 1
    finally:
        await control.close()
    return closed


def _get_children(pid: int) -> list[int]:
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(word) for text in texts for word in text.split()]


@asynccontextmanager
async def _running_network(scratch: Path) -> AsyncIterator[TorNetwork]:
    network = TorNetwork(scratch / "network", scratch / "keys")
    await network.start(lambda _line, _keep: None)
    try:
        yield network
    finally:
        await network.stop()


def measure_tor(scratch: Path, count: int, soak_s: float, report: Report) -> Figure:
    """The figure: so many starts of a network and kills of a Tor, and so many seconds of calls."""
    starts_s = measure_starts(scratch, count, report)
    recoveries_s, soak = asyncio.run(_measure(scratch, count, soak_s, report))
    rows: list[dict[str, Value]] = [
        _describe_times(f"network from nothing to the first onion call, {count} starts", starts_s),
        _describe_times(f"Tor of the called node killed, to the next call, {count} kills", recoveries_s),
        _describe_times(
            f"a call, {len(soak.seconds)} in {soak_s:.0f} s, {soak.closed} circuits closed", soak.seconds
        ),
    ]
    middle_s, worst_s = compute_percentile(starts_s, 50), max(starts_s)
    late_s = compute_percentile(recoveries_s, 95)
    verdicts = [
        Verdict("all starts succeed, half within 25 s", f"{middle_s:.1f} s", middle_s <= MEDIAN_START_S),
        Verdict("the worst start within 60 s", f"{worst_s:.1f} s", worst_s <= WORST_START_S),
        Verdict("calls succeed again after each kill, p95 within 30 s", f"{late_s:.1f} s", late_s <= LATE_S),
        Verdict("soak: none failed after retries", f"{soak.failed}", soak.failed == 0),
    ]
    notes = [
        f"Seconds. {soak.retried} calls of the soak were tried again. Keys of the network were made before."
    ]
    return Figure("tor", "Private Tor networks, killed Tors and closed circuits", rows, verdicts, notes)


async def _measure(scratch: Path, kills: int, soak_s: float, report: Report) -> tuple[list[float], Soak]:
    async with _running_network(scratch) as network:
        return await asyncio.to_thread(_measure_pair, scratch, network.client_options, kills, soak_s, report)


def _measure_pair(
    scratch: Path, options: Sequence[str], kills: int, soak_s: float, report: Report
) -> tuple[list[float], Soak]:
    with running_pair(scratch / "nodes", options) as pair:
        recoveries_s = measure_recoveries(pair, kills, report)
        report(f"tor: calls for {soak_s:.0f} s")
        return recoveries_s, measure_soak(pair, soak_s)


def _describe_times(what: str, times: Sequence[float]) -> dict[str, Value]:
    return {
        "what": what,
        "median": compute_percentile(times, 50),
        "p95": compute_percentile(times, 95),
        "worst": max(times),
    }
