"""Doing several things at once, and leaving none behind."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def gather_all(coroutines: Iterable[Coroutine[Any, Any, T]]) -> Sequence[T]:
    """Results, in order, when all have ended; then raises the first failure as it is."""
    results = await asyncio.gather(*coroutines, return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
