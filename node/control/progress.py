"""Long work behind a streaming call, whose progress is told while it goes on."""

import asyncio
from contextlib import suppress
from typing import Any

EVERY_S = 0.2


async def wait_a_moment(work: "asyncio.Future[Any]") -> None:
    """Returns when `work` has ended, or it is time to tell of its progress again; raises what it raised."""
    with suppress(TimeoutError):
        async with asyncio.timeout(EVERY_S):
            await asyncio.shield(work)
