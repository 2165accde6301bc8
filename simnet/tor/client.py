"""One Tor on a private network, kept as a node keeps its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kernel.uninterrupted import end_task
from node.adapters import SystemClock, SystemEntropy
from node.logs import make_logger
from node.transport.tor.supervisor import TorSupervisor
from node.transport.tor.torrc import TorSettings


@asynccontextmanager
async def running_tor(directory: Path, settings: TorSettings) -> AsyncIterator[TorSupervisor]:
    """A Tor that starts, and is gone at the end; `directory` is made, and may be a new or an old one's."""
    await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True, exist_ok=True)
    log = make_logger("error", "text")
    tor = TorSupervisor(
        directory / "tor", directory / "tor.sock", settings, SystemClock(), SystemEntropy(), log
    )
    keeping = asyncio.create_task(tor.run())
    try:
        yield tor
    finally:
        await end_task(keeping)


async def wait_ready(tor: TorSupervisor, *hosts: str) -> None:
    """Returns when it can be dialled through, and clients can find these services of it."""
    while not (tor.is_ready and all(map(tor.is_published, hosts))):
        await tor.wait_changed()
