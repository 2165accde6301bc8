"""What the tests of the storage room share."""

import asyncio
import random
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest

from kernel.ports import Rng
from storage.inline import InlineOffload

P = ParamSpec("P")
T = TypeVar("T")


class SeededRng:
    """`Rng` from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)


class ThreadOffload:
    """`Offload` to threads; a cancelled caller learns of it when the work has ended."""

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        work = asyncio.create_task(asyncio.to_thread(function, *args, **kwargs))
        ended = asyncio.Event()
        work.add_done_callback(lambda _: ended.set())
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await ended.wait()
            raise


@pytest.fixture
def make_rng() -> Callable[[int], Rng]:
    return SeededRng


@pytest.fixture
def inline() -> InlineOffload:
    return InlineOffload()


@pytest.fixture
def threads() -> ThreadOffload:
    return ThreadOffload()
