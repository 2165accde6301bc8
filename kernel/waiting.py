"""Waiting, but not for ever."""

import asyncio
from types import TracebackType

from kernel.ports import Clock


class Deadline:
    """A bound on what a task does inside of it. It raises TimeoutError, as `asyncio.timeout` does.

    It has nothing to await and no other states than these, so it costs a fraction: it is for what happens
    with every call and every message.
    """

    __slots__ = ("_cancelling", "_is_over", "_seconds", "_task", "_timer")
    _task: "asyncio.Task[object]"

    def __init__(self, seconds: float | None) -> None:
        """`seconds`: from entering on; None: there is no bound."""
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._cancelling = 0
        self._is_over = False

    def __enter__(self) -> None:
        if self._seconds is None:
            return
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task has a deadline")
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._on_over)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Whoever else has cancelled the task meanwhile is not to be told of a deadline.
        if self._is_over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _on_over(self) -> None:
        self._is_over = True
        self._task.cancel()


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
