"""The scenarios of the simulated world, with a few seeds each; and that a run is a function of its seed."""

import os
import subprocess
import sys

import pytest

from simnet.scenarios import SCENARIOS
from simnet.world.run import Outcome, run_scenario

SEEDS = (1, 2)
LONG = {"churn-recording": 1800.0, "slow-loris-for-hours": 900.0}
"""Of these scenarios, so many virtual seconds are run in the quick tests."""
MANY_SEEDS = range(100, 130)


def run(name: str, seed: int, until_s: float | None = None) -> Outcome:
    outcome = run_scenario(SCENARIOS[name], seed, until_s=until_s)
    if outcome.failures:
        failures = "\n".join(outcome.failures)
        pytest.fail(f"lucid-simnet run {name} --seed {seed}\n{failures}", pytrace=False)
    return outcome


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_must_hold_holds(name: str, seed: int) -> None:
    run(name, seed, LONG.get(name))


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY_SEEDS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_holds_with_many_seeds(name: str, seed: int) -> None:
    run(name, seed)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_follows_from_its_seed(name: str) -> None:
    """Also in another process, where sets of strings have another order."""
    seed = 3
    script = (
        "from simnet.scenarios import SCENARIOS; from simnet.world.run import run_scenario;"
        f"print(run_scenario(SCENARIOS[{name!r}], {seed}, until_s={LONG.get(name)}).trace_hash)"
    )
    outcome = run(name, seed, LONG.get(name))
    environment = {**os.environ, "PYTHONHASHSEED": "1234"}
    other = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == outcome.trace_hash
