"""Calls as the client sees them: what is common to the four kinds.

Rules, those of `grpc.aio`:

- A call begins at once, or when its channel is connected; it ends exactly once, with a status.
- Whoever cancels the task that waits for a call cancels the call.
- The status of the server counts when all messages before it are read; cancelling and the deadline count at
  once, and drop what is unread.
- A request that cannot be serialised is sent as an empty message, a response that cannot be read is None.

`on_…` methods are entered by what arrives at the client, `carry_…` methods run at the server, when what the
client has sent arrives there.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from simnet.world.connection import End
from simnet.world.rpc_limits import FRAME_BYTES, HEAD_BYTES
from simnet.world.rpc_metadata import ONLY_USER_AGENT, USER_AGENT, Headers, encode_metadata, measure_metadata

if TYPE_CHECKING:
    from simnet.world.rpc_channel import MultiCallable

Future = asyncio.Future[None]
_log = logging.getLogger(__name__)
_OK = grpc.StatusCode.OK


class Answerer(Protocol):
    """The half of a call at the server, as far as the client's half sends to it."""

    def on_message(self, data: bytes) -> None:
        """A message has arrived."""
        ...

    def on_half_closed(self) -> None:
        """No more messages come."""
        ...

    def on_credit(self, size_bytes: int) -> None:
        """The client has read so much."""
        ...

    def on_cancelled(self) -> None:
        """The client has cancelled the call."""
        ...


def wake(waiters: list[Future]) -> None:
    """Lets all go on that wait."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()


class Call:
    """What is common to all kinds of calls.

    Attributes:
        stub: the method that is called.
        channel: over which it goes.
        timeout: seconds that are left when it goes out; None for no deadline.
        is_waiting_for_ready: it outlasts failures to connect.
        end: of the connection that it goes over; None before.
        rpc: the half at the server, while that listens.
        first: the request, if there is only one.
        metadata: that the server receives.
    """

    is_unary_request = False

    def __init__(
        self,
        stub: "MultiCallable",
        timeout: float | None,
        metadata: tuple[tuple[str, Any], ...],
        wait_for_ready: bool | None,
        request: Any = None,
    ) -> None:
        self.stub = stub
        self.channel = channel = stub.channel
        self.timeout = timeout
        self.is_waiting_for_ready = bool(wait_for_ready)
        self.end: End | None = None
        self.rpc: Answerer | None = None
        self.first = b""
        self.metadata: Headers = ONLY_USER_AGENT
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._debug: str | None = ""
        self._trailing: Headers | None = ()
        self._initial: Headers | None = None
        self._is_locally_cancelled = False
        self._failure: Exception | None = None
        self._waiters: list[Future] = []
        self._initial_waiters: list[Future] = []
        self._callbacks: list[Callable[[Any], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = None if timeout is None else channel.loop.time() + timeout
        try:
            if metadata:
                self.metadata = (USER_AGENT, *encode_metadata(metadata))
            if self.is_unary_request:
                self.first = self._serialize(request)
        except (TypeError, ValueError, grpc.aio.InternalError) as error:
            self._failure = error
            return
        if not self._is_too_long_to_send(self.first):
            channel.launch(self)
        if self._deadline is not None and self._code is None:
            self._timer = channel.loop.call_at(self._deadline, self._on_deadline)

    @property
    def buffered_bytes(self) -> int:
        """Messages that have come and were not read yet."""
        return 0

    def begin(self, end: End) -> None:
        """The channel is connected: the call goes out."""
        self.end = end
        if self._deadline is not None:
            self.timeout = max(0.0, self._deadline - self.channel.loop.time())
        end.streams[self] = None
        if end.peer.on_open is not None:
            size_bytes = HEAD_BYTES + len(self.first)
            if self.metadata is not ONLY_USER_AGENT:
                size_bytes += measure_metadata(self.metadata)
            end.out.send(size_bytes, end.peer.on_open, self)

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call without asking the server."""
        if self._code is None:
            self._settle(code, details, (), details)

    def on_lost(self, why: str) -> None:
        """The connection is gone."""
        self.fail(grpc.StatusCode.UNAVAILABLE, why)

    def on_initial(self, headers: Headers) -> None:
        """Initial metadata have arrived."""
        if self._initial is None:
            self._initial = headers
            wake(self._initial_waiters)

    def on_status(self, status: tuple[grpc.StatusCode, str, Headers]) -> None:
        """The server has ended the call."""
        if self._code is None:
            code, details, trailing = status
            self._settle(code, details, trailing, "" if code is _OK else f"{code.name}:{details}")
        self.rpc = None

    def done(self) -> bool:
        """Has the call ended?"""
        return self._code is not None

    def cancelled(self) -> bool:
        """Has it ended by cancellation, of whichever side?"""
        return self._code is grpc.StatusCode.CANCELLED

    def cancel(self) -> bool:
        """Cancels the call; False if it has ended before."""
        if self._code is not None:
            return False
        self._is_locally_cancelled = True
        self._settle(grpc.StatusCode.CANCELLED, "Locally cancelled by application!", None, None)
        self._abandon()
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Has `callback(call)` called when the call ends, or now if it has."""
        if self._code is not None:
            callback(self)
        else:
            self._callbacks.append(callback)

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None if there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - self.channel.loop.time())

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Initial metadata of the server, once they are known."""
        if self._initial is None:
            await self._wait(self._initial_waiters)
        return grpc.aio.Metadata.from_tuple(self._initial or ())

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Trailing metadata of the server, once the call has ended."""
        await self._wait_status()
        return grpc.aio.Metadata.from_tuple(self._trailing or ())

    async def code(self) -> grpc.StatusCode:
        """The status, once the call has ended."""
        return await self._wait_status()

    async def details(self) -> str:
        """Details of the status, once the call has ended."""
        await self._wait_status()
        return self._details

    async def debug_error_string(self) -> str | None:
        """Text about the error, once the call has ended."""
        await self._wait_status()
        return self._debug

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.stub.method} {'running' if self._code is None else self._code}>"

    def carry_credit(self, size_bytes: int) -> None:
        """At the server: so much has been read."""
        if self.rpc is not None:
            self.rpc.on_credit(size_bytes)

    def carry_cancel(self, _: None) -> None:
        """At the server: the call is cancelled."""
        rpc, self.rpc = self.rpc, None
        if rpc is not None:
            rpc.on_cancelled()

    async def _wait_status(self) -> grpc.StatusCode:
        while self._code is None:
            await self._wait(self._waiters)
        return self._code

    async def _wait(self, waiters: list[Future]) -> None:
        waiter = self.channel.loop.create_future()
        waiters.append(waiter)
        await waiter

    def _settle(
        self, code: grpc.StatusCode, details: str, trailing: Headers | None, debug: str | None
    ) -> None:
        self._code, self._details, self._trailing, self._debug = code, details, trailing, debug
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.end is not None:
            self.end.streams.pop(self, None)
        self.channel.forget(self, code)
        if self._initial is None:
            self._initial = ()
        if self._initial_waiters:
            wake(self._initial_waiters)
        if self._waiters:
            wake(self._waiters)
        if self._callbacks:
            self._call_back()

    def _call_back(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        if self._is_locally_cancelled:
            for callback in callbacks:
                callback(self)
        else:  # what arrives is no business of the task that happened to send it
            for callback in callbacks:
                self.channel.loop.call_soon(callback, self)

    def _abandon(self) -> None:
        """Tells the server that nobody waits any more."""
        if self.end is not None and self.end.is_open:
            self.end.out.send(FRAME_BYTES, self.carry_cancel, None)

    def _on_deadline(self) -> None:
        self._timer = None
        if self._code is None:
            self._settle(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", (), "Deadline Exceeded")
            self._abandon()

    def _raise_status(self) -> None:
        if self._is_locally_cancelled:
            raise asyncio.CancelledError
        if self._code is not _OK:
            raise self._make_error()

    def _make_error(self) -> grpc.aio.AioRpcError:
        return grpc.aio.AioRpcError(
            self._code or grpc.StatusCode.UNKNOWN,
            grpc.aio.Metadata.from_tuple(self._initial or ()),
            grpc.aio.Metadata.from_tuple(self._trailing or ()),
            self._details,
            self._debug,
        )

    def _serialize(self, message: Any) -> bytes:
        serializer = self.stub.serializer
        data = message
        if serializer is not None:
            try:
                data = serializer(message)
            except Exception:  # whatever a serialiser raises: gRPC sends an empty message instead
                _log.exception("a request cannot be serialised")
                return b""
        if data is None:
            return b""
        if not isinstance(data, bytes):
            raise TypeError(f"expected bytes, not {type(data)}")
        return data

    def _deserialize(self, data: bytes) -> Any:
        deserializer = self.stub.deserializer
        if deserializer is None:
            return data
        try:
            return deserializer(data)
        except Exception:  # whatever a deserialiser raises: gRPC answers with None
            _log.exception("a response cannot be deserialised")
            return None

    def _is_too_long_to_send(self, data: bytes) -> bool:
        most = self.channel.limits.send_bytes
        if 0 <= most < len(data):
            self._refuse(f"Sent message larger than max ({len(data)} vs. {most})")
            return True
        return False

    def _is_too_long_to_receive(self, data: bytes) -> bool:
        most = self.channel.limits.receive_bytes
        if 0 <= most < len(data):
            self._refuse(f"Received message larger than max ({len(data)} vs. {most})")
            return True
        return False

    def _refuse(self, why: str) -> None:
        if self._code is None:
            self._settle(grpc.StatusCode.RESOURCE_EXHAUSTED, why, (), why)
            self._abandon()
