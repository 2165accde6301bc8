"""Runs a scenario from a seed. A run is a function of code, scenario, seed and settings."""

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from kernel.uninterrupted import end_task
from node.identity.peer_record import load_libp2p
from simnet.world.faults import MakePlan, Plan, no_faults
from simnet.world.guard import guarded
from simnet.world.loop import VirtualLoop
from simnet.world.process import is_death
from simnet.world.sealed_loop import SimulationError
from simnet.world.trace import Trace
from simnet.world.world import WORLD, World

Story = Callable[[World], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story, and what it is told with.

    Attributes:
        name: as on the command line.
        story: what happens, and what must hold.
        nodes: how many there are unless somebody says otherwise.
        make_plan: draws the faults, which the story plays.
    """

    name: str
    story: Story
    nodes: int
    make_plan: MakePlan = no_faults

    @property
    def summary(self) -> str:
        """The story in one line."""
        return (self.story.__doc__ or "").strip().splitlines()[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run went.

    Attributes:
        scenario: its name.
        seed: its seed.
        trace_hash: its identity: BLAKE3 of the trace, in hex.
        virtual_s: how long it was in its own time.
        real_s: how long it took.
        steps: callbacks of the loop.
        failures: what did not hold; empty if all is well.
        plan: the faults.
    """

    scenario: str
    seed: int
    trace_hash: str
    virtual_s: float
    real_s: float
    steps: int
    failures: list[str]
    plan: Plan


def run_scenario(
    scenario: Scenario,
    seed: int,
    *,
    nodes: int | None = None,
    until_s: float | None = None,
    plan: Plan | None = None,
    trace_file: Path | None = None,
) -> Outcome:
    """Runs a scenario.

    Args:
        scenario: what.
        seed: from which everything follows.
        nodes: how many; None: as many as the scenario has.
        until_s: ends the run at this virtual time; None: when the story ends.
        plan: faults; None: those that follow from the seed.
        trace_file: where the trace is written; None: nowhere.

    Raises:
        LocalError: the trace cannot be written.
    """
    load_libp2p()  # which looks at the real machine while it is loaded
    started_s = perf_counter()
    loop = VirtualLoop(is_death=is_death)
    failures: list[str] = []
    count = scenario.nodes if nodes is None else nodes
    if plan is None:
        plan = scenario.make_plan(random.Random(f"{seed}/plan"), count)  # noqa: S311 - a run must repeat
    with Trace(scenario.name, seed, trace_file) as trace, guarded() as guard:
        try:
            loop.run(_tell(scenario, World(seed, count, plan, trace, loop), until_s, failures))
        except SimulationError as error:
            failures.append(str(error))
        failures += [f"the real world was touched: {line}" for line in dict.fromkeys(guard.touched)]
        for failure in failures:
            trace.add(loop.now_ns, WORLD, "fail", failure)
    real_s = perf_counter() - started_s
    return Outcome(scenario.name, seed, trace.hash_hex, loop.time(), real_s, loop.steps, failures, plan)


async def _tell(scenario: Scenario, world: World, until_s: float | None, failures: list[str]) -> None:
    watch = asyncio.create_task(world.watch())
    try:
        async with asyncio.timeout(until_s):
            await scenario.story(world)
            await world.end()
    except TimeoutError:
        if until_s is None or world.now_s < until_s:
            raise
        await world.abandon()
    except SimulationError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        failures.append(f"the story ended with {error!r} in {where.filename}:{where.lineno}")
        await world.abandon()
    finally:
        await end_task(watch)
        failures += world.failures
