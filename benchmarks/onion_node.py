"""The far side of the figure over Tor: a node that keeps chunks, and a bare stream server beside it.

`python -m benchmarks.onion_node DIRECTORY` reads the torrc lines of a private network, in JSON, from one line
of input, prints the addresses of both onion services, and serves until its input ends.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from benchmarks.transfer_node import BLOB_BYTES, lift_rate_of_pings, serving
from kernel.multiaddr import Multiaddr
from kernel.onion import OnionKey
from node.adapters import SystemEntropy
from node.memory import keep_buffers
from node.transport.tor.supervisor import OnionService
from node.transport.tor.torrc import TorSettings
from node.transport.tor.transport import TorTransport
from simnet.tor.client import running_tor, wait_ready

PORT = 80
GET, PUT, ECHO = b"g", b"p", b"e"
ECHO_BYTES = 64
READ_BYTES = 256 << 10


@asynccontextmanager
async def serving_bare(path: Path) -> AsyncIterator[None]:
    """A byte says what is wanted: 8 MiB, to give 8 MiB, or a short message back."""
    blob = os.urandom(BLOB_BYTES)

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while wanted := await reader.read(1):
                if wanted == GET:
                    writer.write(blob)
                elif wanted == PUT:
                    await take(reader, BLOB_BYTES)
                    writer.write(PUT)
                else:
                    writer.write(await reader.readexactly(ECHO_BYTES))
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(on_connection, path)
    try:
        yield
    finally:
        server.close()


async def take(reader: asyncio.StreamReader, size_bytes: int) -> None:
    """Reads so many bytes, and throws them away."""
    while size_bytes:
        data = await reader.read(min(size_bytes, READ_BYTES))
        if not data:
            raise ConnectionError("the stream ended early")
        size_bytes -= len(data)


async def serve(directory: Path, options: Sequence[str]) -> None:
    """Until standard input ends."""
    node_key, bare_key = (OnionKey(os.urandom(32)) for _ in range(2))
    settings = TorSettings(options=tuple(options))
    async with running_tor(directory, settings) as tor, serving_bare(directory / "bare.sock"):
        transport = TorTransport(tor, directory, SystemEntropy())
        address = Multiaddr("onion3", node_key.host, PORT)
        async with serving(directory / "store", address, transport):
            await transport.publish(node_key, PORT)
            await tor.publish(OnionService(bare_key, PORT, directory / "bare.sock"))
            await wait_ready(tor, node_key.host, bare_key.host)
            print(node_key.host, bare_key.host, flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    keep_buffers()
    lift_rate_of_pings()
    asyncio.run(serve(Path(sys.argv[1]), json.loads(sys.stdin.readline())))
