"""Our own side of the benchmarks: a node in a home of its own, used through `lucid-node` as anybody would."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import grpc

from benchmarks.process import BenchmarkError, Usage, get_cpu_s, run, running
from lucid.v1 import control_pb2, control_pb2_grpc

PROGRAM = Path(sys.executable).with_name("lucid-node")
POLL_S = 0.002
START_TIMEOUT_S = 60


class Node:
    """A node with a fresh home and a running daemon.

    Attributes:
        home: its home.
        environment: what its commands run in.
        process: the daemon.
        start_s: from starting the daemon until it said that it serves.
    """

    process: "subprocess.Popen[bytes]"
    start_s: float

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are more variables of its environment, LUCID_…."""
        self.home = directory / "h"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "LC_ALL": "C.UTF-8",
            "LUCID_HOME": str(self.home),
            **(settings or {}),
        }
        self._log = directory / "daemon.log"
        self._passphrase = directory / "passphrase"
        self._passphrase.write_text("benchmark passphrase\n")
        self._passphrase.chmod(0o600)
        self._running = ExitStack()
        run([PROGRAM, "init", "--passphrase-file", self._passphrase], self.environment)
        self.start()

    def start(self) -> None:
        """Starts the daemon and waits until it is healthy."""
        start = monotonic()
        command: list[str | Path] = [PROGRAM, "run", "--passphrase-file", self._passphrase]
        self.process = self._running.enter_context(running(command, self.environment, self._log))
        try:
            self._wait_until_serving(start + START_TIMEOUT_S)
        except BaseException:
            self.close()
            raise
        self.start_s = monotonic() - start

    def close(self) -> None:
        """Ends the daemon."""
        self._running.close()

    def _wait_until_serving(self, deadline: float) -> None:
        """Waits for the control socket, then until the daemon behind it says that it serves."""
        address = self.home / "control.sock"
        while not _is_listening(address):
            self._check_waiting(deadline)
        request = control_pb2.GetStatusRequest()
        with grpc.insecure_channel(f"unix:{address}") as channel:
            control = control_pb2_grpc.ControlStub(channel)
            while True:
                try:
                    status = control.GetStatus(request, timeout=START_TIMEOUT_S, wait_for_ready=True)
                except grpc.RpcError as error:
                    raise BenchmarkError(f"the daemon does not tell its status: {error}") from error
                if status.serving:
                    return
                self._check_waiting(deadline)

    def _check_waiting(self, deadline: float) -> None:
        if self.process.poll() is not None or monotonic() > deadline:
            said = self._log.read_text(errors="replace")[-2000:].strip()
            raise BenchmarkError(f"the daemon did not become healthy: {said}")
        sleep(POLL_S)

    def command(self, *arguments: str | Path) -> list[str | Path]:
        """A command line of `lucid-node` for this home."""
        return [PROGRAM, *arguments]

    def list_sessions(self) -> list[dict[str, Any]]:
        """The sessions of the node, with the fields of `session list --json`."""
        answer = json.loads(run(self.command("session", "list", "--json"), self.environment).output)
        sessions: list[dict[str, Any]] = answer["sessions"]
        return sessions

    def get_counters(self) -> dict[str, float]:
        """The daemon's Prometheus samples: name with labels → value."""
        status = json.loads(run(self.command("status", "--json"), self.environment).output)
        with urllib.request.urlopen(f"http://{status['metrics_address']}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, re.M)}


class Lucid:
    """`lucid-node session record` and `session get`, with a fresh node; CPU time includes the daemon's.

    Attributes:
        node: the node.
        stage_cpu_s: CPU time of each stage of the pipeline while it recorded, by the daemon's own count.
        fsync_wait_s: time that recording waited for the disk, likewise.
    """

    def __init__(self, directory: Path) -> None:
        self.node = Node(directory)
        self.stage_cpu_s: dict[str, float] = {}
        self.fsync_wait_s = 0.0
        self._session = ""
        self._stored_bytes = 0

    def record(self, path: Path) -> Usage:
        before = self.node.get_counters()
        usage = self._run(self.node.command("session", "record", "--json", path))
        after = self.node.get_counters()
        result = json.loads(usage.output)
        self._session, self._stored_bytes = result["session_id"], result["stored_bytes"]
        if result["state"] != "complete" or result["plaintext_bytes"] != path.stat().st_size:
            raise BenchmarkError(f"the recording is not complete: {result}")
        self.stage_cpu_s = _compute_growth(before, after, "lucid_stage_cpu_seconds_total")
        self.fsync_wait_s = sum(_compute_growth(before, after, "lucid_fsync_wait_seconds_total").values())
        return usage

    def restore(self, directory: Path) -> tuple[Usage, Path]:
        output = directory / "restored"
        return self._run(self.node.command("session", "get", self._session, output)), output

    def compute_stored_bytes(self) -> int:
        return self._stored_bytes

    def close(self) -> None:
        self.node.close()

    def _run(self, command: list[str | Path]) -> Usage:
        pid = self.node.process.pid
        before = get_cpu_s(pid)
        usage = run(command, self.node.environment, sync=True)
        return Usage(
            usage.wall_s, usage.run_s, usage.cpu_s + get_cpu_s(pid) - before, usage.peak_bytes, usage.output
        )


def _is_listening(address: Path) -> bool:
    """Whether a Unix socket accepts; gRPC alone would wait a second before it tries again."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(address))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _compute_growth(before: dict[str, float], after: dict[str, float], name: str) -> dict[str, float]:
    """How much one counter grew, by the value of its label; all of it under "" if it has none."""
    return {
        key.partition('"')[2].rpartition('"')[0]: value - before.get(key, 0.0)
        for key, value in after.items()
        if key.partition("{")[0] == name
    }


def is_installed() -> bool:
    """Whether `lucid-node` stands beside the interpreter that runs this."""
    return shutil.which(str(PROGRAM)) is not None
