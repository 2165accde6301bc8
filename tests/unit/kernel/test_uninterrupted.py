import asyncio

import pytest

from kernel.uninterrupted import end_task, run_to_end


@pytest.mark.parametrize("fails", [False, True])
async def test_work_runs_to_its_end_however_often_its_caller_is_cancelled(fails: bool) -> None:
    go_on = asyncio.Event()
    steps: list[str] = []

    async def work() -> None:
        await go_on.wait()
        steps.append("done")
        if fails:
            raise KeyError

    caller = asyncio.create_task(run_to_end(work()))
    for _ in range(5):
        await asyncio.sleep(0)
        caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert steps == ["done"]


async def test_results_and_errors_of_work_come_back() -> None:
    async def answer(value: object) -> object:
        if isinstance(value, Exception):
            raise value
        return value

    assert await run_to_end(answer(7)) == 7
    with pytest.raises(KeyError):
        await run_to_end(answer(KeyError()))


async def test_who_is_cancelled_while_ending_a_task_stays_cancelled() -> None:
    may_end = asyncio.Event()

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()

    child = asyncio.create_task(linger())
    await asyncio.sleep(0)
    caller = asyncio.create_task(end_task(child))
    await asyncio.sleep(0)
    caller.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
