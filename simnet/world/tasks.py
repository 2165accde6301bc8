"""Tasks and futures of the virtual loop: hashed by serial number, and with an owner."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context, ContextVar
from typing import Any

_MAX_SHOWN_FRAMES = 24

PLACE: ContextVar[object] = ContextVar("place", default=None)
"""To whom a task belongs: the running process of a simulated node, or None for the world itself."""


class SimFuture(asyncio.Future[Any]):
    """A future that hashes by its serial number."""

    __slots__ = ("serial",)
    serial: int

    def __hash__(self) -> int:
        return self.serial


class SimTask(asyncio.Task[Any]):
    """A task that hashes by its serial number, and knows to whom it belongs.

    Attributes:
        serial: number of the task, in order of creation.
        place: see `PLACE`.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        loop: asyncio.AbstractEventLoop,
        serial: int,
        context: Context,
    ) -> None:
        self.serial = serial
        self.place = context.get(PLACE)
        super().__init__(coroutine, loop=loop, name="", context=context)

    def get_name(self) -> str:
        """Its serial number, unless somebody named it."""
        return super().get_name() or f"task-{self.serial}"

    def __hash__(self) -> int:
        return self.serial


def describe_task(task: SimTask) -> list[str]:
    """A task and where it waits, the innermost frame last; one line each."""
    where = f" of {task.place}" if task.place is not None else ""
    awaited: Any = task.get_coro()
    lines = [f"{task.get_name()}{where}: {awaited.__qualname__}"]
    while awaited is not None and len(lines) <= _MAX_SHOWN_FRAMES:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is not None:
            code = frame.f_code
            lines.append(f"    {code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return lines
