"""Two nodes over a private Tor network, while their Tors are killed and their circuits are closed.

`measure_recoveries`: from the kill of the Tor of the node that is called to the next call that succeeds.
`measure_soak`: a call every two seconds, while all circuits of the caller are closed every ten.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.lucid_node import Node
from benchmarks.measures import compute_percentile
from benchmarks.process import BenchmarkError
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
POLL_S = 0.05


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


def measure_recoveries(pair: Pair, count: int) -> list[float]:
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
        _report(f"kill {number + 1} of {count}: {seconds:.1f} s, {failed} calls failed")
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


def _report(line: str) -> None:
    print(f"tor: {line}", file=sys.stderr, flush=True)


async def _run(kills: int, soak_s: float) -> None:
    with tempfile.TemporaryDirectory(prefix="lucid-tor-") as scratch:
        network = TorNetwork(Path(scratch) / "network", Path(scratch) / "keys")
        await network.start(lambda _line, _keep: None)
        try:
            await asyncio.to_thread(_measure, Path(scratch), network.client_options, kills, soak_s)
        finally:
            await network.stop()


def _measure(scratch: Path, options: Sequence[str], kills: int, soak_s: float) -> None:
    with running_pair(scratch / "nodes", options) as pair:
        taken = measure_recoveries(pair, kills)
        if taken:
            late = compute_percentile(taken, 95)
            middle = compute_percentile(taken, 50)
            print(
                f"{kills} kills: p50 {middle:.1f} s, p95 {late:.1f} s, worst {max(taken):.1f} s", flush=True
            )
        soak = measure_soak(pair, soak_s)
        if soak.seconds:
            late = compute_percentile(soak.seconds, 95)
            print(
                f"{len(soak.seconds)} calls, {soak.closed} circuits closed: {soak.failed} failed,"
                f" {soak.retried} tried again, p95 {late:.2f} s, worst {max(soak.seconds):.1f} s"
            )


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30, help="of the Tor of the called node [30]")
    parser.add_argument("--soak", type=float, default=600.0, help="seconds of calls [600]")
    arguments = parser.parse_args()
    asyncio.run(_run(arguments.kills, arguments.soak))
    return 0


if __name__ == "__main__":
    sys.exit(main())
