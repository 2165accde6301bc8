"""Four real nodes; at random instants one dies by SIGKILL. No byte that was acknowledged may be lost."""

import os
import secrets
from pathlib import Path

import pytest

from simnet.kills import KINDS, KillRun
from simnet.launch import running_cluster

NODES = 4


def run(tmp_path: Path, seed: int, steps: int) -> KillRun:
    """Does all steps; the message of a failure names the seed that repeats its choices."""
    with running_cluster(tmp_path / "c", NODES) as layout:
        kills = KillRun(layout, tmp_path, seed)
        for number in range(steps):
            try:
                kills.step(number)
            except Exception as error:
                error.add_note(f"seed {seed}, step {number}; logs: {layout.root}")
                raise
    return kills


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    kills = run(tmp_path, seed=1, steps=len(KINDS))
    assert {kind for kind, _ in kills.kills} == set(KINDS)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_in_many_kills(tmp_path: Path) -> None:
    steps = int(os.environ.get("KILL_STEPS", "500"))
    assert sum(run(tmp_path, secrets.randbits(32), steps).kills.values()) == steps
