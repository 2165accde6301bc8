"""An asyncio event loop with virtual time: a run of it is a function of what runs on it.

Rules:
- Time stands still while anything can run, then jumps to the next timer. Nothing ever waits.
- What is ready runs in the order in which it became ready; timers of one instant in the order in which they
  were set.
- Tasks and futures hash by serial number, so that the sets in which asyncio keeps them have one order.
- The cyclic collector runs at fixed points only; generators that it finds are closed in the order in which
  they began. Executors run at once, in place. Sockets, signals, processes and threads there are none.
- Nothing to run and no timer, before the main task is done, is a deadlock; too many steps at one instant are
  a livelock. Both are reported with the stack of every task.
- What asyncio would only log, such as an exception that nobody looked at, fails the run.
"""

import asyncio
import gc
import heapq
import sys
import weakref
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from typing import Any, TypeVar, TypeVarTuple

from simnet.world.sealed_loop import SealedLoop, SimulationError
from simnet.world.tasks import SimFuture, SimTask, describe_task

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MAX_STEPS_PER_INSTANT = 1_000_000
COLLECT_EVERY_STEPS = 20_000
END_S = 60.0
COLLECT_ALL_EVERY_STEPS = 2_000_000
_MAX_SHOWN_TASKS = 64


class Deadlock(SimulationError):
    """Nothing can run, and no timer is set."""


class Livelock(SimulationError):
    """Time does not pass any more."""


_NOWHERE = Context()


class Step(asyncio.TimerHandle):
    """A callback that is ready, or waits for its time."""

    __slots__ = ()

    def __init__(  # the parent's would ask the loop for its debug mode each time
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context, when: float
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._when = when
        self._cancelled = False

    def cancel(self) -> None:
        """See `asyncio.Handle`."""
        self._cancelled = True
        self._callback = _do_nothing
        self._args = ()
        self._context = _NOWHERE  # what was held is free now, not only when the time comes

    def __repr__(self) -> str:
        return f"<step {self._callback!r} at {self._when:.9f}>"


def _do_nothing() -> None:
    pass


class VirtualLoop(SealedLoop):
    """The loop. It is used for one run.

    Attributes:
        steps: callbacks that were run.
        complaints: what asyncio would only have logged, one line each.
    """

    def __init__(
        self,
        *,
        max_steps_per_instant: int = MAX_STEPS_PER_INSTANT,
        is_death: Callable[[BaseException], bool] = lambda _: False,
    ) -> None:
        """`is_death` knows errors that say only that a process is dead: nobody is left to look at them."""
        self.steps = 0
        self.complaints: list[str] = []
        self._max_steps = max_steps_per_instant
        self._is_death = is_death
        self._now = 0.0
        self._ready: deque[Step] = deque()
        self._timers: dict[float, list[Step]] = {}  # by their time, in the order in which they were set
        self._times: list[float] = []  # a heap of the same times: most timers share theirs with others
        self._serial = 0
        self._is_running = False
        self._is_closed = False
        self._is_stopping = False
        self._generators: dict[int, tuple[int, weakref.ref[AsyncGenerator[Any, Any]]]] = {}
        self._orphans: list[tuple[int, AsyncGenerator[Any, Any]]] | None = None
        self._closers: dict[asyncio.Task[Any], None] = {}

    def time(self) -> float:
        """Virtual seconds since the run began."""
        return self._now

    @property
    def now_ns(self) -> int:
        """The same in nanoseconds."""
        return round(self._now * 1e9)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Runs `main` to its end, closes all generators, and the loop.

        Raises:
            SimulationError: deadlock, livelock, or something complained.
            BaseException: whatever `main` raises.
        """
        if events._get_running_loop() is not None:
            raise RuntimeError("a simulated world does not run inside another loop")
        was_collecting = gc.isenabled()
        gc.collect()
        gc.disable()
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._on_generator, finalizer=self._on_orphan)
        try:
            try:
                result: T = self.run_until_complete(main)
            finally:
                self._cancel_all()
            self._collect(2)
            self.run_until_complete(self.shutdown_asyncgens())
        finally:
            sys.set_asyncgen_hooks(*hooks)
            self.close()
            if was_collecting:
                gc.enable()
        if self.complaints:
            raise SimulationError("\n".join(self.complaints))
        return result

    def _cancel_all(self) -> None:
        """Ends what is left: else it would be torn down whenever the collector comes by."""
        left = [task for task in self.list_tasks() if task not in self._closers]
        for task in left:
            task.cancel()
        if left:
            self.run_until_complete(self._await_ends(left))

    async def _await_ends(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        try:
            async with asyncio.timeout(END_S):
                await asyncio.gather(*tasks, return_exceptions=True)
        except TimeoutError:
            self.complaints.append(f"tasks go on after the end of the run\n{self.describe_tasks()}")

    def run_until_complete(self, future: Any) -> Any:
        """See `asyncio.AbstractEventLoop`."""
        main = asyncio.ensure_future(future, loop=self)
        main.add_done_callback(self._on_main_done)
        events._set_running_loop(self)
        self._is_running, self._is_stopping = True, False
        try:
            self._run()
        except BaseException:
            if main.done() and not main.cancelled():
                main.exception()  # the one that is raised tells enough
            raise
        finally:
            main.remove_done_callback(self._on_main_done)
            self._is_running = False
            events._set_running_loop(None)
        return main.result()

    def _run(self) -> None:
        ready, at_instant = self._ready, 0
        next_collection = self.steps + COLLECT_EVERY_STEPS
        while not self._is_stopping:
            if not ready and self._pass_time():
                at_instant = 0
            batch = len(ready)
            for _ in range(batch):
                step = ready.popleft()
                step._context.run(step._callback, *step._args)
            at_instant += batch
            self.steps += batch
            if at_instant > self._max_steps:
                raise Livelock(f"{at_instant:,} steps at {self._now:.9f} s\n{self.describe_tasks()}")
            if self.steps >= next_collection:
                next_collection = self.steps + COLLECT_EVERY_STEPS
                self._collect(2 if self.steps % COLLECT_ALL_EVERY_STEPS < COLLECT_EVERY_STEPS else 1)

    def _pass_time(self) -> bool:
        """Makes the next timers ready; True if time passed by that."""
        times, ready, before = self._times, self._ready, self._now
        now = before
        while times and (not ready or times[0] <= now):
            when = heapq.heappop(times)
            ready.extend([step for step in self._timers.pop(when) if not step._cancelled])
            if ready:
                now = max(now, when)
        if not ready:
            raise Deadlock(f"nothing can run, and no timer is set\n{self.describe_tasks()}")
        self._now = now
        return now > before

    def _on_main_done(self, _: object) -> None:
        self._is_stopping = True

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """See `asyncio.AbstractEventLoop`."""
        step = Step(callback, args, copy_context() if context is None else context, self._now)
        self._ready.append(step)
        return step

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """See `asyncio.AbstractEventLoop`; there are no threads."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See `asyncio.AbstractEventLoop`."""
        return self._add_timer(self._now + delay, callback, args, context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See `asyncio.AbstractEventLoop`."""
        return self._add_timer(when, callback, args, context)

    def _add_timer(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.TimerHandle:
        step = Step(callback, args, copy_context() if context is None else context, when)
        timers = self._timers.get(when)
        if timers is None:
            self._timers[when] = [step]
            heapq.heappush(self._times, when)
        else:
            timers.append(step)
        return step

    def create_future(self) -> "asyncio.Future[Any]":
        """See `asyncio.AbstractEventLoop`."""
        self._serial += 1
        future = SimFuture(loop=self)
        future.serial = self._serial
        return future

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> "asyncio.Task[Any]":
        """See `asyncio.AbstractEventLoop`; names are serial numbers."""
        self._serial += 1
        return SimTask(coro, self, self._serial, copy_context() if context is None else context)

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        """See `asyncio.AbstractEventLoop`; it is run at once."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def get_debug(self) -> bool:
        """See `asyncio.AbstractEventLoop`."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """See `asyncio.AbstractEventLoop`; does nothing."""

    def is_running(self) -> bool:
        """See `asyncio.AbstractEventLoop`."""
        return self._is_running

    def is_closed(self) -> bool:
        """See `asyncio.AbstractEventLoop`."""
        return self._is_closed

    def close(self) -> None:
        """See `asyncio.AbstractEventLoop`."""
        self._is_closed = True
        self._ready.clear()
        self._timers.clear()
        self._times.clear()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Takes what asyncio would log: it fails the run, unless it only says that a process is dead."""
        error = context.get("exception")
        if error is not None and self._is_death(error):
            return
        self.complaints.append(f"{context['message']}: {error!r}" if error else str(context["message"]))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """See `asyncio.AbstractEventLoop`."""
        self.call_exception_handler(context)

    async def shutdown_asyncgens(self) -> None:
        """Closes the generators that are still open, in the order in which they began."""
        for closer in list(self._closers):
            await closer
        for _, reference in sorted(self._generators.values(), key=lambda entry: entry[0]):
            if (generator := reference()) is not None:
                await generator.aclose()
        self._generators.clear()

    async def shutdown_default_executor(self) -> None:
        """See `asyncio.AbstractEventLoop`; there is none."""

    def _on_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._serial += 1
        self._generators[id(generator)] = (self._serial, weakref.ref(generator))

    def _on_orphan(self, generator: AsyncGenerator[Any, Any]) -> None:
        serial, _ = self._generators.pop(id(generator))
        if self._orphans is None:
            self._close_generator(generator)
        else:
            self._orphans.append((serial, generator))

    def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self._is_closed:
            task = self.create_task(generator.aclose())
            self._closers[task] = None
            task.add_done_callback(self._closers.pop)

    def _collect(self, generation: int) -> None:
        """Runs the collector, and drops timers that were cancelled."""
        self._orphans = []
        gc.collect(generation)
        orphans, self._orphans = self._orphans, None
        for _, generator in sorted(orphans, key=lambda entry: entry[0]):
            self._close_generator(generator)
        timers = self._timers.items()
        left = ((when, [step for step in steps if not step._cancelled]) for when, steps in timers)
        self._timers = {when: steps for when, steps in left if steps}
        self._times = list(self._timers)
        heapq.heapify(self._times)

    def list_tasks(self) -> list[SimTask]:
        """Tasks that are not done, in order of creation."""
        tasks = [task for task in asyncio.all_tasks(self) if isinstance(task, SimTask)]
        return sorted(tasks, key=lambda task: task.serial)

    def describe_tasks(self) -> str:
        """The stack of every task that is not done."""
        tasks = self.list_tasks()
        lines = [line for task in tasks[:_MAX_SHOWN_TASKS] for line in describe_task(task)]
        if len(tasks) > _MAX_SHOWN_TASKS:
            lines.append(f"and {len(tasks) - _MAX_SHOWN_TASKS} more tasks")
        return "\n".join(lines)
