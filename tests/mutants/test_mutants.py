"""Scenarios and invariants find defects: each planted one makes a run fail that is right without it."""

import functools
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.mutants.catalogue import MUTANTS, QUICK, Mutant
from tests.mutants.planted_run import ROOT, change

TIMEOUT_S = 900


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_defect_can_be_planted(mutant: Mutant) -> None:
    for file, text in change(mutant.edits).items():
        compile(text, file, "exec")


def test_there_are_enough() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names)) >= 25
    assert set(names) >= QUICK


@pytest.mark.parametrize(
    "mutant", [mutant for mutant in MUTANTS if mutant.name in QUICK], ids=lambda mutant: mutant.name
)
def test_a_defect_is_found(mutant: Mutant) -> None:
    check_found(mutant)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutant", [mutant for mutant in MUTANTS if mutant.name not in QUICK], ids=lambda mutant: mutant.name
)
def test_every_defect_is_found(mutant: Mutant) -> None:
    check_found(mutant)


def check_found(mutant: Mutant) -> None:
    """With the defect a run fails, or differs; the same run without it does not."""
    if mutant.is_order:
        assert run(mutant.name, mutant.scenario, 1, 1) != run(mutant.name, mutant.scenario, 1, 2)
        assert run("none", mutant.scenario, 1, 1) == run("none", mutant.scenario, 1, 2)
        return
    last = run(mutant.name, mutant.scenario, mutant.seeds)[-1]
    assert last["failures"], f"nobody notices that {mutant.what}"
    assert not run("none", mutant.scenario, last["seed"] + 1)[-1]["failures"]


@functools.cache
def run(name: str, scenario: str, seeds: int, hash_seed: int = 0) -> list[dict[str, Any]]:
    """What `planted_run` says, for each seed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants.planted_run", name, scenario, str(seeds)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "proto:.", "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
