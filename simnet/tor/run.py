"""Runs the network alone, until somebody ends it."""

import asyncio
import os
from collections.abc import Callable

from kernel.errors import LocalError
from simnet.ending import call_at_end
from simnet.layout import UMASK, Layout, lock_layout
from simnet.progress import Report
from simnet.tor.keys import get_cache_folder
from simnet.tor.network import TorNetwork


def run_tor_network(
    layout: Layout, *, pid: int | None, report: Report, on_ready: Callable[[TorNetwork], None]
) -> None:
    """Runs a Tor network until a signal ends it.

    Args:
        layout: its directory.
        pid: of a process with which the network ends; None: of none.
        report: is told what is being done, and which process ended by itself.
        on_ready: is told when onion services can be reached.

    Raises:
        LucidError: it could not be brought up, or all of it has ended; nothing of it runs.
    """
    os.umask(UMASK)
    layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock_layout(layout):
        asyncio.run(_run(layout, pid, report, on_ready))


async def _run(
    layout: Layout, pid: int | None, report: Report, on_ready: Callable[[TorNetwork], None]
) -> None:
    network = TorNetwork(layout.root, get_cache_folder())

    async def serve() -> None:
        await network.start(report)
        on_ready(network)
        await network.watch(report)
        raise LocalError(
            "no process of the Tor network runs any more", hint=f"See the logs in {layout.root}."
        )

    main = asyncio.ensure_future(serve())
    call_at_end(main.cancel, pid)
    try:
        await main
    except asyncio.CancelledError:
        pass  # a signal: the network is to end
    finally:
        await network.stop()
