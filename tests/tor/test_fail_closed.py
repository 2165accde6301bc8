"""A node whose Tor is missing, wrong, mute or lost reaches nobody, says why, and goes on when that ends."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from simnet.tor.programs import find_tor
from tests.process.conftest import wait_for
from tests.tor.nodes import TorPlace, find_sockets, get_children, is_kept, make_tor_place

FAKE = Path(__file__).with_name("fake_tor.py")
ONION = "/onion3/hnvcppgow2sc2yvdvdicu3ynonsteflxdxrehjr2ybekdc2z3iu63yid:1"
NOWHERE = (
    "TestingTorNetwork 1\n"
    "DirAuthority a orport=1 no-v2 v3ident=0000000000000000000000000000000000000001 127.0.0.1:1"
    " 0000000000000000000000000000000000000002\n"
    "OutboundBindAddress 127.0.0.1"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorPlace]:
    """A home for daemons that meet nobody, one after the other."""
    with make_tor_place(tmp_path_factory.mktemp("f") / "0", NOWHERE.split("\n")) as place:
        yield place


@contextlib.contextmanager
def running(place: TorPlace, **environment: str) -> Iterator[int]:
    """A daemon of a place; its process ID."""
    daemon = place.start_ready("--peer", ONION, environment=environment)
    try:
        yield daemon.process.pid
    finally:
        daemon.stop()


def check_closed(place: TorPlace, pid: int, why: str) -> None:
    """Waits until health tells why; nothing may leave the machine or come in, and recordings go on."""
    place.wait_status(lambda status: re.search(why, "".join(status.problems)))
    assert not place.is_serving()
    sockets = find_sockets(pid)
    assert [one.state for one in sockets if one.is_loopback_tcp] == ["0A"], (
        "the metrics listener, and no other"
    )
    assert all(one.is_loopback_tcp for one in sockets)
    assert all(one.is_loopback_tcp for child in get_children(pid) for one in find_sockets(child))
    session = place.record(b"recorded although nobody is reached")
    assert place.json("session", "verify", session)["valid"]
    [peer] = [peer for peer in place.json("peers")["peers"] if peer["address"] == ONION]
    assert not peer["connected"]
    assert peer["trouble"].startswith("Tor is ")
    done = place.run("ping", ONION)
    assert done.returncode == 5
    assert b"Tor is " in done.stdout + done.stderr


def make_program(place: TorPlace, *words: object) -> str:
    """A program that is started as Tor."""
    program = place.root / "fake"
    program.write_text("#!/bin/sh\nexec " + " ".join(map(str, words)) + ' "$@"\n')
    program.chmod(0o755)
    return str(program)


def test_no_tor_is_installed(home: TorPlace) -> None:
    with running(home, LUCID_TOR_PROGRAM="/no/such/tor") as pid:
        check_closed(home, pid, "there is no program /no/such/tor")


def test_tor_cannot_be_run(home: TorPlace) -> None:
    with running(home, LUCID_TOR_PROGRAM=str(home.passphrase_file)) as pid:
        check_closed(home, pid, "cannot be run: Permission denied")


def test_tor_ends_at_once_and_its_words_are_told(home: TorPlace) -> None:
    with running(home, LUCID_TOR_OPTIONS="EntryNodes {{{") as pid:
        check_closed(home, pid, "Tor ended with status 1: .*Invalid router list")


def test_tor_is_too_old_and_never_let_on_the_network(home: TorPlace) -> None:
    told = home.root / "told"
    program = make_program(home, sys.executable, FAKE, "0.4.7.16", told)
    with running(home, LUCID_TOR_PROGRAM=program) as pid:
        check_closed(home, pid, "Tor 0.4.7.16 is too old: 0.4.8 is the least")
    commands = {line.split()[0] for line in told.read_text().splitlines()}
    assert commands == {"PROTOCOLINFO", "AUTHENTICATE", "GETINFO"}


def test_a_tor_that_is_stopped_does_not_outlive_a_node_that_is_killed(home: TorPlace) -> None:
    daemon = home.start_ready("--peer", ONION)
    wait_for(lambda: any(event["event"] == "tor started" for event in daemon.events()))
    stopped = home.kill_tor(signal.SIGSTOP)
    daemon.stop(signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{stopped}").exists())


def test_tor_never_comes_into_its_network(home: TorPlace) -> None:
    with running(home) as pid:
        check_closed(home, pid, "Tor is bootstrapping: [0-5] %, ")
        [tor] = get_children(pid)
        assert home.get_tor_pid() == tor


@dataclass
class OtherTor:
    """A Tor that somebody else runs."""

    process: "subprocess.Popen[bytes]"
    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "ctl"


StartTor = Callable[..., OtherTor]


@pytest.fixture
def start_tor(tmp_path: Path) -> Iterator[StartTor]:
    """Starts Tors that a node attaches to."""
    started: list[OtherTor] = []

    def start(options: Sequence[str], *more: str) -> OtherTor:
        folder = tmp_path / "t"
        folder.mkdir(0o700)
        own = [f"DataDirectory {folder}", f"ControlSocket unix:{folder}/ctl RelaxDirModeCheck", "SocksPort 0"]
        lines = [*options, *own, "CookieAuthentication 1", f"__OwningControllerProcess {os.getpid()}", *more]
        (folder / "torrc").write_text("\n".join([*lines, ""]))
        words = [find_tor(), "--defaults-torrc", "/dev/null", "-f", str(folder / "torrc"), "--quiet"]
        started.append(OtherTor(subprocess.Popen(words), folder))
        wait_for((folder / "ctl").exists)
        return started[-1]

    yield start
    for tor in started:
        tor.process.kill()
        tor.process.wait()


def test_nobody_is_at_the_control_socket(home: TorPlace, tmp_path: Path) -> None:
    with running(home, LUCID_TOR_CONTROL=str(tmp_path / "none")) as pid:
        check_closed(home, pid, "does not answer: .Errno 2. No such file or directory")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    with running(home, LUCID_TOR_CONTROL=str(tmp_path / "left")) as pid:
        check_closed(home, pid, "does not answer: .Errno 111. Connection refused")


def test_the_cookie_is_not_that_of_the_tor_at_the_control_socket(home: TorPlace, start_tor: StartTor) -> None:
    tor = start_tor(NOWHERE.split("\n"), "HTTPTunnelPort 127.0.0.1:auto")
    cookie = tor.folder / "control_auth_cookie"
    wait_for(cookie.exists)
    cookie.write_bytes(bytes(32))
    with running(home, LUCID_TOR_CONTROL=str(tor.socket)) as pid:
        check_closed(home, pid, "does not know Tor's cookie")
    assert tor.process.poll() is None


def test_a_running_tor_has_no_tunnel(home: TorPlace, start_tor: StartTor, client_options: list[str]) -> None:
    tor = start_tor(client_options)
    with running(home, LUCID_TOR_CONTROL=str(tor.socket)) as pid:
        check_closed(home, pid, "it has no HTTPTunnelPort on 127.0.0.1")
    assert tor.process.poll() is None


def test_a_running_tor_serves_a_node_and_outlives_it(
    start_tor: StartTor, client_options: list[str], make_nodes: Callable[[int], list[TorPlace]]
) -> None:
    tor = start_tor(client_options, "HTTPTunnelPort 127.0.0.1:auto OnionTrafficOnly")
    [place] = make_nodes(1)
    place.environment["LUCID_TOR_CONTROL"] = str(tor.socket)
    place.start_ready()
    place.wait_published()
    assert place.run("onion", "check").returncode == 0
    assert place.daemons[-1].stop() == 0
    assert tor.process.poll() is None
    place.start_ready()  # its services were gone with it
    place.wait_published()
    tor.process.kill()
    tor.process.wait()
    wait_for(place.is_not_serving)
    shutil.rmtree(tor.folder)
    start_tor(client_options, "HTTPTunnelPort 127.0.0.1:auto OnionTrafficOnly")
    place.wait_published()
    wait_for(place.is_serving)


QUICK_CHECKS = """
from node.transport.tor import control, supervisor
control.TIMEOUT_S = supervisor.CHECK_EVERY_S = 1.0
"""


def test_work_waits_while_tor_is_missing_or_paused_and_is_done_when_it_is_back(
    client_options: list[str], make_nodes: Callable[[int], list[TorPlace]]
) -> None:
    keeper, owner = make_nodes(2)
    keeper.start_ready()
    address = keeper.wait_published()
    program = owner.root / "later"
    owner.environment["LUCID_TOR_PROGRAM"] = str(program)
    owner.start_ready("--peer", address, code=QUICK_CHECKS)
    session = owner.record(b"recorded before there was a Tor")
    wait_for(owner.is_not_serving)
    program.symlink_to(owner.root / "tor")
    wait_for(lambda: is_kept(owner, session))
    with owner.holding_tor():
        paused = owner.kill_tor(signal.SIGSTOP)
        owner.wait_status(lambda status: "Tor has not answered for" in str(status.problems))
        session = owner.record(b"recorded while Tor was paused")
        assert not is_kept(owner, session)
    wait_for(lambda: is_kept(owner, session))
    assert owner.get_tor_pid() != paused
    wait_for(owner.is_serving)


def test_a_short_pause_of_tor_is_no_end_of_it(make_nodes: Callable[[int], list[TorPlace]]) -> None:
    [place] = make_nodes(1)
    place.start_ready()
    place.wait_published()
    paused = place.kill_tor(signal.SIGSTOP)
    place.kill_tor(signal.SIGCONT)
    place.kill_tor(signal.SIGHUP)  # as `pkill -HUP tor` would
    assert place.run("onion", "check").returncode == 0
    assert place.get_tor_pid() == paused
