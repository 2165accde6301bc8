"""How long a private Tor network takes, from nothing to the first call through an onion service."""

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from simnet.tor.network import TorNetwork
from simnet.tor.probe import call_onion_service

CALL_TIMEOUT_S = 60.0


def measure_starts(count: int) -> list[float]:
    """Seconds of each of so many starts in a row: network, service and first call. Keys are made before.

    Raises:
        LocalError: a start failed.
    """
    with tempfile.TemporaryDirectory(prefix="lucid-tor-") as scratch:
        root = Path(scratch)
        asyncio.run(_measure_start(root / "first", root / "keys"))  # makes the keys
        return [asyncio.run(_measure_start(root / f"{number}", root / "keys")) for number in range(count)]


async def _measure_start(directory: Path, cache: Path) -> float:
    network = TorNetwork(directory, cache)
    begun = monotonic()
    await network.start(lambda _line, _keep: None)
    try:
        up_s = monotonic() - begun
        await call_onion_service(network.client_options, directory / "probe", CALL_TIMEOUT_S)
        took_s = monotonic() - begun
    finally:
        await network.stop()
    print(f"tor: network {up_s:.1f} s, first call after {took_s:.1f} s", file=sys.stderr, flush=True)
    return took_s


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=30, help="starts in a row [30]")
    taken = measure_starts(parser.parse_args().count)
    print(f"{len(taken)} starts: median {statistics.median(taken):.1f} s, worst {max(taken):.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
