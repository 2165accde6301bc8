"""Real daemons on a private Tor network, and how a test waits for what they do."""

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kernel.errors import Unavailable
from lucid.v1 import control_pb2
from node.control.client import ControlClient
from node.home import Home
from tests.process.conftest import Daemon, Place, make_place, wait_for
from tests.tor.traces import check_local, trace_into

SERVING = health_pb2.HealthCheckResponse.SERVING
LOOPBACK, UNSPECIFIED = "0100007F:", "00000000:"
LISTENING = "0A"


class TorPlace(Place):
    """A home whose node uses Tor, and is traced."""

    def start(self, *arguments: str, **more: Any) -> Daemon:
        """See `Place`."""
        wrapper = trace_into(self.root / f"trace-{len(self.daemons)}")
        return super().start(*arguments, **({"wrapper": wrapper} | more))

    def status(self) -> control_pb2.GetStatusResponse:
        """Asked of the daemon without a process for it."""
        with ControlClient(Home(self.home)) as client:
            return client.get_status()

    def wait_status(self, holds: Callable[[control_pb2.GetStatusResponse], object]) -> None:
        """Waits until the status is as a test wants it."""

        def look() -> bool:
            try:
                return bool(holds(self.status()))
            except Unavailable:
                return False

        wait_for(look, lambda: f"{self.status()}\n{self.daemons[-1].log.read_text()[-4000:]}")

    def wait_published(self) -> str:
        """Waits until the current service can be found; its address."""
        self.wait_status(lambda status: self._find_published(status.tor))
        return self._find_published(self.status().tor)

    def wait_connected(self) -> None:
        """Waits until all configured peers are connected."""
        self.wait_status(lambda status: status.peers_connected == status.peers_known)

    def get_tor_pid(self) -> int:
        """Process ID of the Tor that the node started last."""
        pid: int = [event["pid"] for event in self.daemons[-1].events() if event["event"] == "tor started"][
            -1
        ]
        return pid

    def find_tunnel(self) -> tuple[str, int]:
        """Where its Tor takes CONNECT."""
        host, _, port = self.status().tor.tunnel.rpartition(":")
        return host, int(port)

    @contextmanager
    def holding_tor(self) -> Iterator[None]:
        """No Tor that its node starts runs on until the end of the block."""
        held = self.root / "held"
        held.touch()
        try:
            yield
        finally:
            held.unlink()

    def kill_tor(self, number: int = signal.SIGKILL) -> int:
        """Sends its Tor a signal; the process ID that it had."""
        pid = self.get_tor_pid()
        os.kill(pid, number)
        return pid

    def is_serving(self) -> bool:
        """What grpc.health tells at the control socket."""
        with grpc.insecure_channel(f"unix:{Home(self.home).control_socket}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            response = stub.Check(health_pb2.HealthCheckRequest(), timeout=30, wait_for_ready=True)
            return bool(response.status == SERVING)

    def is_not_serving(self) -> bool:
        """Does it tell that it does not serve?"""
        return not self.is_serving()

    def record(self, data: bytes) -> str:
        """Records bytes; the session's ID."""
        session: str = self.json("session", "record", "-", "--wait", "0", input_bytes=data)["session_id"]
        return session

    @staticmethod
    def _find_published(tor: control_pb2.TorStatus) -> str:
        found = [one.address for one in tor.onions if one.role == "current" and one.published]
        return found[0] if found and tor.phase == "ready" else ""


@contextmanager
def make_tor_place(root: Path, tor_options: Sequence[str]) -> Iterator[TorPlace]:
    """A home of a node that listens on an onion service of a private network, and does nothing else."""
    root.mkdir(parents=True)
    with contextmanager(make_place)(root) as made:
        place = TorPlace(made.root, made.passphrase_file, made.daemons)
        program = root / "tor"
        program.write_text(f'#!/bin/sh\nwhile [ -e "{root}/held" ]; do sleep 0.05; done\nexec tor "$@"\n')
        program.chmod(0o755)
        place.environment = {
            "LUCID_TOR_PROGRAM": str(program),
            "LUCID_TRANSPORT": "tor",
            "LUCID_LISTEN": "onion",
            "LUCID_TOR_OPTIONS": "\n".join(tor_options),
        }
        yield place
    for trace in sorted(root.glob("trace-*")):
        check_local(trace)


def is_kept(owner: TorPlace, session: str) -> bool:
    """Does the one peer hold every chunk, and a head that leads to them?"""
    shown = owner.json("replicas", session)
    held = {one["chunk"] for one in shown["replicas"] if one["held"]}
    chunks: int = owner.json("session", "show", session)["chunks"]
    return len(held) == chunks and bool(shown["heads"] == 1)


@dataclass(frozen=True)
class IpSocket:
    """A socket of a process, as the kernel lists it: addresses as ADDRESS:PORT in hexadecimal."""

    table: str
    local: str
    remote: str
    state: str

    @property
    def is_loopback_tcp(self) -> bool:
        """Does it stay in this machine, and carries a stream?"""
        away = (LOOPBACK, UNSPECIFIED) if self.state == LISTENING else (LOOPBACK,)
        return self.table == "tcp" and self.local.startswith(LOOPBACK) and self.remote.startswith(away)


def find_sockets(pid: int) -> list[IpSocket]:
    """A process's IP sockets."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            match = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
            inodes.add(match[1] if match else "")
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        lines = [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
        found += [IpSocket(table, *words[1:4]) for words in lines if words[9] in inodes]
    return found


def get_children(pid: int) -> list[int]:
    """Processes that a process has started, by any of its threads."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(word) for text in texts for word in text.split()]
