"""The loop with virtual time."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator

import pytest

from simnet.world.loop import Deadlock, Livelock, VirtualLoop
from simnet.world.sealed_loop import SimulationError
from simnet.world.tasks import PLACE, SimTask

DAY_S = 86_400


def now() -> float:
    return asyncio.get_running_loop().time()


def test_sleeping_costs_no_time() -> None:
    async def main() -> float:
        for _ in range(365):
            await asyncio.sleep(DAY_S)
        return now()

    before = time.monotonic()
    assert VirtualLoop().run(main()) == 365 * DAY_S
    assert time.monotonic() - before < 60


def test_what_is_ready_runs_first_come_first_served_and_timers_by_time_then_by_age() -> None:
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(2, seen.append, "late")
        for name in "abc":
            loop.call_later(1, seen.append, name)
        cancelled = loop.call_later(1, seen.append, "never")
        cancelled.cancel()
        assert cancelled.cancelled()
        loop.call_soon(seen.append, "now")
        loop.call_soon(seen.append, "never").cancel()
        await asyncio.sleep(3)

    VirtualLoop().run(main())
    assert seen == ["now", "a", "b", "c", "late"]


def test_timeouts_groups_queues_and_cancellation_are_those_of_asyncio() -> None:
    async def main() -> list[object]:
        seen: list[object] = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        seen.append(now())
        queue: asyncio.Queue[int] = asyncio.Queue(1)

        async def fill() -> None:
            for number in range(3):
                await queue.put(number)

        async def fail() -> None:
            await asyncio.sleep(1)
            raise ValueError("no")

        async with asyncio.TaskGroup() as group:
            group.create_task(fill())
            seen += [await queue.get() for _ in range(3)]
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                group.create_task(asyncio.sleep(100))
        seen.append(now())
        assert await asyncio.to_thread(sum, [1, 2]) == 3
        with pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().run_in_executor(None, lambda: 1 // 0)
        return seen

    assert VirtualLoop().run(main()) == [5, 0, 1, 2, 6]


def test_what_main_raises_is_raised() -> None:
    async def main() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        VirtualLoop().run(main())
    assert gc.isenabled()


def test_a_deadlock_names_every_task_and_where_it_waits() -> None:
    async def wait_in_vain() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_in_vain())

    with pytest.raises(Deadlock) as caught:
        VirtualLoop().run(main())
    assert "wait_in_vain" in str(caught.value)
    assert "test_loop.py" in str(caught.value)
    assert str(caught.value).count("task-") == 2


@pytest.mark.parametrize(
    "step", [lambda: asyncio.sleep(0), lambda: asyncio.sleep(-1), lambda: wait_a_timer(0)]
)
def test_a_livelock_is_ended_although_something_always_runs(step: object) -> None:
    async def main() -> None:
        while True:
            await step()  # type: ignore[operator]

    with pytest.raises(Livelock, match="main"):
        VirtualLoop(max_steps_per_instant=1000).run(main())


async def wait_a_timer(delay: float) -> None:
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(delay, passed.set)
    await passed.wait()


def test_many_steps_at_many_instants_are_no_livelock() -> None:
    async def main() -> None:
        for _ in range(5000):
            await asyncio.sleep(0.001)

    VirtualLoop(max_steps_per_instant=1000).run(main())


def test_sets_of_tasks_and_futures_have_one_order() -> None:
    async def main() -> tuple[list[int], list[int]]:
        noise = [object() for _ in range(gc.get_count()[0] % 97)]
        tasks = {asyncio.create_task(asyncio.sleep(1)) for _ in range(50)}
        futures = {asyncio.get_running_loop().create_future() for _ in range(50)}
        await asyncio.gather(*tasks)
        del noise
        return [hash(task) for task in tasks], [hash(future) for future in futures]

    assert VirtualLoop().run(main()) == VirtualLoop().run(main())


def test_generators_are_closed_in_the_order_in_which_they_began() -> None:
    """Whether the collector finds them, the count of references, or the end of the run."""
    closed: list[str] = []

    async def count(name: str) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(1)
            closed.append(name)

    async def begin(name: str, *, in_a_cycle: bool = False) -> AsyncIterator[int]:
        generator = count(name)
        await anext(generator)
        if in_a_cycle:
            ring: list[object] = [generator]
            ring.append(ring)
        return generator

    async def main() -> list[AsyncIterator[int]]:
        await begin("freed at once")
        for number in range(5):
            await begin(f"cycle {number}", in_a_cycle=True)
        return [await begin(f"kept {number}") for number in range(5)]

    kept = VirtualLoop().run(main())
    assert closed == ["freed at once", *(f"cycle {n}" for n in range(5)), *(f"kept {n}" for n in range(5))]
    del kept


def test_what_nobody_looked_at_fails_the_run() -> None:
    async def fail() -> None:
        raise ValueError("lost")

    async def main() -> None:
        asyncio.create_task(fail())  # noqa: RUF006 - that is what is tested
        await asyncio.sleep(1)

    with pytest.raises(SimulationError, match=r"never retrieved.*lost"):
        VirtualLoop().run(main())


def test_there_are_no_sockets_no_processes_and_no_loop_inside_a_loop() -> None:
    async def main() -> None:
        with pytest.raises(SimulationError, match="create_connection"):
            await asyncio.open_connection("127.0.0.1", 1)
        with pytest.raises(SimulationError, match="subprocess_exec"):
            await asyncio.create_subprocess_exec("true")
        inner = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="inside another"):
            VirtualLoop().run(inner)
        inner.close()

    VirtualLoop().run(main())


def test_a_task_knows_to_whom_it_belongs() -> None:
    async def main() -> list[object]:
        PLACE.set("n1")
        task = asyncio.create_task(asyncio.sleep(0))
        await task
        assert isinstance(task, SimTask)
        return [task.place]

    assert VirtualLoop().run(main()) == ["n1"]


def test_timers_that_were_cancelled_do_not_pile_up() -> None:
    loop = VirtualLoop()

    async def main() -> int:
        for _ in range(60_000):
            loop.call_later(DAY_S, print).cancel()
            await asyncio.sleep(0)
        return len(loop._timers)

    assert loop.run(main()) < 30_000
