"""Calls an onion service through a Tor network: one tor process that serves an echo, and dials it.

It is the way of every byte between nodes, without a node: for tests, and to measure a network.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from aiostem import Controller
from aiostem.event import Event, EventHsDesc
from aiostem.exceptions import AiostemError
from aiostem.structures import HsDescAction

from kernel.errors import LocalError, Unavailable
from simnet.addresses import HOST, reserve_address
from simnet.process import Child, describe_end
from simnet.tor.programs import find_tor, read_tail, start_tor
from simnet.tor.torrc import quote

ONION_PORT = 80
POLL_S = 0.05
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
        LocalError: tor ended.
    """
    step = ["tor starts"]
    try:
        async with asyncio.timeout(timeout_s), _serve_echo() as target:
            await _call(options, directory, target, step)
    except (TimeoutError, AiostemError, OSError) as error:
        why = f"{error or 'the time is up'}\n{read_tail(directory / 'log')}"
        raise Unavailable(f"no call through Tor while {step[0]}: {why}") from error


async def _call(options: Sequence[str], directory: Path, target: int, step: list[str]) -> None:
    with reserve_address().reservation as reservation:
        tunnel: int = reservation.getsockname()[1]
        child = _start_tor(options, directory, tunnel)
        try:
            async with _connect(directory / "ctl", directory / "log", child) as controller:
                step[0] = "the service is published"
                address = await _publish(controller, target)
                step[0] = "the service is dialled"
                await _dial(tunnel, address)
        finally:
            child.kill()
            await child.ended.wait()


def _start_tor(options: Sequence[str], directory: Path, tunnel: int) -> Child:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    lines = [
        *options,
        "ClientOnly 1",
        "SocksPort 0",
        f"DataDirectory {quote(directory)}",
        f"ControlSocket unix:{quote(directory / 'ctl')}",
        "CookieAuthentication 1",
        f"HTTPTunnelPort {HOST}:{tunnel}",
    ]
    torrc = directory / "torrc"
    torrc.write_text("\n".join([*lines, ""]))
    return start_tor(find_tor(), torrc, directory / "log")


@asynccontextmanager
async def _serve_echo() -> AsyncIterator[int]:
    """A server that sends one line back; gives its port."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError):
            writer.write(await reader.readline())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(on_connection, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def _connect(path: Path, log: Path, child: Child) -> AsyncIterator[Controller]:
    """The control connection, as soon as tor listens."""
    controller = Controller.from_path(str(path))
    async with AsyncExitStack() as stack:
        while not controller.connected:
            try:
                await stack.enter_async_context(controller)
            except (FileNotFoundError, ConnectionRefusedError):
                if child.returncode is not None:
                    raise LocalError(f"tor {describe_end(child.returncode)}\n{read_tail(log)}") from None
                await asyncio.sleep(POLL_S)
        (await controller.authenticate()).raise_for_status()
        yield controller


async def _publish(controller: Controller, target: int) -> str:
    """Makes a new onion service; returns its address once some directory holds its descriptor."""
    uploaded: asyncio.Queue[str] = asyncio.Queue()

    def on_event(event: Event) -> None:
        if isinstance(event, EventHsDesc) and event.action is HsDescAction.UPLOADED:
            uploaded.put_nowait(str(event.address))

    await controller.add_event_handler("HS_DESC", on_event)
    reply = await controller.add_onion("NEW:ED25519-V3", [f"{ONION_PORT},{HOST}:{target}"])
    reply.raise_for_status()
    if reply.data is None:
        raise Unavailable("tor made no onion service")
    address = str(reply.data.address)
    while await uploaded.get() != address:
        pass
    return address


async def _dial(tunnel: int, address: str) -> None:
    """Sends a line to the service, and gets it back; dials again while descriptors are still on their way."""
    answer = b""
    while answer != MESSAGE:
        reader, writer = await asyncio.open_connection(HOST, tunnel)
        try:
            name = f"{address}.onion:{ONION_PORT}"
            writer.write(f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            with suppress(TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(DIAL_TIMEOUT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    if head.split(b" ")[1] == b"200":
                        writer.write(MESSAGE)
                        answer = await reader.readline()
        finally:
            writer.close()
        if answer != MESSAGE:
            await asyncio.sleep(POLL_S)
