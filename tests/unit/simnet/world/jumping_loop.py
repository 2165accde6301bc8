"""A loop whose time jumps to what comes next: twenty seconds of a simulated network take no time."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any


class JumpingLoop(asyncio.SelectorEventLoop):
    """The stock loop with a clock of its own."""

    _now = 1000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        own: Any = self
        scheduled = [handle.when() for handle in own._scheduled if not handle.cancelled()]
        if not own._ready:
            if not scheduled:
                self.stop()  # nothing will ever happen any more: the test fails
            self._now = max([self._now, *sorted(scheduled)[:1]])
        super()._run_once()  # type: ignore[misc]


def in_simulated_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs an asynchronous test on a loop whose time jumps."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(main())

    return run
