"""Waiting for an event, but not for ever."""

import asyncio

from kernel.ports import Clock


async def wait_for_event(event: asyncio.Event, clock: Clock, seconds: float | None) -> bool:
    """Returns when the event is set, or `seconds` are over (None: never); True if it is set."""
    if seconds is None:
        return await event.wait()
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(_: object) -> None:
        if not over.done():
            over.set_result(None)

    tasks: list[asyncio.Future[object]] = [
        asyncio.ensure_future(event.wait()),
        asyncio.ensure_future(clock.sleep(seconds)),
    ]
    for task in tasks:
        task.add_done_callback(end)
    try:
        await over
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return event.is_set()
