"""`lucid-simnet up --transport tor`: real nodes meet over Tor, are killed, and leave nothing behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tor.conftest import DEADLINE_S, SIMNET, find_users, make_environment, wait_for
from tests.tor.traces import RELAY_SOCKETS, check_local, trace_into

NODES = 3
COMMAND_TIMEOUT_S = 240
TEXT = "kept by strangers, reached over Tor\n" * 1000

StartCluster = Callable[..., "Cluster"]


class Cluster:
    """`lucid-simnet up --transport tor` in the foreground."""

    def __init__(self, root: Path, keys: Path, *options: str) -> None:
        self.root = root
        self.log = root.with_suffix(".log")
        self.trace = root.with_suffix(".trace")
        self._environment = make_environment(keys)
        words = ["up", "--transport", "tor", "--nodes", str(NODES), "--pid", str(os.getpid())]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*trace_into(self.trace), *SIMNET, *words, "--dir", str(root), *options],
                stdout=log,
                stderr=log,
                env=self._environment,
            )

    def read(self) -> Any:
        file = self.root / "cluster.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def wait_up(self) -> Any:
        """What it tells when all are healthy; a file that was left over has other processes in it."""

        def is_up() -> bool:
            pids = [node["pid"] for node in self.read().get("nodes", [])]
            return bool(pids) and set(pids) <= set(find_users(self.root))

        wait_for(lambda: self.process.poll() is not None or is_up(), self.log.read_text)
        assert self.process.poll() is None, self.log.read_text()
        return self.read()

    def run(self, *words: str, node: int | None = None, expect: int = 0) -> Any:
        """The document of a command of the cluster, or of one of its nodes."""
        program = [*SIMNET, words[0], "--dir", str(self.root)]
        if node is not None:
            program = [sys.executable, "-m", "node.cli", "--home", str(self.root / f"n{node}"), words[0]]
        done = subprocess.run(
            [*program, *words[1:], "--json"],
            capture_output=True,
            text=True,
            env=self._environment,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == expect, done.stderr
        return json.loads(done.stdout)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def start_cluster(tmp_path: Path, keys: Path) -> Iterator[StartCluster]:
    """Starts clusters in one directory; whatever a test leaves of them is ended."""
    started: list[Cluster] = []

    def start(*options: str) -> Cluster:
        started.append(Cluster(tmp_path / "c", keys, *options))
        return started[-1]

    yield start
    for cluster in started:
        cluster.end()
    wait_for(lambda: not find_users(tmp_path))
    if started:
        check_local(started[-1].trace, RELAY_SOCKETS)


def test_recordings_spread_over_tor_and_a_killed_node_comes_back(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster = start_cluster()
    told = cluster.wait_up()
    assert told["transport"] == "tor"
    assert "TestingTorNetwork 1" in told["tor_options"]
    for node in told["nodes"]:
        host = node["grpc"].removesuffix(".onion:4001")
        assert node["multiaddr"] == f"/onion3/{host}:4001"
        assert len(host) == 56
    source = tmp_path / "source"
    source.write_text(TEXT)
    session = cluster.run("session", "record", "--wait", "0", str(source), node=0)["session_id"]

    def find_holders() -> set[str]:
        replicas = cluster.run("replicas", session, node=0)["replicas"]
        return {one["peer_id"] for one in replicas if one["held"]}

    wait_for(lambda: find_holders() == {node["id"] for node in told["nodes"][1:]})
    cluster.run("kill", "1")
    assert not find_users(cluster.root / "n1")  # its Tor is gone, too
    assert cluster.run("status", expect=1)["nodes"][1]["state"] == "killed by SIGKILL"
    cluster.run("start", "1")
    again = cluster.read()["nodes"][1]
    assert again == told["nodes"][1] | {"pid": again["pid"]}
    for node in cluster.run("status")["nodes"]:
        assert (node["healthy"], node["peers_connected"]) == (True, NODES - 1)
    assert cluster.run("down") == {"dir": str(cluster.root)}
    assert cluster.process.wait(DEADLINE_S) == 0
    assert not find_users(cluster.root)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_supervisor_that_ends_while_nodes_look_for_each_other_leaves_nothing(
    start_cluster: StartCluster, number: int
) -> None:
    cluster = start_cluster()
    wait_for(lambda: find_users(cluster.root / "n2" / "tor"), cluster.log.read_text)
    assert cluster.end(number) == (-number if number == signal.SIGKILL else 0)
    wait_for(lambda: not find_users(cluster.root))


def test_nodes_that_cannot_start_take_the_network_along(start_cluster: StartCluster) -> None:
    cluster = start_cluster("--", "--log-level", "nonsense")
    assert cluster.process.wait(DEADLINE_S) == 1
    assert "is not ready: ended with status 2" in cluster.log.read_text()
    assert not find_users(cluster.root)
    assert not cluster.read()


def test_without_a_good_tor_it_says_what_to_do(
    start_cluster: StartCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "tor"
    old.write_text("#!/bin/sh\necho Tor version 0.4.7.16.\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    cluster = start_cluster()
    assert cluster.process.wait(DEADLINE_S) == 6
    said = cluster.log.read_text()
    assert "Tor 0.4.7.16 is too old" in said
    assert "sudo apt-get install -y tor" in said
    assert not find_users(cluster.root)


@pytest.mark.slow
def test_it_comes_up_again_after_every_end_and_leaves_nothing(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    before: list[str] = []
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        cluster = start_cluster()
        addresses = [node["multiaddr"] for node in cluster.wait_up()["nodes"]]
        assert before in ([], addresses)
        before = addresses
        assert cluster.end(number) == (-number if number == signal.SIGKILL else 0)
        wait_for(lambda: not find_users(tmp_path))


@pytest.mark.slow
def test_a_replaced_onion_service_is_told_of_at_the_next_start(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    before = cluster.wait_up()["nodes"]
    cluster.run("onion", "rotate", node=1)
    cluster.run("kill", "2")
    cluster.run("start", "2")
    after = cluster.read()["nodes"]
    assert after[0] == before[0]
    assert after[1]["multiaddr"] != before[1]["multiaddr"]
    status = cluster.run("status", node=1)
    assert status["listen"].startswith(after[1]["multiaddr"])
