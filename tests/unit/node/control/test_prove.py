"""Bundles through the control API and the command line, over a real socket."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lucid.v1 import session_pb2
from node.cli import run
from node.control.server import ControlServer
from session.bundle_verifier import verify_bundle
from session.recording_request import RecordingRequest

Prove = Callable[..., Awaitable[int]]


@pytest.fixture
async def recorded(bench: Any) -> AsyncIterator[tuple[Any, str]]:
    """A node that is served, and a session of two chunks."""
    async with contextlib.AsyncExitStack() as stack:
        server = ControlServer(bench.node, bench.home.control_socket)
        await server.start()
        stack.push_async_callback(server.stop)
        kind = session_pb2.SOURCE_KIND_STREAM
        request = RecordingRequest(kind, session_pb2.Metadata(kind=kind), live=True)
        recording = await bench.node.manager.open_recording(request)
        await recording.append(0, b"said" * 10_000)
        await recording.finish(session_pb2.Ending(ended_ns=recording.started_ns))
        yield bench, recording.session_id.hex()


async def prove(bench: Any, session: str, *arguments: str) -> int:
    return await asyncio.to_thread(
        run, ["session", "prove", session, "--home", str(bench.home.root), *arguments]
    )


async def test_a_bundle_is_written(
    recorded: tuple[Any, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, session = recorded
    out = tmp_path / "bundle"
    assert await prove(bench, session[:8], "--out", str(out), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"session_id", "output", "bundle_bytes"}
    assert document["bundle_bytes"] == out.stat().st_size
    report = verify_bundle(out.read_bytes())
    assert report.session_id.hex() == session
    assert report.chunk is None
    assert await prove(bench, session, "--out", str(out)) == 1
    assert await prove(bench, session, "--out", str(out), "--force") == 0


async def test_a_chunk_is_shown_or_revealed(recorded: tuple[Any, str], tmp_path: Path) -> None:
    bench, session = recorded
    shown, revealed = tmp_path / "shown", tmp_path / "revealed"
    assert await prove(bench, session, "--out", str(shown), "--chunk", "0", "--range", "0:5000") == 0
    chunk = verify_bundle(shown.read_bytes()).chunk
    assert chunk is not None
    assert (chunk.first_byte, chunk.end_byte, chunk.plaintext) == (0, 8192, None)
    assert await prove(bench, session, "--out", str(revealed), "--chunk", "0", "--reveal") == 0
    chunk = verify_bundle(revealed.read_bytes()).chunk
    assert chunk is not None
    assert chunk.plaintext == b"said" * 10_000


async def test_what_makes_no_sense_is_refused(recorded: tuple[Any, str], tmp_path: Path) -> None:
    bench, session = recorded
    out = str(tmp_path / "new" / "bundle")
    tmp_path.joinpath("new").mkdir()
    for wrong in (
        ("--reveal",),
        ("--range", "0:5"),
        ("--chunk", "9"),
        ("--chunk", "0", "--range", "0:999999"),
    ):
        assert await prove(bench, session, "--out", out, *wrong) == 2
    assert await prove(bench, "ffff", "--out", out) == 4
    tmp_path.joinpath("new").rmdir()  # nothing is left in it
