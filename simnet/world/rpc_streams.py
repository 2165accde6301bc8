"""Calls with streams, as the client sees them.

Rules, those of `grpc.aio`:

- Messages are read by `async for` or by `read`, and written by an iterator or by `write`: never mixed.
- Whoever cancels a task that reads or writes cancels the call.
- A writer waits while a window of what it wrote is unread.
- An iterator of requests that fails cancels the call.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

import grpc

from simnet.world.connection import End
from simnet.world.rpc_call import Call, Future, wake
from simnet.world.rpc_limits import FRAME_BYTES, UNREAD_BYTES, WINDOW_BYTES
from simnet.world.rpc_metadata import Headers
from simnet.world.rpc_unary import UnaryResponse

if TYPE_CHECKING:
    from simnet.world.rpc_channel import MultiCallable

Requests = AsyncIterable[Any] | Iterable[Any]
_log = logging.getLogger(__name__)
_MIXED = "The iterator and read/write APIs may not be mixed on a single RPC."


class ResponseStream(Call):
    """A call that is answered by a stream."""

    def __init__(self, *args: Any) -> None:
        self._inbox: deque[bytes] = deque()
        self._unreported = 0
        self._reader: Future | None = None
        self._final: tuple[grpc.StatusCode, str, Headers] | None = None
        self._messages: AsyncIterator[Any] | None = None
        self._is_read_by_hand = False
        super().__init__(*args)

    @property
    def buffered_bytes(self) -> int:
        """Messages that have come and were not read yet."""
        return sum(map(len, self._inbox))

    def on_message(self, data: bytes) -> None:
        """A message has arrived."""
        if self._code is not None or self._is_too_long_to_receive(data):
            return
        if self._initial is None:
            self.on_initial(())
        self._inbox.append(data)
        self._wake_reader()

    def on_response(self, response: tuple[bytes, grpc.StatusCode, str, Headers]) -> None:
        """The answer of a server that takes it for the only one."""
        data, code, details, trailing = response
        self.on_message(data)
        self.on_status((code, details, trailing))

    def on_status(self, status: tuple[grpc.StatusCode, str, Headers]) -> None:
        """The server has ended the call; that counts when all messages are read."""
        if self._inbox and self._code is None:
            self._final = status
            self.rpc = None
        else:
            super().on_status(status)

    def __aiter__(self) -> AsyncIterator[Any]:
        """The messages; raises what `read` raises."""
        if self._is_read_by_hand:
            raise grpc.aio.UsageError(_MIXED)
        if self._messages is None:
            self._messages = self._iterate()
        return self._messages

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF` after the last.

        Raises:
            grpc.aio.AioRpcError: the call failed.
            grpc.aio.UsageError: the messages are read by `async for`.
            asyncio.CancelledError: the call was cancelled here.
        """
        if self._code is not None:
            self._raise_status()
            return grpc.aio.EOF
        if self._messages is not None:
            raise grpc.aio.UsageError(_MIXED)
        self._is_read_by_hand = True
        message = await self._read()
        if message is grpc.aio.EOF:
            await self._wait_status()
            self._raise_status()
        return message

    async def _iterate(self) -> AsyncIterator[Any]:
        while True:
            message = await self._read()
            if message is grpc.aio.EOF:
                break
            yield message
        await self._wait_status()
        self._raise_status()

    async def _read(self) -> Any:
        if self._failure is not None:
            raise self._failure
        inbox = self._inbox
        while not inbox:
            if self._code is not None or self._reader is not None:
                return grpc.aio.EOF  # also for whoever reads while another one does
            self._reader = reader = self.channel.loop.create_future()
            try:
                await reader
            except asyncio.CancelledError:
                self.cancel()
                raise
            finally:
                self._reader = None
        data = inbox.popleft()
        if not inbox and self._final is not None:
            final, self._final = self._final, None
            super().on_status(final)
        self._report(len(data) + UNREAD_BYTES)
        return self._deserialize(data)

    def _report(self, size_bytes: int) -> None:
        self._unreported += size_bytes
        if self._unreported * 2 >= WINDOW_BYTES and self.end is not None and self.end.is_open:
            credit, self._unreported = self._unreported, 0
            self.end.out.send(FRAME_BYTES, self.carry_credit, credit)

    def _wake_reader(self) -> None:
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)

    def _settle(
        self, code: grpc.StatusCode, details: str, trailing: Headers | None, debug: str | None
    ) -> None:
        super()._settle(code, details, trailing, debug)
        self._inbox.clear()
        self._final = None
        self._wake_reader()


class RequestStream(Call):
    """A call whose request is a stream."""

    def __init__(self, stub: "MultiCallable", requests: Requests | None, *args: Any) -> None:
        self._begun: list[Future] = []
        self._writer: Future | None = None
        self._unread = 0
        self._is_half_closed = False
        self._is_written_by_hand = requests is None
        self._feeding: asyncio.Task[None] | None = None
        super().__init__(stub, *args)
        if requests is not None and self._failure is None:
            self._feeding = self.channel.loop.create_task(self._feed(requests))

    def begin(self, end: End) -> None:
        """The channel is connected: the call goes out, and messages may follow."""
        super().begin(end)
        wake(self._begun)

    def on_credit(self, size_bytes: int) -> None:
        """The server has read so much."""
        self._unread -= size_bytes
        self._wake_writer()

    async def write(self, request: Any) -> None:
        """Sends a message; returns when less than a window is unread.

        Raises:
            grpc.aio.UsageError: the requests come from an iterator.
            asyncio.InvalidStateError: the call has ended, or `done_writing` was called.
            grpc.aio.AioRpcError: the call failed meanwhile.
        """
        self._check_by_hand()
        await self._write(request)

    async def done_writing(self) -> None:
        """Tells the server that no more messages come. A second time it does nothing.

        Raises:
            grpc.aio.UsageError: the requests come from an iterator.
        """
        self._check_by_hand()
        await self._half_close()

    async def wait_for_connection(self) -> None:
        """Returns when the call goes out.

        Raises:
            grpc.aio.AioRpcError: it failed before.
            asyncio.CancelledError: it was cancelled before.
        """
        await self._wait_begun()
        if self._code is not None:
            self._raise_status()

    def carry_message(self, data: bytes) -> None:
        """At the server: a message has arrived."""
        if self.rpc is not None:
            self.rpc.on_message(data)

    def carry_half_close(self, _: None) -> None:
        """At the server: no more messages come."""
        if self.rpc is not None:
            self.rpc.on_half_closed()

    def _check_by_hand(self) -> None:
        if not self._is_written_by_hand:
            raise grpc.aio.UsageError(_MIXED)

    async def _wait_begun(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self.end is None and self._code is None:
            await self._wait(self._begun)

    async def _write(self, request: Any) -> None:
        if self._code is not None:
            raise asyncio.InvalidStateError("RPC already finished.")
        if self._is_half_closed:
            raise asyncio.InvalidStateError('RPC is half closed after calling "done_writing".')
        if self.end is None:
            await self._wait_begun()
            if self._code is not None:
                self._raise_status()
        data = self._serialize(request)
        end = self.end
        if end is None or self._is_too_long_to_send(data):
            self._raise_status()
            return
        self._unread += len(data) + UNREAD_BYTES
        end.out.send(len(data) + FRAME_BYTES, self.carry_message, data)
        while self._unread >= WINDOW_BYTES and self._code is None:
            await self._wait_credit()

    async def _wait_credit(self) -> None:
        if self._writer is None:
            self._writer = self.channel.loop.create_future()
        try:
            await self._writer
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def _half_close(self) -> None:
        if self._code is not None or self._is_half_closed:
            return
        self._is_half_closed = True
        if self.end is None:
            await self._wait_begun()
        if self.end is not None and self._code is None:
            self.end.out.send(FRAME_BYTES, self.carry_half_close, None)

    async def _feed(self, requests: Requests) -> None:
        try:
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    await self._write(request)
            else:
                for request in requests:
                    await self._write(request)
            await self._half_close()
        except grpc.aio.AioRpcError:
            return  # the call tells by itself how it ended
        except asyncio.CancelledError:
            self.cancel()
        except Exception:  # of the caller's iterator, whatever it raises
            _log.debug("an iterator of requests failed", exc_info=True)
            self.cancel()

    def _wake_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and not writer.done():
            writer.set_result(None)

    def _settle(
        self, code: grpc.StatusCode, details: str, trailing: Headers | None, debug: str | None
    ) -> None:
        super()._settle(code, details, trailing, debug)
        wake(self._begun)
        self._wake_writer()
        if self._is_locally_cancelled and self._feeding is not None:
            self._feeding.cancel()


class UnaryStreamCall(ResponseStream, grpc.aio.UnaryStreamCall[Any, Any]):
    """One request, a stream of answers."""

    is_unary_request = True

    async def wait_for_connection(self) -> None:
        """Returns when the server has begun to answer.

        Raises:
            grpc.aio.AioRpcError: the call failed.
        """
        await self.initial_metadata()
        if self._code is not None:
            self._raise_status()


class StreamUnaryCall(RequestStream, UnaryResponse, grpc.aio.StreamUnaryCall[Any, Any]):
    """A stream of requests, one answer."""


class StreamStreamCall(RequestStream, ResponseStream, grpc.aio.StreamStreamCall[Any, Any]):
    """A stream of requests, a stream of answers."""
