"""Real nodes: one records, another co-signs; a bundle shows it, and an old copy of the store is found out."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process import conftest as process

KEY_WORDS = b"what was said "


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Any]:
    root = tmp_path / "w"
    root.mkdir()
    yield from process.make_place(root)


@pytest.fixture
def peer(witness: Any) -> tuple[str, str]:
    """Peer ID and multiaddr of a running witness."""
    daemon = witness.start_ready("--listen", "/ip4/127.0.0.1/tcp/0")
    [ready] = [event for event in daemon.events() if event["event"] == "ready"]
    return ready["peer_id"], ready["listen"]


def wait_attested(place: Any, session: str, peer_id: str, eventually: Callable[..., None]) -> Any:
    """Makes bundles until one is attested; gives what `verify bundle` says of it."""
    said: list[Any] = []

    def is_attested() -> bool:
        done = place.run("session", "prove", session, "--out", "bundle", "--force")
        assert done.returncode == 0, done.stderr.decode()
        done = place.run("verify", "bundle", "bundle", "--witness", peer_id, "--json")
        said[:] = [done.stdout]
        return bool(done.returncode == 0)

    eventually(is_attested)
    return json.loads(said[0])


def test_a_bundle_stands_on_what_another_node_has_seen(
    place: Any, peer: tuple[str, str], eventually: Callable[..., None]
) -> None:
    peer_id, address = peer
    place.start_ready("--peer", address)
    recorded = place.json("session", "record", "-", "--wait", "0", input_bytes=KEY_WORDS * 1000)
    document = wait_attested(place, recorded["session_id"], peer_id, eventually)
    assert document["complete"]
    assert [one["witness"] for one in document["attestations"]] == [peer_id]


def test_an_old_copy_of_a_store_never_contradicts_what_was_witnessed(
    place: Any, peer: tuple[str, str], eventually: Callable[..., None]
) -> None:
    peer_id, address = peer
    daemon = place.start_ready("--peer", address)
    command = [sys.executable, "-m", "node.cli", "--home", str(place.home), "session", "record", "-"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=process.clean_environment(),
    ) as client:
        assert client.stdin is not None
        client.stdin.write(KEY_WORDS * 1000)
        client.stdin.flush()
        eventually(lambda: any(one["checkpoints"] for one in list_sessions(place)))
        daemon.stop(signal.SIGKILL)
        client.kill()
    backup = place.root / "backup"
    shutil.copytree(place.home, backup, ignore=shutil.ignore_patterns("*.sock"))

    daemon = place.start_ready("--peer", address)
    [session] = [one["session_id"] for one in list_sessions(place)]
    place.json("session", "recover", session, "--finalize")
    wait_attested(place, session, peer_id, eventually)
    [newest] = list_sessions(place)
    assert daemon.stop() == 0

    shutil.rmtree(place.home)
    backup.rename(place.home)
    place.start_ready("--peer", address)
    place.run("session", "recover", session, "--finalize")
    [info] = list_sessions(place)
    if info["behind"]:  # the last head did not go out in time: nothing is signed
        assert info["state"] == "interrupted"
        assert info["checkpoints"] < newest["checkpoints"]
    else:
        facts = ("state", "root", "manifest_hash", "checkpoints")
        assert [info[fact] for fact in facts] == [newest[fact] for fact in facts]


def list_sessions(place: Any) -> list[Any]:
    sessions: list[Any] = place.json("session", "list")["sessions"]
    return sessions
