"""Waiting, but not for ever."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from kernel.waiting import Deadline
from simnet.world.loop import VirtualLoop

T = TypeVar("T")
FOR_EVER_S = 1e6


def run(main: Coroutine[Any, Any, T]) -> T:
    return VirtualLoop().run(main)


async def outlast(seconds: float | None) -> float:
    """Sleeps under a deadline; the time at which that ended."""
    try:
        with Deadline(seconds):
            await asyncio.sleep(20)
    except TimeoutError:
        pass
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize(("seconds", "ended_s"), [(5.0, 5), (0.0, 0), (30.0, 20), (None, 20)])
def test_a_deadline_ends_what_takes_longer_and_nothing_else(seconds: float | None, ended_s: float) -> None:
    assert run(outlast(seconds)) == ended_s


def test_what_came_in_time_is_not_disturbed_later() -> None:
    async def main() -> None:
        with Deadline(5):
            await asyncio.sleep(1)
        await asyncio.sleep(10)
        task = asyncio.current_task()
        assert task is not None and not task.cancelling()

    run(main())


def test_an_error_goes_through_and_the_task_can_go_on_after_a_deadline() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError), Deadline(5):
            _ = 1 // 0
        for _ in range(2):
            with pytest.raises(TimeoutError), Deadline(5):
                await asyncio.sleep(10)
        await asyncio.sleep(10)

    run(main())


def test_the_inner_of_two_deadlines_is_not_taken_for_the_outer_one() -> None:
    async def main() -> list[str]:
        seen = []
        try:
            with Deadline(5):
                try:
                    with Deadline(10):
                        await asyncio.sleep(FOR_EVER_S)
                except TimeoutError:
                    seen.append("inner")
        except TimeoutError:
            seen.append("outer")
        return seen

    assert run(main()) == ["outer"]


def test_who_is_cancelled_learns_of_that_even_at_the_deadline() -> None:
    async def main() -> None:
        task = asyncio.create_task(outlast(5))
        asyncio.get_running_loop().call_later(5, task.cancel)
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    run(main())
