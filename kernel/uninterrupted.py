"""Work that must not be left half done because whoever asked for it went away."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Awaits `work`; a caller that is cancelled meanwhile, however often, learns of it when it has ended."""
    task = asyncio.create_task(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.shield(asyncio.gather(task, return_exceptions=True))
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        if not task.cancelled():
            task.exception()  # nobody else will ask for it
        raise asyncio.CancelledError
    return task.result()


async def end_task(task: "asyncio.Task[Any]") -> None:
    """Cancels a task and waits for its end. A cancellation of the caller meanwhile is not lost."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
