"""The ports of the kernel, on this machine: system clock, system entropy, threads."""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Wrap(Protocol):
    """Runs a piece of work whose name is given."""

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        """Returns, or raises, what `work` does."""
        ...


def run_bare(name: str, work: Callable[[], T]) -> T:
    """Runs work and nothing else."""
    return work()


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
    """`kernel.ports.Rng` from the operating system, which cannot be foreseen by who is audited."""

    def below(self, bound: int) -> int:
        """See `kernel.ports.Rng`."""
        return secrets.randbelow(bound)


class ThreadOffload:
    """`kernel.ports.Offload` on a bounded pool of threads, which start when they are first needed.

    Work that was begun is finished even if its caller was cancelled: a thread cannot be stopped.
    """

    def __init__(self, name: str, workers: int, wrap: Wrap = run_bare) -> None:
        """`wrap` runs each piece of work: where it is measured."""
        self._executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix=name)
        self._wrap = wrap

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `kernel.ports.Offload`."""
        job = self._executor.submit(self._wrap, function.__name__, partial(function, *args, **kwargs))
        result, is_cancelled = asyncio.wrap_future(job), False
        while not result.done():
            try:
                await asyncio.shield(asyncio.gather(result, return_exceptions=True))
            except asyncio.CancelledError:
                is_cancelled = True
                if job.cancel():
                    break
        if is_cancelled:
            if result.done() and not result.cancelled():
                result.exception()  # nobody else will ask for it
            raise asyncio.CancelledError
        return result.result()

    def close(self) -> None:
        """Lets the threads end; work that has not begun is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)
