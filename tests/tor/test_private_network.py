"""Real tor processes: onion services are reached through them, and none is ever left behind."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.errors import Conflict, LocalError, Unavailable
from simnet.layout import Layout, lock_layout
from simnet.tor import network
from simnet.tor.keys import CACHE_NAME, load_keys
from simnet.tor.network import TorNetwork
from simnet.tor.probe import call_onion_service
from simnet.tor.programs import find_tor
from simnet.tor.torrc import TorNode, write_client_lines, write_node_lines
from tests.tor.conftest import Network, find_users, wait_for
from tests.tor.nodes import find_sockets

NAMES = ["a0", "a1", "a2", "r0", "r1", "r2", "r3", "r4"]
CALL_TIMEOUT_S = 60.0

Start = Callable[..., Network]


async def test_onion_services_are_reached_and_nothing_outlives_the_supervisor(
    start: Start, tmp_path: Path
) -> None:
    running = start()  # in a folder with a space in its name
    told = running.wait_up()
    assert list(told) == ["client_options", "pids"]
    assert sorted(told["pids"]) == NAMES
    assert sorted(find_users(running.folder)) == sorted([running.process.pid, *told["pids"].values()])
    await call_onion_service(told["client_options"], tmp_path / "a probe", CALL_TIMEOUT_S)
    assert all(one.is_loopback_tcp for pid in told["pids"].values() for one in find_sockets(pid))
    with pytest.raises(Conflict, match="runs in"), lock_layout(Layout(running.folder)):
        pass
    os.kill(told["pids"]["r4"], signal.SIGKILL)
    wait_for(lambda: "r4 of the Tor network killed by SIGKILL" in running.log.read_text())
    running.process.kill()
    running.process.wait()
    wait_for(lambda: not find_users(running.folder))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_supervisor_that_ends_on_its_way_up_leaves_nothing(start: Start, number: int) -> None:
    running = start()
    wait_for((running.folder / "r4.log").exists, running.log.read_text)
    assert len(find_users(running.folder)) > 1
    assert running.end(number) == (-number if number == signal.SIGKILL else 0)
    wait_for(lambda: not find_users(running.folder))
    with lock_layout(Layout(running.folder)):
        pass


def test_a_network_ends_with_the_process_that_it_works_for(tmp_path: Path, keys: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as owner:
        running = Network(tmp_path / "t", keys, owner.pid)
        wait_for((running.folder / "a0.log").exists, running.log.read_text)
        owner.kill()
    assert running.process.wait(CALL_TIMEOUT_S) == 0
    wait_for(lambda: not find_users(running.folder))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_keys_that_are_not_finished(start: Start, tmp_path: Path, number: int) -> None:
    cache = tmp_path / "lucid"
    running = start(cache)
    wait_for(lambda: find_users(cache), running.log.read_text)
    assert running.end(number) == (-number if number == signal.SIGKILL else 0)
    wait_for(lambda: not find_users(tmp_path))
    assert not (cache / CACHE_NAME).exists()


def plant_tor(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A `tor` that does something else first."""
    real = find_tor()
    program = folder / "bin" / "tor"
    program.parent.mkdir()
    program.write_text(f'#!{shutil.which("sh")}\n{script}\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


async def test_a_process_that_ends_is_named_and_the_others_end_too(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_tor(tmp_path, monkeypatch, 'case "$*" in *r3/torrc) echo it hurts; exit 3;; esac')
    with pytest.raises(LocalError, match=r"r3 of the Tor network ended with status 3\nit hurts"):
        await TorNetwork(tmp_path / "t", keys).start(lambda _line, _keep: None)
    assert not find_users(tmp_path / "t")


async def test_waiting_ends_and_tells_who_is_late(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_tor(tmp_path, monkeypatch, 'case "$*" in *a1/torrc) echo a moment; exec sleep 600;; esac')
    monkeypatch.setattr(network, "LISTEN_TIMEOUT_S", 2.0)
    with pytest.raises(Unavailable, match=r"after 2 s: a1 does not listen\na moment") as caught:
        await TorNetwork(tmp_path / "t", keys).start(lambda _line, _keep: None)
    assert str(tmp_path / "t") in caught.value.hint
    assert not find_users(tmp_path / "t")


async def test_a_place_that_cannot_be_used_is_told_of(tmp_path: Path, keys: Path) -> None:
    (tmp_path / "t").write_text("a file")
    with pytest.raises(LocalError, match="cannot be started in"):
        await TorNetwork(tmp_path / "t", keys).start(lambda _line, _keep: None)


def verify(node: TorNode, client_lines: list[str]) -> str:
    """What tor says of the settings of a node."""
    node.folder.mkdir(mode=0o700, parents=True)
    torrc = node.folder / "torrc"
    torrc.write_text("\n".join(write_node_lines(node, client_lines, 7)))
    words = [find_tor(), "--defaults-torrc", "/dev/null", "-f", str(torrc), "--verify-config"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


async def test_tor_understands_what_it_is_told_wherever_it_lives(tmp_path: Path, keys: Path) -> None:
    folder = tmp_path / 'an "odd" #place\\'
    made = await load_keys(keys, find_tor(), network.AUTHORITIES, network.RELAYS)
    nodes = [TorNode(made[0], folder / "a0", 1001, 1002), TorNode(made[-1], folder / "r4", 1003, None)]
    for node in nodes:
        said = verify(node, write_client_lines(nodes))
        assert "Configuration was valid" in said, said
        assert "obsolete" not in said


@pytest.mark.slow
async def test_it_starts_again_in_its_directory_after_every_end(start: Start, tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL, signal.SIGTERM):
        running = start()
        told = running.wait_up()
        await call_onion_service(told["client_options"], tmp_path / "probe", CALL_TIMEOUT_S)
        assert running.end(number) == (-number if number == signal.SIGKILL else 0)
        wait_for(lambda: not find_users(tmp_path))


@pytest.mark.slow
async def test_two_networks_do_not_know_each_other(start: Start, tmp_path: Path, keys: Path) -> None:
    first = start().wait_up()
    other = TorNetwork(tmp_path / "other", tmp_path / "keys")
    await other.start(lambda _line, _keep: None)
    try:
        assert not set(other.pids.values()) & set(first["pids"].values())
        for options in (first["client_options"], other.client_options):
            await call_onion_service(options, tmp_path / "probe", CALL_TIMEOUT_S)
    finally:
        await other.stop()
        await other.stop()  # does nothing
    assert not find_users(tmp_path / "other")
