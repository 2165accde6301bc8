import asyncio
import threading

import pytest

from node.adapters import SystemClock, SystemEntropy, ThreadOffload


async def test_monotonic_time_goes_on_while_sleeping() -> None:
    clock = SystemClock()
    before = clock.monotonic_ns()
    await clock.sleep(0.001)
    assert clock.monotonic_ns() - before >= 1_000_000
    assert clock.wall_ns() > 1_700_000_000 * 10**9


def test_entropy_has_the_size_asked_for_and_does_not_repeat() -> None:
    assert len(SystemEntropy().draw(32)) == 32
    assert SystemEntropy().draw(32) != SystemEntropy().draw(32)


async def test_work_runs_elsewhere_and_its_outcome_comes_back() -> None:
    offload = ThreadOffload("t", 1)

    def fail() -> None:
        raise KeyError("x")

    try:
        assert await offload.run(threading.get_ident) != threading.get_ident()
        assert await offload.run(sorted, [2, 1], reverse=True) == [2, 1]
        with pytest.raises(KeyError):
            await offload.run(fail)
    finally:
        offload.close()


async def test_the_pool_is_bounded() -> None:
    offload = ThreadOffload("t", 2)
    running, most = 0, 0
    lock, gate = threading.Lock(), threading.Event()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 2:
                gate.set()
        gate.wait(10)
        with lock:
            running -= 1

    try:
        await asyncio.gather(*[offload.run(work) for _ in range(6)])
    finally:
        offload.close()
    assert most == 2


async def test_a_cancelled_caller_learns_of_it_when_the_work_has_ended() -> None:
    offload = ThreadOffload("t", 1)
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(30)
        ended.set()

    task = asyncio.create_task(offload.run(work))
    await asyncio.to_thread(begun.wait, 30)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    offload.close()


async def test_work_that_waits_for_a_thread_is_dropped_with_its_caller() -> None:
    offload, gate = ThreadOffload("t", 1), threading.Event()
    done: list[str] = []
    try:
        busy = asyncio.create_task(offload.run(gate.wait, 10))
        waiting = asyncio.create_task(offload.run(done.append, "never"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        assert await busy
        await offload.run(done.append, "next")
    finally:
        gate.set()
        offload.close()
    assert done == ["next"]
