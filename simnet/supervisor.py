"""The supervisor: starts the nodes of a cluster, takes commands, and leaves nothing behind.

Order of `up`: directory checked and locked → transport started → homes made → addresses known → all daemons
started, each with the addresses of all others → all serve and are connected → `cluster.json` → commands until
a signal or `down`. Whatever goes wrong on the way ends every process that was started. If the supervisor
itself is killed, the kernel kills the daemons (`node/child.py`), and each Tor of theirs ends with its own.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

from kernel.errors import Conflict, UsageError
from node.home import lock_holder
from simnet.control import start_control
from simnet.ending import call_at_end
from simnet.homes import ensure_home, prepare_passphrase
from simnet.layout import UMASK, Cluster, Layout, check_layout, lock_layout, write_cluster
from simnet.node import POLL_S, SimNode
from simnet.process import Child
from simnet.progress import Report
from simnet.transports import SimTransport, make_transport

READY_TIMEOUT_PER_NODE_S = 6.0
RELEASE_TIMEOUT_S = 10.0
INITS_AT_ONCE = 2

OnReady = Callable[[Cluster], None]
"""Is told who is there when all are healthy."""


def run_cluster(
    layout: Layout,
    count: int,
    options: list[str],
    *,
    transport: str,
    pid: int | None,
    report: Report,
    on_ready: OnReady,
) -> None:
    """Runs a cluster until a signal or `down` ends it.

    Args:
        layout: where.
        count: of nodes.
        options: more options of `lucid-node run`, for every node.
        transport: how the nodes reach each other, one of `TRANSPORTS`.
        pid: of a process with which the cluster ends; None: of none.
        report: see `Report`.
        on_ready: see `OnReady`.

    Raises:
        LucidError: it could not be brought up; nothing of it runs.
    """
    check_layout(layout, count)
    os.umask(UMASK)
    layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock_layout(layout):
        supervisor = Supervisor(layout, count, options, make_transport(transport, layout), report)
        asyncio.run(supervisor.run(pid, on_ready))


class Supervisor:
    """All nodes of a cluster."""

    def __init__(
        self, layout: Layout, count: int, options: list[str], transport: SimTransport, report: Report
    ) -> None:
        self._layout = layout
        self._count = count
        self._options = options
        self._transport = transport
        self._report = report
        self._nodes: list[SimNode] = []
        self._watches: set[asyncio.Future[None]] = set()
        self._is_up = False
        self._ending = asyncio.Event()

    async def run(self, pid: int | None, on_ready: OnReady) -> None:
        """See `run_cluster`; whoever calls holds the directory's lock."""
        self._layout.cluster.unlink(missing_ok=True)
        main = asyncio.ensure_future(self._serve(on_ready))
        call_at_end(lambda: self._on_signal(main), pid)
        try:
            await main
        except asyncio.CancelledError:
            pass  # a signal: the cluster is to end
        finally:
            self._ending.set()
            self._layout.cluster.unlink(missing_ok=True)
            self._report("stopping", False)
            await asyncio.gather(*(node.stop() for node in self._nodes))
            await self._transport.stop()
            self._layout.socket.unlink(missing_ok=True)

    def _on_signal(self, main: "asyncio.Future[None]") -> None:
        if self._ending.is_set():  # the second one: at once
            for node in self._nodes:
                if node.child is not None:
                    node.child.kill()
        self._ending.set()
        main.cancel()

    async def _serve(self, on_ready: OnReady) -> None:
        await self._prepare()
        for node in self._nodes:
            self._start(node)
        await self._wait_all_ready()
        server = await start_control(self._layout, self._handle)
        try:
            self._is_up = True
            self._write()
            on_ready(self._describe())
            await self._ending.wait()
        finally:
            server.close()

    async def _prepare(self) -> None:
        """Transport, homes, and addresses."""
        await self._transport.start(self._report)
        prepare_passphrase(self._layout)
        limit = asyncio.Semaphore(INITS_AT_ONCE)

        async def prepare(index: int) -> None:
            async with limit:
                await ensure_home(self._layout, index)
                await self._wait_released(index)
                self._transport.prepare(index)

        await self._track("homes are made", [prepare(index) for index in range(self._count)])
        self._nodes = [
            SimNode(self._layout, index, await self._transport.locate(index)) for index in range(self._count)
        ]

    async def _wait_released(self, index: int) -> None:
        """Waits for what a killed supervisor left: the kernel needs a moment to end it.

        Raises:
            Conflict: a daemon that is not ours uses the home.
        """
        home = self._layout.home(index)
        deadline = monotonic() + RELEASE_TIMEOUT_S
        while (holder := lock_holder(home)) is not None:
            if monotonic() > deadline:
                raise Conflict(f"process {holder} uses the home {home.root}", hint=f"End it: kill {holder}")
            await asyncio.sleep(POLL_S)

    async def _wait_all_ready(self) -> None:
        timeout_s = self._transport.ready_timeout_s + READY_TIMEOUT_PER_NODE_S * self._count
        waits = [node.wait_ready(self._count - 1, timeout_s) for node in self._nodes]
        await self._track("nodes are healthy", waits)

    async def _track(self, what: str, steps: "Sequence[Awaitable[None]]") -> None:
        """Does all steps side by side; tells how many are done. The first error ends the others."""
        done = 0

        async def follow(step: Awaitable[None]) -> None:
            nonlocal done
            await step
            done += 1
            self._report(f"{done} of {len(steps)} {what}", False)

        tasks = [asyncio.ensure_future(follow(step)) for step in steps]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _start(self, node: SimNode) -> None:
        others = [other.address.multiaddr for other in self._nodes if other is not node]
        child = node.start(others, [*self._transport.make_options(node.address), *self._options])
        watch = asyncio.ensure_future(self._watch(node, child))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _watch(self, node: SimNode, child: Child) -> None:
        """Tells of a daemon that ended."""
        await child.ended.wait()
        if self._is_up and not self._ending.is_set():
            self._report(f"{node.name} {node.state}", True)
            self._write()

    def _write(self) -> None:
        if self._is_up and not self._ending.is_set():
            write_cluster(self._layout, self._describe())

    def _describe(self) -> Cluster:
        nodes = [node.describe() for node in self._nodes]
        return Cluster(self._transport.name, self._transport.tor_options, nodes)

    async def _handle(self, command: str, index: int) -> Any:
        """Carries out a command of `simnet.control`."""
        match command:
            case "status":
                return [node.state for node in self._nodes]
            case "down":
                self._ending.set()
                return None
            case "kill" | "start":
                node = self._get_node(index)
            case _:
                raise UsageError(f'there is no command "{command}"')
        if command == "kill":
            await node.kill()
        else:
            for other in self._nodes:  # with other keys, or a new onion service, a node is elsewhere
                if other is node or other.is_running:
                    other.address = await self._transport.locate(other.index)
            self._start(node)
            await self._wait_reunited(node)
        self._write()
        return None

    async def _wait_reunited(self, started: SimNode) -> None:
        """Waits until all that run are connected with those whose addresses they were told.

        Their old connections with the one that was started are dead, which not all of them know.
        """
        running = [node for node in self._nodes if node.is_running]
        addresses = {node.address.multiaddr for node in running}

        async def wait(node: SimNode) -> None:
            known = len(addresses.intersection(node.peers))
            if node is not started and started.address.multiaddr in node.peers:
                await node.wait_reaches(started.peer_id, self._transport.ready_timeout_s)
            await node.wait_ready(known, self._transport.ready_timeout_s)

        await wait(started)
        await asyncio.gather(*map(wait, running))

    def _get_node(self, index: int) -> SimNode:
        if not 0 <= index < len(self._nodes):
            raise UsageError(
                f"there is no node {index}", hint=f"This cluster has the nodes 0 to {len(self._nodes) - 1}."
            )
        return self._nodes[index]
