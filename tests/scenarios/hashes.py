"""Prints trace hashes: `python -m tests.scenarios.hashes FIRST LAST [--collect]`, all scenarios in turn.

Seed S runs scenario number S modulo their count. With `--collect` the collector is on when a run begins.
"""

import gc
import sys

from simnet.scenarios import SCENARIOS
from simnet.world.run import run_scenario


def main() -> None:
    """One line per seed: seed, scenario, hash, number of failures."""
    first, last = int(sys.argv[1]), int(sys.argv[2])
    names = sorted(SCENARIOS)
    for seed in range(first, last + 1):
        name = names[seed % len(names)]
        if "--collect" in sys.argv:
            gc.enable()
        else:
            gc.disable()
        outcome = run_scenario(SCENARIOS[name], seed)
        print(seed, name, outcome.trace_hash, len(outcome.failures), flush=True)


if __name__ == "__main__":
    main()
