"""A pluggable transport that hides nothing: it passes on what Tor sends (Tor, pt-spec; SOCKS 5, RFC 1928)."""

import asyncio
import contextlib
import ipaddress
import sys

HOST = "127.0.0.1"


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    _, count = await reader.readexactly(2)
    await reader.readexactly(count)
    writer.write(b"\x05\x00")
    _, _, _, kind = await reader.readexactly(4)
    assert kind == 1  # IPv4
    host = str(ipaddress.ip_address(await reader.readexactly(4)))
    port = int.from_bytes(await reader.readexactly(2), "big")
    there_reader, there_writer = await asyncio.open_connection(host, port)
    writer.write(b"\x05\x00\x00\x01" + bytes(6))
    await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))


async def main() -> None:
    server = await asyncio.start_server(on_connection, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    print("VERSION 1", f"CMETHOD plain socks5 {HOST}:{port}", "CMETHODS DONE", sep="\n", flush=True)
    await asyncio.to_thread(sys.stdin.read)  # Tor closes it when it ends


if __name__ == "__main__":
    asyncio.run(main())
