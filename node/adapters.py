"""The ports of the kernel, on this machine: system clock, system randomness, threads."""

import asyncio
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class SystemClock:
    """`kernel.ports.Clock` of this machine."""

    def wall_ns(self) -> int:
        """See `kernel.ports.Clock`."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """See `kernel.ports.Clock`."""
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        """See `kernel.ports.Clock`."""
        await asyncio.sleep(seconds)


class SystemEntropy:
    """`kernel.ports.Entropy` from the operating system."""

    def draw(self, size_bytes: int) -> bytes:
        """See `kernel.ports.Entropy`."""
        return os.urandom(size_bytes)


class SystemRng:
    """`kernel.ports.Rng`: for sampling and jitter, never for keys."""

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 - not for keys, as the port says

    def below(self, bound: int) -> int:
        """See `kernel.ports.Rng`."""
        return self._random.randrange(bound)


class ThreadOffload:
    """`kernel.ports.Offload` on a bounded pool of threads, which start when they are first needed.

    Work that was begun is finished even if its caller was cancelled: a thread cannot be stopped.
    """

    def __init__(self, name: str, workers: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `kernel.ports.Offload`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, partial(function, *args, **kwargs))

    def close(self) -> None:
        """Lets the threads end; work that has not begun is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)
