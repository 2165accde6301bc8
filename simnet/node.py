"""One node of a cluster: its address, its home, and the daemon that may run on it."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from kernel.errors import Conflict, LocalError, LucidError, Unavailable
from lucid.v1 import control_pb2
from node.control.client import ControlClient
from simnet.addresses import NodeAddress
from simnet.homes import get_environment, read_peer_id
from simnet.layout import Layout, NodeEntry
from simnet.process import Child, describe_end

POLL_S = 0.1
STOP_GRACE_S = 30.0
LOG_TAIL_BYTES = 2000


class SimNode:
    """A node that can be started, killed and started again at the same address.

    Attributes:
        index: its number in the cluster.
        address: where peers reach it, as of the last start.
        peers: multiaddrs of those that it was told of at the last start.
        child: the daemon that runs, or ran last; None if none ever did.
        peer_id: who lives in the home, as of the last start.
    """

    def __init__(self, layout: Layout, index: int, address: NodeAddress) -> None:
        self.index = index
        self.address = address
        self.peers: list[str] = []
        self.child: Child | None = None
        self.peer_id = ""
        self._layout = layout

    @property
    def name(self) -> str:
        """What it is called."""
        return f"n{self.index}"

    @property
    def is_running(self) -> bool:
        """Whether its daemon runs."""
        return self.child is not None and not self.child.ended.is_set()

    def describe(self) -> NodeEntry:
        """The node as `cluster.json` tells it."""
        pid = self.child.pid if self.child is not None and self.is_running else None
        return NodeEntry(
            home=str(self._layout.home(self.index).root),
            id=self.peer_id,
            multiaddr=self.address.multiaddr,
            grpc=self.address.grpc,
            pid=pid,
        )

    @property
    def state(self) -> str:
        """What its daemon does, in words."""
        if self.child is None:
            return "not started"
        return "running" if self.child.returncode is None else describe_end(self.child.returncode)

    def start(self, peers: list[str], options: list[str]) -> Child:
        """Starts its daemon.

        Args:
            peers: multiaddrs of the others.
            options: other options of `lucid-node run`.

        Raises:
            Conflict: it runs already.
            LucidError: there is no node in its home.
        """
        if self.is_running:
            raise Conflict(f"{self.name} runs already", hint=f"Kill it first: lucid-simnet kill {self.index}")
        self.peer_id = read_peer_id(self._layout, self.index)
        home = self._layout.home(self.index)
        words = [find_program(), "--home", str(home.root), "run"]
        words += ["--passphrase-file", str(self._layout.passphrase)]
        for peer in peers:
            words += ["--peer", peer]
        self.peers = peers
        with self._layout.log(self.index).open("ab") as log:
            self.child = Child([*words, *options], get_environment(), log, log)
        return self.child

    async def wait_ready(self, connected: int, timeout_s: float) -> None:
        """Waits until the daemon serves and is connected to so many peers.

        Raises:
            LocalError: it ended.
            Unavailable: the time is up.
        """

        def look() -> str:
            status = self.get_status()
            is_ready = status.serving and status.peers_connected >= connected
            return "" if is_ready else f"it is connected to {status.peers_connected} of {connected} peers"

        await self._wait(look, timeout_s)

    async def wait_reaches(self, peer_id: str, timeout_s: float) -> None:
        """Waits until a peer answers the daemon: a connection may have died without a word.

        Raises:
            LocalError: it ended.
            Unavailable: the time is up.
        """

        def look() -> str:
            with ControlClient(self._layout.home(self.index)) as client:
                return "" if client.ping_peer(peer_id).round_trip_us else f"it does not reach {peer_id}"

        await self._wait(look, timeout_s)

    async def _wait(self, look: Callable[[], str], timeout_s: float) -> None:
        """Waits until `look`, which is called in a thread, tells of nothing that is missing."""
        deadline = monotonic() + timeout_s
        missing = "it does not answer"
        while True:
            if not self.is_running:
                raise LocalError(f"{self.name} is not ready: {self.state}\n{self._read_log_tail()}")
            with contextlib.suppress(LucidError):
                missing = await asyncio.to_thread(look)
                if not missing:
                    return
            if monotonic() > deadline:
                raise Unavailable(
                    f"{self.name} is not ready after {timeout_s:.0f} s: {missing}\n{self._read_log_tail()}",
                    hint=f"Its log is {self._layout.log(self.index)}.",
                )
            await asyncio.sleep(POLL_S)

    def get_status(self) -> control_pb2.GetStatusResponse:
        """What the daemon says about itself.

        Raises:
            LucidError: it does not answer.
        """
        with ControlClient(self._layout.home(self.index)) as client:
            return client.get_status()

    async def kill(self) -> None:
        """Kills the daemon, and its Tor, with SIGKILL.

        Raises:
            Conflict: it does not run.
        """
        if self.child is None or not self.is_running:
            raise Conflict(f"{self.name} does not run: {self.state}", hint="See `lucid-simnet status`.")
        await self.child.cut()

    async def stop(self) -> None:
        """Ends the daemon, if it runs, well if it can."""
        if self.child is not None:
            await self.child.stop(STOP_GRACE_S)

    def _read_log_tail(self) -> str:
        log = self._layout.log(self.index).read_bytes()
        return log[-LOG_TAIL_BYTES:].decode(errors="replace").strip()


def find_program() -> str:
    """The `lucid-node` that is installed with this program.

    Raises:
        Unavailable: there is none.
    """
    beside = Path(sys.executable).with_name("lucid-node")
    found = str(beside) if beside.exists() else shutil.which("lucid-node")
    if found is None:
        raise Unavailable("there is no lucid-node", hint="Install the project: make setup.")
    return found
