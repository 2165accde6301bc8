"""Many seeds: each passes, and gives the same trace again in another process. Long."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SEEDS = 1000
BATCH = 50
ROOT = Path(__file__).parents[2]


def run_batch(first: int, hash_seed: str, *options: str) -> list[str]:
    """The lines that `hashes` prints for a batch of seeds, in a process of its own."""
    environment = os.environ | {
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "proto"))),
    }
    command = [sys.executable, "-m", "tests.scenarios.hashes", str(first), str(first + BATCH - 1), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, SEEDS + 1, BATCH))
def test_every_seed_passes_and_repeats_with_another_hash_seed_other_load_and_another_collector(
    first: int,
) -> None:
    """Both processes run at once: each is the other's load."""
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(run_batch, first, "1")
        other = pool.submit(run_batch, first, "4711", "--collect")
    lines = one.result()
    assert lines == other.result()
    failed = [line for line in lines if not line.endswith(" 0")]
    assert not failed, "\n".join(
        f"lucid-simnet run {name} --seed {seed}" for seed, name, *_ in map(str.split, failed)
    )
    assert len(lines) == BATCH
