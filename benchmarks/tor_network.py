"""How long a private Tor network takes, from nothing to the first call through an onion service."""

import asyncio
from pathlib import Path
from time import monotonic

from benchmarks.measures import Report
from simnet.tor.network import TorNetwork
from simnet.tor.probe import call_onion_service

CALL_TIMEOUT_S = 60.0


def measure_starts(scratch: Path, count: int, report: Report) -> list[float]:
    """Seconds of each of so many starts in a row: network, service and first call. Keys are made before.

    Raises:
        LucidError: a start failed.
    """
    keys = scratch / "keys"
    asyncio.run(_measure_start(scratch / "first", keys))  # makes the keys
    taken = []
    for number in range(count):
        taken.append(asyncio.run(_measure_start(scratch / f"start-{number}", keys)))
        report(f"tor: start {number + 1} of {count}: {taken[-1]:.1f} s")
    return taken


async def _measure_start(directory: Path, cache: Path) -> float:
    network = TorNetwork(directory, cache)
    begun = monotonic()
    await network.start(lambda _line, _keep: None)
    try:
        await call_onion_service(network.client_options, directory / "probe", CALL_TIMEOUT_S)
        return monotonic() - begun
    finally:
        await network.stop()
