"""Calls an onion service through a Tor network: one tor process that serves an echo, and dials it.

It is the way of every byte between nodes, kept as nodes keep it, without a node: for tests, and to measure a
network.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from kernel.errors import Unavailable
from kernel.onion import OnionKey
from kernel.signing import SEED_BYTES
from node.adapters import SystemEntropy
from node.transport.tor.supervisor import OnionService
from node.transport.tor.torrc import TorSettings
from simnet.tor.client import running_tor, wait_ready
from simnet.tor.programs import find_tor

ONION_PORT = 80
RETRY_S = 0.05
DIAL_TIMEOUT_S = 20.0
MESSAGE = b"is anybody there?\n"


async def call_onion_service(options: Sequence[str], directory: Path, timeout_s: float) -> None:
    """Serves an echo as a new onion service, and calls it once.

    Args:
        options: the network's `client_options`.
        directory: where its tor process may live; replaced.
        timeout_s: for all of it.

    Raises:
        Unavailable: tor is missing, or the call did not succeed in time.
    """
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    settings = TorSettings(program=find_tor(), options=tuple(options))
    step = "tor starts"
    async with running_tor(directory, settings) as tor:
        try:
            async with asyncio.timeout(timeout_s), serve_echo(directory / "echo.sock") as target:
                key = OnionKey(SystemEntropy().draw(SEED_BYTES))
                await tor.publish(OnionService(key, ONION_PORT, target))
                await wait_ready(tor, key.host)
                step = "the service is dialled"
                await _call(tor.get_tunnel(), f"{key.host}.onion:{ONION_PORT}")
        except (TimeoutError, OSError) as error:
            why = tor.state.describe() or error or "the time is up"
            raise Unavailable(f"no call through Tor while {step}: {why}") from error


@asynccontextmanager
async def serve_echo(path: Path) -> AsyncIterator[Path]:
    """A server that sends back whatever comes, at a Unix socket."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(on_connection, path)
    try:
        yield path
    finally:
        server.close()


async def connect(
    tunnel: tuple[str, int], name: str, isolation: str = ""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream to an onion service, HOST.onion:PORT, through Tor's HTTP CONNECT proxy.

    Streams with another `isolation` have other circuits.

    Raises:
        ConnectionError: Tor refuses, or ends the stream.
    """
    reader, writer = await asyncio.open_connection(*tunnel)
    writer.write(f"CONNECT {name} HTTP/1.1\r\nX-Tor-Stream-Isolation: {isolation}\r\n\r\n".encode())
    with suppress(asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        if head.split(b" ")[1] == b"200":
            return reader, writer
    writer.close()
    raise ConnectionError(f"Tor does not reach {name}")


async def _call(tunnel: tuple[str, int], name: str) -> None:
    """Sends a line to the service, and gets it back; dials again while descriptors are still on their way."""
    while True:
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                reader, writer = await connect(tunnel, name)
                try:
                    writer.write(MESSAGE)
                    if await reader.readline() == MESSAGE:
                        return
                finally:
                    writer.close()
        await asyncio.sleep(RETRY_S)
