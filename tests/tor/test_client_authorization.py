"""A service that only holders of a key reach: its address alone helps nobody."""

import asyncio
from contextlib import suppress
from pathlib import Path

from kernel.onion import OnionKey
from kernel.sealing import compute_x25519_public
from node.transport.tor.supervisor import OnionService, TorSupervisor
from node.transport.tor.torrc import TorSettings
from simnet.tor.client import running_tor, wait_ready
from simnet.tor.probe import connect, serve_echo

KEY = b"k" * 32
TIMEOUT_S = 60.0
PORT = 80


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


async def test_without_the_key_no_call_and_with_it_one(tmp_path: Path, client_options: list[str]) -> None:
    settings = TorSettings(options=tuple(client_options))
    key = OnionKey(b"s" * 32)
    async with (
        running_tor(tmp_path / "server", settings) as server,
        running_tor(tmp_path / "client", settings) as client,
        serve_echo(tmp_path / "echo.sock") as target,
    ):
        await server.publish(OnionService(key, PORT, target, (compute_x25519_public(KEY),)))
        async with asyncio.timeout(TIMEOUT_S):
            await wait_ready(server, key.host)
            await wait_ready(client)
        assert not await reaches(client, key.host)
        await client.authorize(key.host, b"w" * 32)  # a key, but not the one
        assert not await reaches(client, key.host)
        await client.authorize(key.host, KEY)
        assert await reaches(client, key.host)
