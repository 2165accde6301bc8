"""Real daemons and command lines, as processes of their own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from node.child import make_command

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60
PASSPHRASE = "a passphrase that must show nowhere"


def clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LUCID_")}
    paths = f"{ROOT}{os.pathsep}{ROOT / 'proto'}"
    return kept | {"PYTHONPATH": paths, "LUCID_TRANSPORT": "loopback"}


@dataclass
class Daemon:
    """A daemon that was started."""

    process: subprocess.Popen[bytes]
    log: Path

    def events(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@dataclass
class Place:
    """A home, and what runs on it."""

    root: Path
    passphrase_file: Path
    daemons: list[Daemon] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "home"

    def run(
        self, *arguments: str, input_bytes: bytes = b"", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs `lucid-node` on this home."""
        return subprocess.run(
            [sys.executable, "-m", "node.cli", "--home", str(self.home), *arguments],
            input=input_bytes,
            capture_output=True,
            env=clean_environment() | self.environment | (environment or {}),
            cwd=self.root,
            timeout=DEADLINE_S,
            check=False,
        )

    def json(self, *arguments: str, **more: Any) -> Any:
        """Runs a command with --json that must succeed; gives its document."""
        done = self.run(*arguments, "--json", **more)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def start(
        self,
        *arguments: str,
        code: str = "",
        environment: dict[str, str] | None = None,
        wrapper: Sequence[str] = (),
    ) -> Daemon:
        """Starts a daemon; `code` runs before it, for faults; `wrapper` is a program that runs it."""
        log = self.root / f"log-{len(self.daemons)}"
        launcher = (
            f"{code}\nfrom node.cli import main; main()" if code else "from node.cli import main; main()"
        )
        command = [sys.executable, "-c", launcher, "--home", str(self.home), "run", "--log-format", "json"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                # It does not outlive the tests, however they end.
                make_command(
                    [*wrapper, *command, "--passphrase-file", str(self.passphrase_file), *arguments]
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=clean_environment() | self.environment | (environment or {}),
                cwd=self.root,
            )
        self.daemons.append(Daemon(process, log))
        return self.daemons[-1]

    def start_ready(self, *arguments: str, **more: Any) -> Daemon:
        """Starts a daemon and waits until it is ready."""
        daemon = self.start(*arguments, **more)
        wait_for(
            lambda: any(event["event"] == "ready" for event in daemon.events()),
            daemon.log.read_text,
        )
        return daemon


def wait_for(holds: Callable[[], bool], explain: Callable[[], str] = lambda: "it never came true") -> None:
    """Polls until `holds()`; fails after a long deadline."""
    end = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > end:
            pytest.fail(explain())
        time.sleep(0.01)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    return wait_for


def make_place(root: Path) -> Iterator[Place]:
    passphrase_file = root / "passphrase"
    passphrase_file.write_text(PASSPHRASE + "\n")
    passphrase_file.chmod(0o600)
    place = Place(root, passphrase_file)
    done = place.run("init", "--passphrase-file", str(passphrase_file))
    assert done.returncode == 0, done.stderr.decode()
    yield place
    for daemon in place.daemons:
        with contextlib.suppress(ProcessLookupError):
            daemon.process.kill()
        daemon.process.wait(DEADLINE_S)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A home of its own."""
    yield from make_place(tmp_path)


@pytest.fixture
def make_places(tmp_path: Path) -> Iterator[Callable[[int], list[Place]]]:
    """Several homes."""
    with contextlib.ExitStack() as stack:

        def make(count: int) -> list[Place]:
            places = []
            for number in range(count):
                root = tmp_path / str(number)
                root.mkdir()
                places.append(stack.enter_context(contextlib.contextmanager(make_place)(root)))
            return places

        yield make


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A home with a running daemon that the tests of a module share."""
    for place in make_place(tmp_path_factory.mktemp("s")):
        place.start_ready()
        yield place
