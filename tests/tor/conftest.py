"""Private Tor networks as processes of their own, one of which all tests of a run share, and what is left."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tor.nodes import TorPlace, make_tor_place
from tests.tor.traces import RELAY_SOCKETS, STRACE, check_local, trace_into

ROOT = Path(__file__).parents[2]
DEADLINE_S = 90
SIMNET = [sys.executable, "-P", "-c", "from simnet.cli import main; main()"]


def wait_for(holds: Callable[[], Any], explain: Callable[[], str] = lambda: "it never came true") -> None:
    """Polls until `holds()`; fails after a long deadline."""
    end = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > end:
            pytest.fail(explain())
        time.sleep(0.01)


def find_users(folder: Path) -> list[int]:
    """Processes that have a directory in their command line, or work below it; not this one, nor tracers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words, place = (entry / "cmdline").read_bytes(), (entry / "cwd").readlink()
        except OSError:  # it has ended, or is nobody of ours
            continue
        if STRACE is not None and words.startswith(os.fsencode(STRACE)):
            continue
        if os.fsencode(folder) in words or place.is_relative_to(folder):
            found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def make_environment(keys: Path) -> dict[str, str]:
    """What `lucid-simnet` runs in; `keys` is called as its cache is."""
    paths = f"{ROOT}{os.pathsep}{ROOT / 'proto'}"
    return dict(os.environ) | {"PYTHONPATH": paths, "XDG_CACHE_HOME": str(keys.parent)}


class Network:
    """`lucid-simnet tor-network` in the foreground."""

    def __init__(self, folder: Path, keys: Path, owner_pid: int) -> None:
        """`owner_pid` is the process with which the network ends."""
        self.folder = folder
        self.output = folder.with_suffix(".output")
        self.log = folder.with_suffix(".log")
        self.trace = folder.with_suffix(".trace")
        folder.mkdir(exist_ok=True)
        options = ["--dir", str(folder), "--pid", str(owner_pid), "--json"]
        environment = make_environment(keys)
        with self.output.open("wb") as output, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*trace_into(self.trace), *SIMNET, "tor-network", *options],
                stdout=output,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def wait_up(self) -> Any:
        """What it says when onion services can be reached."""
        wait_for(lambda: self.process.poll() is not None or self.output.read_text().endswith("\n"))
        assert self.process.poll() is None, self.log.read_text()
        return json.loads(self.output.read_text())

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@pytest.fixture(scope="session")
def keys() -> Path:
    """Where the keys of all networks are kept, from one run of the tests to the next."""
    cache = ROOT / ".cache" / "lucid"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


@pytest.fixture
def start(tmp_path: Path, keys: Path) -> Iterator[Callable[..., Network]]:
    """Starts networks in one directory; whatever a test leaves of them is ended."""
    started: list[Network] = []

    def start(cache: Path = keys) -> Network:
        started.append(Network(tmp_path / "a t", cache, os.getpid()))
        return started[-1]

    yield start
    for network in started:
        network.end()
    wait_for(lambda: not find_users(tmp_path))
    if started:
        check_local(started[-1].trace, RELAY_SOCKETS)


SHARED: list[Network] = []
"""Holds the network of the run, if this process has started it: others still use it when this one is done."""


@pytest.fixture(scope="session")
def shared_network(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Any:
    """What the network that all tests of this run share says of itself; who comes first starts it.

    It ends with the run, however that ends: it works for the process that all workers are children of.
    """
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if is_worker else base) / "tor"
    told = folder.with_suffix(".told")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            SHARED.append(Network(folder, keys, os.getppid() if is_worker else os.getpid()))
            document = SHARED[0].wait_up()
            told.with_suffix(".new").write_text(json.dumps(document))
            told.with_suffix(".new").rename(told)
    return json.loads(told.read_text())


@pytest.fixture(scope="session")
def client_options(shared_network: Any) -> list[str]:
    """Lines of a torrc with which a Tor uses the shared network, and no other."""
    return [str(option) for option in shared_network["client_options"]]


MakeNodes = Callable[[int], list[TorPlace]]


@pytest.fixture
def make_nodes(tmp_path: Path, client_options: list[str]) -> Iterator[MakeNodes]:
    """Homes of nodes that meet over Tor."""
    with contextlib.ExitStack() as stack:

        def make(count: int) -> list[TorPlace]:
            roots = [tmp_path / str(number) for number in range(count)]
            return [stack.enter_context(make_tor_place(root, client_options)) for root in roots]

        yield make


LIMIT_UP = "700K"
"""Bytes a second that the second one sends of chunks: slow enough for something to happen meanwhile."""


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, client_options: list[str]
) -> Iterator[tuple[TorPlace, TorPlace]]:
    """Two nodes that a module's tests share; each was told of the other."""
    root = tmp_path_factory.mktemp("p")
    with (
        make_tor_place(root / "0", client_options) as first,
        make_tor_place(root / "1", client_options) as second,
    ):
        first.start_ready()
        second.start_ready("--peer", first.wait_published(), "--limit-up", LIMIT_UP)
        first.daemons[-1].stop()
        first.start_ready("--peer", second.wait_published())
        for place in (first, second):
            place.wait_connected()
        yield first, second
