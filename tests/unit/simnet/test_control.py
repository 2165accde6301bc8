"""Commands to a running cluster, and what they fail with."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import Conflict, LucidError, StoreFull, Unavailable, UsageError
from simnet.control import MAX_LINE_BYTES, call, start_control
from simnet.layout import Layout


async def handle(command: str, node: int) -> Any:
    match command:
        case "conflict":
            raise Conflict("it runs", hint="kill it")
        case "full":
            raise StoreFull("no space", hint="make some")
        case "disk":
            raise OSError(5, "input/output error")
    return [command, node]


async def ask(layout: Layout, command: str, node: int = -1) -> Any:
    return await asyncio.to_thread(call, layout, command, node)


async def test_a_command_is_carried_out(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    server = await start_control(layout, handle)
    assert layout.socket.stat().st_mode & 0o777 == 0o600
    assert await ask(layout, "kill", 3) == ["kill", 3]
    assert await ask(layout, "status") == ["status", -1]
    server.close()


@pytest.mark.parametrize(
    ("command", "kind", "message"),
    [
        ("conflict", Conflict, "it runs"),
        ("full", LucidError, "no space"),
        ("disk", LucidError, "input/output"),
    ],
)
async def test_errors_come_back_as_they_were(
    tmp_path: Path, command: str, kind: type[LucidError], message: str
) -> None:
    server = await start_control(Layout(tmp_path), handle)
    with pytest.raises(kind, match=message):
        await ask(Layout(tmp_path), command)
    server.close()


async def test_what_a_dead_supervisor_left_is_in_nobodys_way(tmp_path: Path) -> None:
    server = await start_control(Layout(tmp_path), handle)
    server.close()
    Layout(tmp_path).socket.touch()
    with pytest.raises(Unavailable, match="no cluster runs"):
        await ask(Layout(tmp_path), "status")
    server = await start_control(Layout(tmp_path), handle)
    assert await ask(Layout(tmp_path), "status") == ["status", -1]
    server.close()


@pytest.mark.parametrize(
    "line", [b"\n", b"nonsense\n", b"[]\n", b'{"node": 1}\n', b'{"command": "x", "node": []}\n']
)
async def test_lines_that_are_no_command_are_refused(tmp_path: Path, line: bytes) -> None:
    server = await start_control(Layout(tmp_path), handle)
    reader, writer = await asyncio.open_unix_connection(Layout(tmp_path).socket)
    writer.write(line)
    assert b"no command" in await reader.readline()
    writer.close()
    server.close()


async def test_an_endless_line_is_cut_off(tmp_path: Path) -> None:
    server = await start_control(Layout(tmp_path), handle)
    reader, writer = await asyncio.open_unix_connection(Layout(tmp_path).socket)
    writer.write(b"x" * (MAX_LINE_BYTES * 2))
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert await ask(Layout(tmp_path), "status") == ["status", -1]
    server.close()


def test_without_a_cluster_the_hint_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        call(Layout(tmp_path), "status")
    assert "lucid-simnet up" in caught.value.hint
    assert not isinstance(caught.value, UsageError)
