"""Several things at once: all of them end, and the first failure is told as it is."""

import asyncio

import pytest

from kernel.errors import Conflict
from kernel.gathering import gather_all


async def test_results_come_in_order() -> None:
    async def give(number: int) -> int:
        await asyncio.sleep(0)
        return number

    assert list(await gather_all(give(number) for number in range(3))) == [0, 1, 2]


async def test_a_failure_is_told_when_all_have_ended() -> None:
    ended: list[None] = []

    async def fail() -> None:
        raise Conflict("first")

    async def last() -> None:
        await asyncio.sleep(0)
        ended.append(None)

    with pytest.raises(Conflict, match="first"):
        await gather_all([fail(), last()])
    assert ended
