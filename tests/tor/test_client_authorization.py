"""A service that only holders of a key reach: its address alone helps nobody."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from kernel.onion import OnionKey
from kernel.sealing import compute_x25519_public
from kernel.uninterrupted import end_task
from node.adapters import SystemClock, SystemEntropy
from node.logs import make_logger
from node.transport.tor.supervisor import OnionService, TorSupervisor
from node.transport.tor.torrc import TorSettings
from simnet.tor.probe import connect, serve_echo

KEY = b"k" * 32
TIMEOUT_S = 60.0
PORT = 80


@pytest.fixture
async def make_tor(
    tmp_path: Path, client_options: list[str]
) -> AsyncIterator[Callable[[str], TorSupervisor]]:
    """Makes Tors, each in a folder of its own."""
    async with AsyncExitStack() as stack:

        def make(name: str) -> TorSupervisor:
            tor = TorSupervisor(
                tmp_path / name,
                tmp_path / f"{name}.sock",
                TorSettings(options=tuple(client_options)),
                SystemClock(),
                SystemEntropy(),
                make_logger("error", "json", io.StringIO()),
            )
            stack.push_async_callback(end_task, asyncio.create_task(tor.run()))
            return tor

        yield make


async def wait_ready(tor: TorSupervisor, host: str = "") -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not (tor.is_ready and (not host or tor.is_published(host))):
            await tor.wait_changed()


async def reaches(tor: TorSupervisor, host: str) -> bool:
    """Does an echo come back?"""
    with suppress(ConnectionError):
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await connect(tor.get_tunnel(), f"{host}.onion:{PORT}")
            writer.write(b"?\n")
            answer = await reader.readline()
            writer.close()
            return answer == b"?\n"
    return False


async def test_without_the_key_no_call_and_with_it_one(
    make_tor: Callable[[str], TorSupervisor], tmp_path: Path
) -> None:
    server, client = make_tor("server"), make_tor("client")
    key = OnionKey(b"s" * 32)
    async with serve_echo(tmp_path / "echo.sock") as target:
        await server.publish(OnionService(key, PORT, target, (compute_x25519_public(KEY),)))
        await wait_ready(server, key.host)
        await wait_ready(client)
        assert not await reaches(client, key.host)
        await client.authorize(key.host, b"w" * 32)  # a key, but not the one
        assert not await reaches(client, key.host)
        await client.authorize(key.host, KEY)
        assert await reaches(client, key.host)
