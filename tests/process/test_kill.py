"""A real daemon on a real disk, killed by SIGKILL at a chosen operation on its files, and started again.

Every operation on journals and blobs is a step of the write path, counted from the first bytes recorded. The
simulated disk of tests/scenarios takes all of them; here a handful (all of them with `-m slow`) show that the
real system calls, LMDB and the client agree.
"""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Eventually = Callable[..., None]

KILLER = """
import functools, itertools, os, signal
import node.daemon

class KillingFiles:
    def __init__(self, files):
        self._files, self._steps, self._armed = files, itertools.count(1), False

    def __getattr__(self, name):
        def call(*arguments):
            self._armed = self._armed or "/tail-" in arguments[0] or "/unfinished/" in arguments[0]
            if not self._armed or name in ("read", "size", "list_dir"):
                return getattr(self._files, name)(*arguments)
            step = next(self._steps)
            if step == {steps} and {before}:
                os.kill(os.getpid(), signal.SIG{signal})
            result = getattr(self._files, name)(*arguments)
            if step == {steps}:
                os.kill(os.getpid(), signal.SIG{signal})
            return result
        return call

node.daemon.serve = functools.partial(node.daemon.serve, wrap_files=KillingFiles)
"""


def start_client(place: Any, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "node.cli", "--home", str(place.home), "session", "record", "--json"]
    return subprocess.Popen(
        [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def compute_input() -> bytes:
    rng = random.Random(4)
    return b"".join(rng.randbytes(1 << 20) + b"some text " * 100_000 for _ in range(10))


def check(place: Any, document: dict[str, Any], data: bytes, out: Path) -> None:
    assert document["state"] == "complete"
    assert place.json("session", "verify", document["session_id"])["valid"]
    place.json("session", "get", document["session_id"], str(out))
    assert out.read_bytes() == data
    assert place.json("session", "show", document["session_id"])["lost_bytes"] == 0
    status = place.json("status")
    sizes: dict[str, int] = {"blobs": 0, "journal": 0}
    for part in sizes:
        for path in (place.home / "store" / part).rglob("*"):
            sizes[part] += path.stat().st_size if path.is_file() else 0
    assert sizes == {"blobs": status["blob_bytes"], "journal": status["journal_bytes"]}


def kill_while_recording(place: Any, source: str, killer: str, data: bytes) -> None:
    """Records `data`; the first daemon dies on the way, the second one goes on."""
    daemon = place.start_ready(code=killer)
    path = place.root / "input"
    path.write_bytes(data)
    client = start_client(place, str(path) if source == "file" else "-")
    try:
        feeder = subprocess.Popen(["cat", path], stdout=client.stdin) if source == "stream" else None
        if client.stdin is not None:
            client.stdin.close()
            client.stdin = None
        daemon.process.wait(60)
        place.start_ready()
        output, errors = client.communicate(timeout=60)
        if feeder is not None:
            feeder.wait(60)
    finally:
        client.kill()
        client.wait()
    assert client.returncode == 0, errors.decode()
    check(place, json.loads(output.splitlines()[-1]), data, place.root / "output")


@pytest.mark.parametrize("source", ["file", "stream"])
@pytest.mark.parametrize(("steps", "before"), [(1, True), (2, False), (5, True), (9, False), (14, True)])
def test_sigkill_in_the_write_path(place: Any, source: str, steps: int, before: bool) -> None:
    killer = KILLER.format(steps=steps, before=before, signal="KILL")
    kill_while_recording(place, source, killer, compute_input())


@pytest.mark.slow
@pytest.mark.parametrize("source", ["file", "stream"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("steps", range(1, 24))
def test_sigkill_at_every_step(place: Any, source: str, steps: int, before: bool) -> None:
    killer = KILLER.format(steps=steps, before=before, signal="KILL")
    kill_while_recording(place, source, killer, compute_input())


@pytest.mark.parametrize("steps", [2, 6, 11])
def test_sigterm_in_the_write_path(place: Any, steps: int) -> None:
    killer = KILLER.format(steps=steps, before=True, signal="TERM")
    kill_while_recording(place, "file", killer, compute_input())
