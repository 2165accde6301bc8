"""Calls whose answer is one message.

Rules, those of `grpc.aio`: the answer can be awaited again and again; whoever cancels a task that awaits it
cancels the call for all; a second message, of a server that takes the answer for a stream, is never read,
so that such a call ends by its deadline alone.
"""

import asyncio
from collections.abc import Generator
from typing import Any

import grpc

from simnet.world.rpc_call import Call, Future
from simnet.world.rpc_metadata import Headers

_OK = grpc.StatusCode.OK


class UnaryResponse(Call):
    """A call whose answer is one message."""

    _waiter: "Future | None" = None
    _response: Any = None
    _data: bytes | None = None
    _has_surplus = False

    def on_message(self, data: bytes) -> None:
        """A message of a server that takes the answer for a stream: a second one is never read."""
        if self._code is None and not self._is_too_long_to_receive(data):
            self._has_surplus = self._data is not None
            self._data = data if self._data is None else self._data

    def on_status(self, status: tuple[grpc.StatusCode, str, Headers]) -> None:
        """The server has ended the call; that counts when all messages are read."""
        if not self._has_surplus:
            super().on_status(status)

    def on_response(self, response: tuple[bytes, grpc.StatusCode, str, Headers]) -> None:
        """The answer and the status have arrived, in one piece."""
        data, code, details, trailing = response
        if self._code is None and not self._is_too_long_to_receive(data):
            self._data = data
            self._settle(code, details, trailing, "" if code is _OK else f"{code.name}:{details}")
        self.rpc = None

    def __await__(self) -> Generator[Any, None, Any]:
        """Waits for the answer.

        Raises:
            grpc.aio.AioRpcError: the call failed.
            asyncio.CancelledError: it was cancelled.
        """
        if self._code is None:
            if self._failure is not None:
                raise self._failure
            if self._waiter is None:
                self._waiter = self.channel.loop.create_future()
            try:
                yield from self._waiter
            except asyncio.CancelledError:
                self.cancel()
                raise
        if self._code is not _OK:
            self._raise_status()
        data, self._data = self._data, None
        if data is not None:
            self._response = self._deserialize(data)
        return self._response

    def _settle(
        self, code: grpc.StatusCode, details: str, trailing: Headers | None, debug: str | None
    ) -> None:
        super()._settle(code, details, trailing, debug)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)


class UnaryUnaryCall(UnaryResponse, grpc.aio.UnaryUnaryCall[Any, Any]):
    """One request, one answer."""

    is_unary_request = True

    async def wait_for_connection(self) -> None:
        """Waits for the end of the call, as `grpc.aio` does.

        Raises:
            grpc.aio.AioRpcError: the call failed.
        """
        await self._wait_status()
        self._raise_status()
