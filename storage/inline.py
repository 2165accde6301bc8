"""Work that is not moved to a thread: for simulation and tests, where one thread keeps runs reproducible."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class InlineOffload:
    """`Offload` that runs everything at once, in the caller's thread."""

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `function` and returns, or raises, what it does."""
        return function(*args, **kwargs)
