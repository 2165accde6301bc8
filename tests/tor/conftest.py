"""A private Tor network as a process of its own, and what is left of it."""

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
    """Processes that have a directory in their command line, or work below it; this one left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words, place = (entry / "cmdline").read_bytes(), (entry / "cwd").readlink()
        except OSError:  # it has ended, or is nobody of ours
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

    def __init__(self, folder: Path, keys: Path) -> None:
        self.folder = folder
        self.output = folder.with_suffix(".output")
        self.log = folder.with_suffix(".log")
        folder.mkdir(exist_ok=True)
        options = ["--dir", str(folder), "--pid", str(os.getpid()), "--json"]
        environment = make_environment(keys)
        with self.output.open("wb") as output, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*SIMNET, "tor-network", *options], stdout=output, stderr=log, env=environment
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
        started.append(Network(tmp_path / "a t", cache))
        return started[-1]

    yield start
    for network in started:
        network.end()
    wait_for(lambda: not find_users(tmp_path))
