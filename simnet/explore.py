"""Runs a scenario with many seeds, in several processes, up to the first one that fails."""

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from time import perf_counter

from simnet.scenarios import SCENARIOS
from simnet.world.run import Outcome, run_scenario

AHEAD = 4
"""So many runs a process are waiting for it."""


@dataclass(frozen=True, slots=True)
class Explored:
    """What came of it.

    Attributes:
        passed: seeds that passed, before the one that failed.
        failed: the run of the lowest seed that failed; None if none did.
        virtual_s: of the runs that passed, together.
        real_s: that it took.
    """

    passed: int
    failed: Outcome | None
    virtual_s: float
    real_s: float


def explore(
    scenario: str,
    seeds: range,
    jobs: int,
    nodes: int | None,
    until_s: float | None,
    report: Callable[[str], None],
) -> Explored:
    """Runs the scenario of that name with each seed.

    Args:
        scenario: its name.
        seeds: in this order.
        jobs: processes.
        nodes: see `run_scenario`.
        until_s: see `run_scenario`.
        report: told how far it is.
    """
    started_s = perf_counter()
    passed, virtual_s, failed = 0, 0.0, None
    # Not forked: a run must not depend on what its parent has done.
    with ProcessPoolExecutor(min(jobs, len(seeds)), mp_context=get_context("spawn")) as pool:
        left, waiting = iter(seeds), list[Future[Outcome]]()
        while failed is None:
            while len(waiting) < jobs * AHEAD and (seed := next(left, None)) is not None:
                waiting.append(pool.submit(run_one, scenario, seed, nodes, until_s))
            if not waiting:
                break
            outcome = waiting.pop(0).result()
            if outcome.failures:
                failed = outcome
            else:
                passed, virtual_s = passed + 1, virtual_s + outcome.virtual_s
                report(f"{passed} of {len(seeds)} runs of {scenario} passed")
        pool.shutdown(cancel_futures=True)
    return Explored(passed, failed, virtual_s, perf_counter() - started_s)


def run_one(scenario: str, seed: int, nodes: int | None, until_s: float | None) -> Outcome:
    """One run, in a process of the pool."""
    return run_scenario(SCENARIOS[scenario], seed, nodes=nodes, until_s=until_s)
