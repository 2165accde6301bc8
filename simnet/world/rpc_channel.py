"""Channels: they connect when they are first used, and again when a connection was lost.

Rules, those of `grpc.aio`:

- A call that finds the channel in failure fails at once, unless it waits for readiness; one that finds it
  connecting waits for what comes of that.
- Between attempts there are pauses: of 1 s first, then longer, up to 120 s; half of a fifth of each is
  chance.
- A channel that closes cancels its calls, and those that are begun later are refused.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import grpc

from simnet.world.attempts import Attempt
from simnet.world.connection import End
from simnet.world.rpc_call import Call, Future, wake
from simnet.world.rpc_limits import read_options
from simnet.world.rpc_metadata import init_metadata
from simnet.world.rpc_streams import Requests, StreamStreamCall, StreamUnaryCall, UnaryStreamCall
from simnet.world.rpc_unary import UnaryUnaryCall

if TYPE_CHECKING:
    from simnet.world.network import Host

FIRST_BACKOFF_S = 1.0
BACKOFF_FACTOR = 1.6
LONGEST_BACKOFF_S = 120.0
BACKOFF_JITTER = 0.2
_State = grpc.ChannelConnectivity


class MultiCallable:
    """One method of one channel: what a stub holds.

    Attributes:
        channel: that calls go over.
        method: "/service/method".
        serializer: of requests; None for bytes.
        deserializer: of responses; None for bytes.
    """

    def __init__(self, channel: "Channel", method: str, serializer: Any, deserializer: Any) -> None:
        self.channel = channel
        self.method = method
        self.serializer = serializer
        self.deserializer = deserializer


class _UnaryRequest(MultiCallable):
    kind: ClassVar[type[UnaryUnaryCall | UnaryStreamCall]]

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begins a call. See `grpc.aio`; there are no credentials, and nothing is compressed."""
        return self.kind(self, timeout, init_metadata(metadata), wait_for_ready, request)


class _StreamRequest(MultiCallable):
    kind: ClassVar[type[StreamUnaryCall | StreamStreamCall]]

    def __call__(
        self,
        request_iterator: Requests | None = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begins a call. See `grpc.aio`; there are no credentials, and nothing is compressed."""
        return self.kind(self, request_iterator, timeout, init_metadata(metadata), wait_for_ready)


class _UnaryUnary(_UnaryRequest, grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    kind = UnaryUnaryCall


class _UnaryStream(_UnaryRequest, grpc.aio.UnaryStreamMultiCallable[Any, Any]):
    kind = UnaryStreamCall


class _StreamUnary(_StreamRequest, grpc.aio.StreamUnaryMultiCallable[Any, Any]):
    kind = StreamUnaryCall


class _StreamStream(_StreamRequest, grpc.aio.StreamStreamMultiCallable[Any, Any]):
    kind = StreamStreamCall


class Channel(grpc.aio.Channel):
    """`grpc.aio.Channel` over a simulated network.

    Attributes:
        loop: it runs on.
        limits: of what is sent and received.
    """

    def __init__(self, host: "Host", port: int, options: Sequence[tuple[str, Any]]) -> None:
        """A channel of `host` to whoever has the port when it connects."""
        self.loop = asyncio.get_running_loop()
        self.limits = read_options(options)
        self._host = host
        self._port = port
        self._state = _State.IDLE
        self._end: End | None = None
        self._attempt: Attempt | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._backoff_s = FIRST_BACKOFF_S
        self._why = ""
        self._calls: dict[Call, None] = {}
        self._queue: dict[Call, None] = {}
        self._watchers: list[Future] = []
        self._emptied: list[Future] = []

    async def __aenter__(self) -> Self:
        """Nothing is done yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the channel."""
        await self.close()

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[Any, Any]:
        """See `grpc.aio.Channel`."""
        return _UnaryUnary(self, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[Any, Any]:
        """See `grpc.aio.Channel`."""
        return _UnaryStream(self, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable[Any, Any]:
        """See `grpc.aio.Channel`."""
        return _StreamUnary(self, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable[Any, Any]:
        """See `grpc.aio.Channel`."""
        return _StreamStream(self, method, request_serializer, response_deserializer)

    async def close(self, grace: float | None = None) -> None:
        """Refuses new calls, gives those that run `grace` seconds, and cancels what is left.

        Raises:
            ValueError: `grace` is negative.
        """
        if self._state is _State.SHUTDOWN:
            return
        if grace is not None and grace < 0:
            raise ValueError(f"grace must not be negative, got {grace}")
        self._set_state(_State.SHUTDOWN)
        if grace and self._calls:
            await self._wait_empty(grace)
        for call in list(self._calls):
            call.cancel()
        self._stop_connecting()
        end, self._end = self._end, None
        if end is not None:
            end.finish()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The state; an idle channel can be asked to connect."""
        state = self._state
        if try_to_connect and state is _State.IDLE:
            self._connect()
        return state

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another one than `last_observed_state`.

        Raises:
            grpc.aio.UsageError: the channel is closed already.
        """
        if self._state is _State.SHUTDOWN:
            raise grpc.aio.UsageError("Channel is closed.")
        while self._state is last_observed_state:
            watcher = self.loop.create_future()
            self._watchers.append(watcher)
            await watcher

    async def channel_ready(self) -> None:
        """Connects, and returns when that has worked."""
        while (state := self.get_state(try_to_connect=True)) is not _State.READY:
            await self.wait_for_state_change(state)

    def launch(self, call: Call) -> None:
        """Begins a call now, or when the channel is connected.

        Raises:
            grpc.aio.UsageError: the channel is closed.
        """
        if self._state is _State.SHUTDOWN:
            raise grpc.aio.UsageError("Channel is closed.")
        self._calls[call] = None
        self._host.network.on_event(self._host.name, "call", call.stub.method)
        if self._host.network.on_call is not None:
            self._host.network.on_call(self._host.name, call.stub.method, call.timeout)
        if call.timeout is not None and call.timeout <= 0:
            self.loop.call_soon(call.fail, grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        elif self._end is not None and len(self._end.streams) < self._end.peer.max_streams:
            call.begin(self._end)
        elif self._state is _State.TRANSIENT_FAILURE and not call.is_waiting_for_ready:
            self.loop.call_soon(call.fail, grpc.StatusCode.UNAVAILABLE, self._why)
        else:
            self._queue[call] = None
            if self._state is _State.IDLE:
                self._connect()

    def forget(self, call: Call, code: grpc.StatusCode) -> None:
        """A call has ended."""
        self._calls.pop(call, None)
        if self._queue:
            self._queue.pop(call, None)
            self._begin_queued()
        self._host.network.on_event(self._host.name, "status", code.name)
        if self._emptied and not self._calls:
            wake(self._emptied)

    def _set_state(self, state: grpc.ChannelConnectivity) -> None:
        self._state = state
        wake(self._watchers)

    async def _wait_empty(self, grace: float) -> None:
        waiter = self.loop.create_future()
        self._emptied.append(waiter)
        try:
            async with asyncio.timeout(grace):
                await waiter
        except TimeoutError:
            return

    def _connect(self) -> None:
        self._retry = None
        if self._state is not _State.TRANSIENT_FAILURE:
            self._set_state(_State.CONNECTING)
        self._attempt = Attempt(self._host, self._port, self._on_connected)

    def _on_connected(self, end: End | None, why: str) -> None:
        self._attempt = None
        queue, self._queue = self._queue, {}
        if end is None:
            self._on_failed(queue, why)
            return
        self._end, self._backoff_s = end, FIRST_BACKOFF_S
        end.on_closed, end.on_draining = self._on_closed, self._on_draining
        self._set_state(_State.READY)
        self._queue.update(queue)
        self._begin_queued()

    def _begin_queued(self) -> None:
        """Lets out as many calls as the other side takes."""
        while self._queue and (end := self._end) is not None and len(end.streams) < end.peer.max_streams:
            call = next(iter(self._queue))
            del self._queue[call]
            call.begin(end)

    def _on_failed(self, queue: dict[Call, None], why: str) -> None:
        self._why = f"failed to connect to 127.0.0.1:{self._port}: {why}"
        self._host.network.on_event(self._host.name, "unreachable", why)
        chance = 1 + BACKOFF_JITTER * (2 * self._host.network.draw() - 1)
        self._retry = self.loop.call_later(self._backoff_s * chance, self._connect)
        self._backoff_s = min(LONGEST_BACKOFF_S, self._backoff_s * BACKOFF_FACTOR)
        self._set_state(_State.TRANSIENT_FAILURE)
        for call in queue:
            if call.is_waiting_for_ready:
                self._queue[call] = None
            else:
                call.fail(grpc.StatusCode.UNAVAILABLE, self._why)

    def _on_closed(self, end: End, why: str) -> None:
        self._host.network.on_event(self._host.name, "lost", why)
        self._on_draining(end)

    def _on_draining(self, end: End) -> None:
        """The connection takes no more calls: the next one makes another."""
        if self._end is end:
            self._end = None
            if self._state is not _State.SHUTDOWN:
                self._set_state(_State.IDLE)
                if self._queue:
                    self._connect()

    def _stop_connecting(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
