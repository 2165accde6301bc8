"""Stories with adversaries: the same run under any order of hashes, and no failure whatever the seed."""

import json
import os
import subprocess
import sys

import pytest

from kernel.errors import UsageError
from simnet.scenarios import SCENARIOS
from simnet.world.adversaries import ADVERSARIES, get_adversary
from simnet.world.run import run_scenario
from tests.mutants.planted_run import ROOT

STORIES = (
    "liar-among-replicas",
    "slow-loris",
    "replays",
    "rolled-back-heads",
    "power-cuts",
    "failing-disks",
    "deleted-everywhere",
    "broken-transfers",
)


@pytest.mark.parametrize("name", STORIES)
def test_a_story_holds(name: str) -> None:
    outcome = run_scenario(SCENARIOS[name], 1)
    assert outcome.failures == []


@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
def test_a_story_holds_for_many_seeds(name: str) -> None:
    failed = {seed: found for seed in range(100) if (found := run_scenario(SCENARIOS[name], seed).failures)}
    assert failed == {}


@pytest.mark.parametrize("name", ["liar-among-replicas", "replays"])
def test_a_run_does_not_depend_on_the_order_of_hashes(name: str) -> None:
    assert run_apart(name, 1) == run_apart(name, 2)


def run_apart(name: str, hash_seed: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants.planted_run", "none", name, "2"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "proto:.", "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line)["hash"] for line in done.stdout.splitlines()]


def test_an_unknown_adversary_is_refused() -> None:
    assert all(map(get_adversary, ADVERSARIES))
    with pytest.raises(UsageError, match="no adversary"):
        get_adversary("nobody")
