"""`lucid-simnet`: clusters of real nodes come up, take commands, and leave no process behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simnet.layout import Layout, lock_layout

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120
KEYS = {"home", "id", "multiaddr", "grpc", "pid"}
SIMNET = [sys.executable, "-P", "-c", "from simnet.cli import main; main()"]

Eventually = Callable[..., None]


def make_environment() -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}"}


def simnet(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SIMNET, *arguments],
        capture_output=True,
        text=True,
        env=make_environment(),
        timeout=DEADLINE_S,
        check=False,
    )


def simnet_json(*arguments: str) -> Any:
    done = simnet(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_alive(node: dict[str, Any]) -> bool:
    """Whether the process of that number is still the daemon of that node; a zombie has no command line."""
    try:
        return os.fsencode(node["home"]) in Path(f"/proc/{node['pid']}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Cluster:
    """`lucid-simnet up` in the foreground."""

    def __init__(self, root: Path, count: int, *options: str) -> None:
        self.root = root
        self.log = root.with_suffix(".log")
        command = [
            *SIMNET,
            "up",
            "--nodes",
            str(count),
            "--dir",
            str(root),
            "--pid",
            str(os.getpid()),
            *options,
        ]
        environment = make_environment()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*command, *options], stdout=log, stderr=log, env=environment)

    @property
    def nodes(self) -> list[dict[str, Any]]:
        file = self.root / "cluster.json"
        nodes: list[dict[str, Any]] = json.loads(file.read_text())["nodes"] if file.exists() else []
        return nodes

    def wait_up(self, eventually: Eventually) -> list[dict[str, Any]]:
        """The nodes; a file that a killed supervisor left behind has other processes in it."""
        eventually(
            lambda: self.process.poll() is not None or (self.nodes != [] and all(map(is_alive, self.nodes))),
            self.log.read_text,
        )
        assert self.process.poll() is None, self.log.read_text()
        return self.nodes

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE_S)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, eventually: Eventually) -> Iterator[Cluster]:
    """Three nodes that tests share; each leaves all of them running."""
    running = Cluster(tmp_path_factory.mktemp("c") / "d", 3)
    try:
        running.wait_up(eventually)
        yield running
    finally:
        running.end()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Starts clusters in one directory; whatever a test leaves of them is ended."""
    started: list[Cluster] = []

    def start(count: int = 2, *options: str) -> Cluster:
        started.append(Cluster(tmp_path / "d", count, *options))
        return started[-1]

    yield start
    for cluster in started:
        cluster.end()


def test_the_file_tells_who_is_there(cluster: Cluster) -> None:
    nodes = cluster.nodes
    assert len(nodes) == 3
    for number, node in enumerate(nodes):
        assert node.keys() == KEYS
        assert node["home"] == str(cluster.root / f"n{number}")
        assert node["multiaddr"] == "/ip4/127.0.0.1/tcp/" + node["grpc"].removeprefix("127.0.0.1:")
        assert is_alive(node)
    assert len({node["id"] for node in nodes}) == len({node["grpc"] for node in nodes}) == 3
    for secret in ("passphrase", "n0.words", "simnet.sock"):
        assert (cluster.root / secret).stat().st_mode & 0o777 == 0o600
    assert cluster.root.stat().st_mode & 0o777 == 0o700
    assert len((cluster.root / "n1.words").read_text().split()) == 24


def test_every_node_is_healthy_and_knows_all_others(cluster: Cluster) -> None:
    status = simnet_json("status", "--dir", str(cluster.root))
    assert status["dir"] == str(cluster.root)
    for node, told in zip(cluster.nodes, status["nodes"], strict=True):
        assert node.items() <= told.items()
        assert (told["state"], told["healthy"], told["peers_connected"]) == ("running", True, 2)
    shown = simnet("status", "--dir", str(cluster.root)).stdout
    assert shown.count("healthy") == 3
    assert all(node["id"] in shown for node in cluster.nodes)


def test_a_killed_node_comes_back_at_its_address(cluster: Cluster) -> None:
    before = cluster.nodes
    directory = ["--dir", str(cluster.root)]
    simnet_json("kill", "1", *directory)
    assert not is_alive(before[1])
    assert [node["pid"] for node in cluster.nodes] == [before[0]["pid"], None, before[2]["pid"]]
    told = simnet("status", *directory, "--json")
    assert told.returncode == 1
    assert json.loads(told.stdout)["nodes"][1]["state"] == "killed by SIGKILL"
    again = simnet("kill", "1", *directory)
    assert again.returncode == 1
    assert "does not run" in again.stderr
    simnet_json("start", "1", *directory)
    after = cluster.nodes
    assert after[1] == before[1] | {"pid": after[1]["pid"]}
    assert is_alive(after[1])
    assert simnet_json("status", *directory)["nodes"][1]["peers_connected"] == 2
    twice = simnet("start", "1", *directory)
    assert twice.returncode == 1
    assert "runs already" in twice.stderr


def test_a_node_that_ends_by_itself_is_noticed(cluster: Cluster, eventually: Eventually) -> None:
    os.kill(cluster.nodes[2]["pid"], signal.SIGTERM)
    eventually(lambda: cluster.nodes[2]["pid"] is None)
    eventually(lambda: "n2 ended with status 0" in cluster.log.read_text())
    simnet_json("start", "2", "--dir", str(cluster.root))
    assert is_alive(cluster.nodes[2])


def test_logs(cluster: Cluster) -> None:
    shown = simnet("logs", "0", "--dir", str(cluster.root))
    assert shown.returncode == 0
    assert '"event": "ready"' in shown.stdout
    command = [*SIMNET, "logs", "0", "--follow", "--dir", str(cluster.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=make_environment()) as following:
        assert following.stdout is not None
        while '"event": "ready"' not in following.stdout.readline():
            pass
        with (cluster.root / "n0.log").open("a") as log:
            log.write("one more line\n")
        while following.stdout.readline() != "one more line\n":
            pass
        following.send_signal(signal.SIGINT)
    assert following.returncode == 130


def test_a_directory_has_one_cluster(cluster: Cluster) -> None:
    second = simnet("up", "--nodes", "2", "--dir", str(cluster.root))
    assert second.returncode == 1
    assert f"runs in {cluster.root} already" in second.stderr
    assert "lucid-simnet down" in second.stderr
    assert all(is_alive(node) for node in cluster.nodes)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["kill", "7"], 2, "nodes 0 to 2"),
        (["start", "7"], 2, "nodes 0 to 2"),
        (["logs", "7"], 4, "there is no"),
        (["kill", "x"], 2, "not a valid integer"),
        (["kill"], 2, "Missing argument"),
    ],
)
def test_what_makes_no_sense_is_refused(cluster: Cluster, arguments: list[str], code: int, said: str) -> None:
    done = simnet(*arguments, "--dir", str(cluster.root))
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_of_it(start: Callable[..., Cluster], eventually: Eventually, number: int) -> None:
    cluster = start(2)
    nodes = cluster.wait_up(eventually)
    cluster.process.send_signal(number)
    assert cluster.process.wait(DEADLINE_S) == 0
    assert not any(is_alive(node) for node in nodes)
    left = {path.name for path in cluster.root.iterdir()}
    assert left == {"lock", "passphrase", "n0", "n0.log", "n0.words", "n1", "n1.log", "n1.words"}


def test_a_killed_supervisor_takes_its_nodes_along(
    start: Callable[..., Cluster], eventually: Eventually
) -> None:
    cluster = start(2)
    before = cluster.wait_up(eventually)
    cluster.process.kill()
    cluster.process.wait(DEADLINE_S)
    eventually(lambda: not any(is_alive(node) for node in before))
    refused = simnet("status", "--dir", str(cluster.root))
    assert refused.returncode == 6
    assert "no cluster runs in" in refused.stderr
    again = start(3)
    after = again.wait_up(eventually)
    assert [node["id"] for node in after[:2]] == [node["id"] for node in before]
    assert all(is_alive(node) for node in after)
    assert simnet_json("down", "--dir", str(again.root)) == {"dir": str(again.root)}
    assert again.process.wait(DEADLINE_S) == 0
    assert not any(is_alive(node) for node in after)


def test_a_supervisor_killed_on_its_way_up_leaves_nothing(
    start: Callable[..., Cluster], eventually: Eventually
) -> None:
    cluster = start(2)
    eventually((cluster.root / "n1.log").exists)
    cluster.process.kill()
    cluster.process.wait(DEADLINE_S)
    eventually(lambda: not find_users(cluster.root))


def test_it_ends_with_the_process_that_was_named(tmp_path: Path, eventually: Eventually) -> None:
    owner = subprocess.Popen(["sleep", "600"])
    done = simnet(
        "up", "--nodes", "2", "--dir", str(tmp_path / "d"), "--detach", "--pid", str(owner.pid), "--json"
    )
    try:
        assert done.returncode == 0, done.stderr
        nodes = json.loads(done.stdout)["nodes"]
        assert all(is_alive(node) for node in nodes)
    finally:
        owner.kill()
        owner.wait(DEADLINE_S)
    eventually(lambda: not any(is_alive(node) for node in nodes))
    eventually(lambda: not find_users(tmp_path / "d"))


def find_users(root: Path) -> list[int]:
    """Processes that have a directory in their command line, this one left out."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.fsencode(root) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [pid for pid in found if pid != os.getpid()]


def test_nodes_that_cannot_start_are_told_of(tmp_path: Path) -> None:
    done = simnet("up", "--nodes", "2", "--dir", str(tmp_path / "d"), "--", "--log-level", "nonsense")
    assert done.returncode == 1
    assert "is not ready: ended with status 2" in done.stderr
    assert '"nonsense" is not one of' in done.stderr
    assert not find_users(tmp_path / "d")
    assert not (tmp_path / "d" / "cluster.json").exists()
    with lock_layout(Layout(tmp_path / "d")):
        pass


def test_a_directory_without_room_for_sockets_is_refused_at_once(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 100)
    done = simnet("up", "--nodes", "2", "--dir", str(directory))
    assert done.returncode == 2
    assert "shorter path" in done.stderr
    assert not directory.exists()


def test_help_names_every_command() -> None:
    shown = simnet("--help").stdout
    for command in ("up", "status", "kill", "start", "logs", "down"):
        assert f"\n  {command} " in shown
        assert simnet(command, "--help").returncode == 0
