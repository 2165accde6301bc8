"""What a handler sees of its call: `grpc.aio.ServicerContext`, and the half of the call at the server.

Rules, those of `grpc.aio`:

- Whoever reads after the end of the requests, or after the client has gone, reads `grpc.aio.EOF`.
- After `abort` nothing is sent any more, whatever the handler does; `abort(OK)` sends no status at all.
- A client's cancelling ends pending reads first, and then cancels the handler.
- A writer waits while a window of what it wrote is unread.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NoReturn

import grpc

from simnet.world.connection import End
from simnet.world.rpc_call import Future
from simnet.world.rpc_limits import FRAME_BYTES, HEAD_BYTES, UNREAD_BYTES, WINDOW_BYTES, RpcLimits
from simnet.world.rpc_metadata import Headers, check_trailing, encode_metadata, measure_metadata

_OK = grpc.StatusCode.OK
_UNKNOWN = grpc.StatusCode.UNKNOWN
_CODES: Mapping[Any, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_INVALID = "Invalid metadata"
_AUTH_CONTEXT = {"transport_security_type": [b"insecure"], "security_level": [b"TSI_SECURITY_NONE"]}


def get_code(code: Any) -> grpc.StatusCode:
    """The status code that a handler means: one of gRPC's, or its number; UNKNOWN for anything else."""
    if isinstance(code, grpc.StatusCode):
        return code
    return _CODES.get(code, _UNKNOWN) if isinstance(code, int) else _UNKNOWN


class Context(grpc.aio.ServicerContext[Any, Any]):
    """One call at the server.

    Attributes:
        caller: the half at the client; None when nothing is sent there any more.
        method: "/service/method".
        metadata: of the client.
        deserializer: of requests; None for bytes.
        serializer: of responses; None for bytes.
        aborted: what `abort` has raised.
        is_status_sent: the call has ended, as far as this side is concerned.
        is_client_gone: it was cancelled, its deadline is over, or the connection is lost.
        status: that the handler has set.
        callbacks: of the handler, for its end.
        task: in which the handler runs.
    """

    def __init__(self, caller: Any, end: End, limits: RpcLimits, loop: asyncio.AbstractEventLoop) -> None:
        self.caller: Any = caller
        self.method: str = caller.stub.method
        self.metadata: Headers = caller.metadata
        self.deserializer: Any = None
        self.serializer: Any = None
        self.aborted: grpc.aio.AbortError | None = None
        self.is_status_sent = False
        self.is_client_gone = False
        self.status = _OK
        self.callbacks: list[Callable[[], None]] = []
        self.task: asyncio.Task[None] | None = None
        self.on_response: Callable[[str, str, bytes], None] | None = None
        self._end = end
        self._limits = limits
        self._loop = loop
        self._inbox: deque[bytes] = deque()
        self._unreported = 0
        self._unread = 0
        self._is_half_closed = False
        self._reader: Future | None = None
        self._writer: Future | None = None
        self._given_code: Any = None
        self._details = ""
        self._trailing: tuple[tuple[str, Any], ...] = ()
        self._is_initial_sent = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        if caller.timeout is not None:
            self._deadline = loop.time() + caller.timeout
            self._timer = loop.call_at(self._deadline, self.on_cancelled)
        if caller.is_unary_request:
            self.on_message(caller.first)
            self._is_half_closed = True

    @property
    def buffered_bytes(self) -> int:
        """Messages that have come and were not read yet."""
        return sum(map(len, self._inbox))

    def on_message(self, data: bytes) -> None:
        """A message has arrived."""
        most = self._limits.receive_bytes
        if 0 <= most < len(data):
            self._refuse(f"Received message larger than max ({len(data)} vs. {most})")
        elif not self.is_client_gone:
            self._inbox.append(data)
            self._wake_reader()

    def on_half_closed(self) -> None:
        """No more messages come."""
        self._is_half_closed = True
        self._wake_reader()

    def on_credit(self, size_bytes: int) -> None:
        """The client has read so much."""
        self._unread -= size_bytes
        self._wake_writer()

    def on_cancelled(self) -> None:
        """The client has gone, or the deadline is over."""
        if self.is_client_gone:
            return
        self.is_client_gone = True
        self._unlink()
        self._inbox.clear()
        self._wake_reader()
        self._wake_writer()
        if not self.is_status_sent:
            self._loop.call_soon(self._cancel_task)

    def on_lost(self, why: str) -> None:
        """The connection is gone."""
        self.on_cancelled()

    def _cancel_task(self) -> None:
        if self.task is not None and not self.is_status_sent:
            self.task.cancel()

    async def read(self) -> Any:
        """The next request, or `grpc.aio.EOF`."""
        self.check_running()
        data = await self.receive()
        self.check_running()
        if data is None:
            return grpc.aio.EOF
        return data if self.deserializer is None else self.deserializer(data)

    async def receive(self) -> bytes | None:
        """The bytes of the next request; None after the last."""
        inbox = self._inbox
        while not inbox:
            if self._is_half_closed or self.is_client_gone or self._reader is not None:
                return None
            self._reader = reader = self._loop.create_future()
            try:
                await reader
            finally:
                self._reader = None
        data = inbox.popleft()
        self._unreported += len(data) + UNREAD_BYTES
        if self._unreported * 2 >= WINDOW_BYTES and self.caller is not None and not self._is_half_closed:
            credit, self._unreported = self._unreported, 0
            self._end.out.send(FRAME_BYTES, self.caller.on_credit, credit)
        return data

    async def write(self, message: Any) -> None:
        """Sends a response; returns when less than a window is unread."""
        self.check_running()
        data = self.serialize(message)
        self._check_connected()
        self._is_initial_sent = True
        most = self._limits.send_bytes
        if 0 <= most < len(data):
            self._refuse(f"Sent message larger than max ({len(data)} vs. {most})")
            return
        if self.on_response is not None:
            self.on_response(self._end.place.name, self.method, data)
        self._unread += len(data) + UNREAD_BYTES
        self._end.out.send(len(data) + FRAME_BYTES, self.caller.on_message, data)
        while self._unread >= WINDOW_BYTES and not self.is_client_gone:
            if self._writer is None:
                self._writer = self._loop.create_future()
            await self._writer

    async def send_initial_metadata(self, initial_metadata: Iterable[tuple[str, Any]]) -> None:
        """Sends initial metadata, which go out with the first message otherwise.

        Raises:
            grpc.aio.UsageError: they are sent.
        """
        self.check_running()
        if self._is_initial_sent:
            raise grpc.aio.UsageError("Send initial metadata failed: already sent")
        try:
            headers = encode_metadata(initial_metadata)
        except grpc.aio.InternalError:
            self.send_status(grpc.StatusCode.INTERNAL, _INVALID)
            raise
        self._check_connected()
        self._is_initial_sent = True
        self._end.out.send(HEAD_BYTES + measure_metadata(headers), self.caller.on_initial, headers)

    async def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """Ends the call with an error.

        Raises:
            grpc.aio.AbortError: always, to leave the handler.
            grpc.aio.UsageError: it was aborted before.
        """
        if self.aborted is not None:
            raise grpc.aio.UsageError("Abort already called!")
        self.aborted = grpc.aio.AbortError("Locally aborted.")
        if trailing_metadata or not self._trailing:
            check_trailing(trailing_metadata)
            self._trailing = tuple(trailing_metadata)
        self._details = details or self._details
        self.set_code(code)
        self.is_status_sent = True
        if self.status is _OK:
            raise AssertionError("expecting non-ok status code")
        self.send_status(self.status, self._details)
        raise self.aborted

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Ends the call with an error. See `abort`."""
        given: Any = status
        await self.abort(given.code, given.details, given.trailing_metadata)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Sets what is sent with the status.

        Raises:
            TypeError: it is no metadata.
        """
        check_trailing(trailing_metadata)
        self._trailing = tuple(trailing_metadata)

    def trailing_metadata(self) -> Any:
        """What was set."""
        return self._trailing

    def invocation_metadata(self) -> Any:
        """What the client has sent."""
        return self.metadata

    def set_code(self, code: Any) -> None:
        """Sets the status that is sent at the end."""
        self.status = get_code(code)
        self._given_code = code

    def code(self) -> Any:
        """What was set; None if nothing was."""
        return self._given_code

    def set_details(self, details: str) -> None:
        """Sets the details of the status."""
        self._details = details

    def details(self) -> str:
        """What was set."""
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Nothing is compressed here.

        Raises:
            RuntimeError: initial metadata are sent.
        """
        if self._is_initial_sent:
            raise RuntimeError("Compression setting must be specified before sending initial metadata")

    def disable_next_message_compression(self) -> None:
        """Nothing is compressed here."""

    def peer(self) -> str:
        """The client's end of the connection, "ipv4:127.0.0.1:PORT"."""
        return self._end.peer.address

    def peer_identities(self) -> Iterable[bytes] | None:
        """Nobody is authenticated."""
        return None

    def peer_identity_key(self) -> str | None:
        """Nobody is authenticated."""
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """That of an insecure connection."""
        return dict(_AUTH_CONTEXT)

    def time_remaining(self) -> Any:
        """Seconds until the deadline; None if there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - self._loop.time())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Has `callback(context)` called when the handler has ended."""
        self.callbacks.append(lambda: callback(self))

    def done(self) -> bool:
        """Is the status on its way?"""
        return self.is_status_sent

    def cancelled(self) -> bool:
        """Was the status set to CANCELLED?"""
        return self.status is grpc.StatusCode.CANCELLED

    def check_running(self) -> None:
        """Raises grpc.aio.AbortError or UsageError: the handler goes on though the call has ended."""
        if self.aborted is not None:
            raise self.aborted
        if self.is_status_sent:
            raise grpc.aio.UsageError("RPC already finished.")

    def __aiter__(self) -> AsyncIterator[Any]:
        """The requests, as a handler iterates over them."""
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message

    def serialize(self, message: Any) -> bytes:
        """A response as bytes. Raises what the serialiser raises, and TypeError for what are no bytes."""
        if isinstance(message, str):
            message = message.encode()
        data = message if self.serializer is None else self.serializer(message)
        if data is None:
            return b""
        if not isinstance(data, bytes):
            raise TypeError(f"Expected bytes, got {type(data).__name__}")
        return data

    def send_status(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call at the client."""
        self.is_status_sent = True
        trailing: Headers = ()
        try:
            trailing = encode_metadata(self._trailing)
        except grpc.aio.InternalError:
            code, details = grpc.StatusCode.INTERNAL, _INVALID
        caller, end = self.caller, self._end
        if caller is not None:
            self._unlink()
            size_bytes = FRAME_BYTES + len(details) + measure_metadata(trailing)
            end.out.send(size_bytes, caller.on_status, (code, details, trailing))

    def send_response(self, data: bytes) -> None:
        """Ends the call at the client, with the one answer."""
        most = self._limits.send_bytes
        if 0 <= most < len(data):
            self._refuse(f"Sent message larger than max ({len(data)} vs. {most})")
            return
        self.is_status_sent = True
        try:
            trailing = encode_metadata(self._trailing) if self._trailing else ()
        except grpc.aio.InternalError:
            self.send_status(grpc.StatusCode.INTERNAL, _INVALID)
            return
        caller, end = self.caller, self._end
        if caller is not None:
            if self.on_response is not None:
                self.on_response(end.place.name, self.method, data)
            self._unlink()
            size_bytes = 2 * FRAME_BYTES + len(data) + measure_metadata(trailing)
            end.out.send(size_bytes, caller.on_response, (data, self.status, self._details, trailing))

    def release(self) -> None:
        """The handler has ended: what is left refers to nobody."""
        self.task = None
        self._inbox.clear()
        if self._timer is not None and self.is_status_sent:
            self._timer.cancel()
            self._timer = None

    def _unlink(self) -> None:
        self.caller = None
        self._end.streams.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, why: str) -> None:
        if not self.is_status_sent:
            self._details = why
            self.send_status(grpc.StatusCode.RESOURCE_EXHAUSTED, why)
            self._loop.call_soon(self._end_task)

    def _end_task(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def _check_connected(self) -> None:
        if self.caller is None:
            raise grpc.aio.InternalError("the client has gone")

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and not writer.done():
            writer.set_result(None)
