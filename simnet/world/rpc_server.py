"""Servers: they find the handler of a call, run it in a task of its own, and tell how it ended.

Rules, those of `grpc.aio`:

- Interceptors are asked in their order, each may answer with a handler of its own; None is no method.
- What a handler raises is told to the client as UNKNOWN, or under the code that the handler has set;
  cancelling itself it says nothing.
- Stopping takes no more calls at once; those that run are cancelled when the grace is over.
"""

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from simnet.world.connection import End
from simnet.world.rpc_call import Call, Future, wake
from simnet.world.rpc_context import Context
from simnet.world.rpc_handling import serve
from simnet.world.rpc_limits import read_options
from simnet.world.rpc_metadata import ONLY_USER_AGENT, Headers, measure_metadata

if TYPE_CHECKING:
    from simnet.world.network import Host

Handler = Any


class _Details(grpc.HandlerCallDetails):
    """What an interceptor knows of a call."""

    def __init__(self, method: str, invocation_metadata: Headers) -> None:
        self.method = method
        self.invocation_metadata: Any = invocation_metadata


class Server(grpc.aio.Server):
    """`grpc.aio.Server` on a simulated host.

    Attributes:
        host: where it runs.
        is_accepting: it has started, and not stopped.
    """

    def __init__(
        self,
        host: "Host",
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        options: Sequence[tuple[str, Any]],
        maximum_concurrent_rpcs: int | None,
    ) -> None:
        """A server without a port.

        Raises:
            ValueError: an interceptor is none.
        """
        for interceptor in interceptors:
            if not isinstance(interceptor, grpc.aio.ServerInterceptor):
                raise ValueError(f"no grpc.aio.ServerInterceptor: {interceptor}")
        self.host = host
        self.is_accepting = False
        self._limits = read_options(options)
        self._most = maximum_concurrent_rpcs
        self._loop = asyncio.get_running_loop()
        self._interceptors = tuple(interceptors)
        self._registered: dict[str, Handler] = {}
        self._generic: list[grpc.GenericRpcHandler] = []
        self._ports: list[int] = []
        self._ends: dict[End, None] = {}
        self._running: dict[Context, None] = {}
        self._has_stopped = False
        self._stopped: list[Future] = []
        self._emptied: list[Future] = []
        self._context = contextvars.copy_context()

    def bind(self, port: int) -> int:
        """Takes a port, 0 for any. Raises Conflict: it is taken."""
        bound = self.host.network.bind(self, port)
        self.host.add_listener(self)
        self._ports.append(bound)
        return bound

    def add_insecure_port(self, address: str) -> int:
        """Takes one more port of the host. Raises Conflict: it is taken."""
        return self.bind(int(address.rpartition(":")[2]))

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """There are no credentials here. Raises UsageError, always."""
        raise grpc.aio.UsageError("a simulated server has no secure ports")

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Adds handlers, to be asked in their order."""
        self._generic.extend(generic_rpc_handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, Handler]
    ) -> None:
        """Adds the handlers of a service; they are asked before the generic ones."""
        for method, handler in method_handlers.items():
            self._registered[f"/{service_name}/{method}"] = handler

    async def start(self) -> None:
        """Begins to serve. Raises UsageError: the server has stopped."""
        if self._has_stopped:
            raise grpc.aio.UsageError("Server not in ready state")
        self._context = contextvars.copy_context()
        self.is_accepting = True
        self.host.network.refresh()

    async def stop(self, grace: float | None) -> None:
        """Takes no more calls, gives those that run `grace` seconds, and ends when none is left."""
        was_running = self.is_accepting or self._running
        self._stop_accepting()
        if not was_running:
            return  # also of a server that never started: it has not stopped either
        if self._running and grace is not None:
            await self._wait_empty(grace)
        for rpc in list(self._running):
            rpc.on_cancelled()
        for end in list(self._ends):
            end.finish()
        if self._running:
            await self._wait_empty(None)
        self._finish()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - of gRPC
        """Waits until the server has stopped; True if that takes longer than `timeout` seconds."""
        if self._has_stopped:
            return False
        waiter = self._loop.create_future()
        self._stopped.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            return True
        return False

    def accept(self, end: End) -> None:
        """Takes a connection."""
        self._ends[end] = None
        end.on_open = functools.partial(self._open, end)
        end.on_closed = self._on_closed
        end.max_streams = self._limits.streams

    def on_crash(self) -> None:
        """The host has died: nothing is sent, and what runs is cancelled."""
        self._stop_accepting()
        for rpc in list(self._running):
            rpc.on_cancelled()
        self._finish()

    def _on_closed(self, end: End, why: str) -> None:
        self._ends.pop(end, None)
        self.host.network.on_event(self.host.name, "lost", why)

    def _stop_accepting(self) -> None:
        self.is_accepting = False
        self.host.remove_listener(self)
        for port in self._ports:
            self.host.network.unbind(port, self)
        for end in self._ends:
            end.drain()

    def _finish(self) -> None:
        self.is_accepting = False
        self._has_stopped = True
        wake(self._stopped)

    async def _wait_empty(self, grace: float | None) -> None:
        waiter = self._loop.create_future()
        self._emptied.append(waiter)
        try:
            async with asyncio.timeout(grace):
                await waiter
        except TimeoutError:
            return

    def _open(self, end: End, call: Call) -> None:
        """A call has arrived."""
        rpc = Context(call, end, self._limits, self._loop)
        rpc.on_response = self.host.network.on_response
        call.rpc = rpc
        end.streams[rpc] = None
        if not self.is_accepting:
            rpc.send_status(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
            return
        if call.metadata is not ONLY_USER_AGENT and self._has_too_many(call.metadata):
            rpc.send_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "received metadata size exceeds hard limit")
            return
        is_too_many = self._most is not None and len(self._running) >= self._most
        self._running[rpc] = None
        serving = serve(rpc, self._find, self._on_served, is_too_many=is_too_many)
        task = self._loop.create_task(serving, context=self._context.copy())
        rpc.task = task
        task.add_done_callback(functools.partial(self._on_ended, rpc))

    def _has_too_many(self, metadata: Headers) -> bool:
        return 0 <= self._limits.metadata_bytes < measure_metadata(metadata)

    def _on_served(self, rpc: Context) -> None:
        """The handler has ended: there is room for another call."""
        self._running.pop(rpc, None)
        if self._emptied and not self._running:
            wake(self._emptied)

    def _on_ended(self, rpc: Context, task: "asyncio.Task[None]") -> None:
        self._on_served(rpc)  # a task that is cancelled before its first step has not served
        for callback in rpc.callbacks:
            callback()
        rpc.release()

    def _find(self, rpc: Context) -> Awaitable[Handler]:
        return self._ask(0, _Details(rpc.method, rpc.metadata))

    async def _ask(self, index: int, details: Any) -> Handler:
        """Asks the interceptors from `index` on, then the handlers."""
        if index == len(self._interceptors):
            return self._look_up(details)
        continuation = functools.partial(self._ask, index + 1)
        return await self._interceptors[index].intercept_service(continuation, details)

    def _look_up(self, details: Any) -> Handler:
        if not isinstance(details, _Details):
            raise TypeError(f"an interceptor passes on what it was given, not {type(details)}")
        handler = self._registered.get(details.method)
        if handler is not None:
            return handler
        for generic in self._generic:
            handler = generic.service(details)
            if handler is not None:
                return handler
        return None
