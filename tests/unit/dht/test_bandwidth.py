"""Limits on speed, and patience."""

import asyncio

import pytest

from dht.bandwidth import UNPACED, Pace, Patience, Throttle, TokenBucket
from dht.transfer import FRAME_BYTES, get_chunk, put_chunk
from kernel.chunk_id import compute_blob_id
from kernel.errors import Unavailable
from tests.scenarios.world import ManualClock
from tests.unit.dht.holder import NETWORK, Holder, make_blob

SECOND_NS = 10**9


def test_a_bucket_gives_a_second_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(1000, 0)
    assert bucket.take(1000, 0) == 0
    assert bucket.take(500, 0) == 0.5
    assert bucket.take(500, 0) == 1.0
    assert bucket.take(0, SECOND_NS) == 0
    assert bucket.take(1000, 10 * SECOND_NS) == 0
    assert bucket.take(1, 10 * SECOND_NS) == pytest.approx(0.001)


async def test_no_limit_is_no_wait() -> None:
    clock = ManualClock()
    await Throttle(clock).wait(1 << 40)
    await UNPACED.send(1 << 40)
    assert clock.now_ns == 0


async def test_transfers_keep_to_the_limit_without_losing_patience() -> None:
    """Four frames of a fourth of a minute each, and a patience of ten seconds."""
    holder = await Holder().boot()
    blob = make_blob(4 * FRAME_BYTES)
    rate = FRAME_BYTES // 15

    async def time(work: asyncio.Task[object]) -> float:
        before_ns = holder.clock.now_ns
        while not work.done():
            await holder.clock.advance(0.5)
        work.result()
        return (holder.clock.now_ns - before_ns) / SECOND_NS

    def pace() -> Pace:
        clock = holder.clock
        return Pace(clock, Throttle(clock, rate), Throttle(clock, rate), patience_s=10)

    put = asyncio.create_task(put_chunk(holder.peer(), NETWORK, holder.lease(blob), blob, pace=pace()))
    assert 55 < await time(put) < 61
    get = asyncio.create_task(get_chunk(holder.peer(), compute_blob_id(blob), pace=pace()))
    assert 55 < await time(get) < 61


async def test_a_cancelled_transfer_stays_cancelled() -> None:
    clock = ManualClock()

    async def wait() -> None:
        async with Patience(clock, 5):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await clock.advance(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    task = asyncio.create_task(wait())
    await clock.advance(6)
    with pytest.raises(Unavailable):
        await task
