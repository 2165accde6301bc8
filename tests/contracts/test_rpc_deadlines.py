"""Deadlines: who learns of them, and what is left of a call then."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.contracts.rpc_world import EOF, World, iterate_all, outcome, read_all, settle

Code = grpc.StatusCode
Context = Any
SHORT_S = 0.1


class Seen:
    """What a handler that waits for ever was told."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.was_cancelled = asyncio.Event()
        self.remaining: Any = "never called"

    async def wait(self, context: Context) -> None:
        self.remaining = context.time_remaining()
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise

    async def answer(self, request: bytes, context: Context) -> bytes:
        await self.wait(context)
        return b""

    async def stream(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"
        await self.wait(context)


async def test_a_deadline_ends_both_sides(world: World) -> None:
    seen = Seen()
    method = await world.serve("unary_unary", seen.answer)
    call = method(b"", timeout=SHORT_S)
    code, details = await outcome(call)
    assert code == "DEADLINE_EXCEEDED"
    assert "Deadline Exceeded" in details
    assert not call.cancelled()
    assert call.time_remaining() == 0
    await seen.was_cancelled.wait()
    assert 0 < seen.remaining <= SHORT_S + 0.02  # it is rounded up on its way


async def test_a_deadline_of_a_request_stream(world: World) -> None:
    seen = Seen()
    method = await world.serve("stream_unary", seen.answer)
    call = method(timeout=SHORT_S)
    await call.write(b"1")
    assert (await outcome(call))[0] == "DEADLINE_EXCEEDED"
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(b"2")
    await seen.was_cancelled.wait()


@pytest.mark.parametrize("read", [read_all, iterate_all])
async def test_a_deadline_in_mid_stream(world: World, read: Any) -> None:
    seen = Seen()
    method = await world.serve("unary_stream", seen.stream)
    assert await read(method(b"", timeout=SHORT_S)) == ([b"1", b"2"], "DEADLINE_EXCEEDED")
    await seen.was_cancelled.wait()


async def test_a_deadline_drops_what_is_unread(world: World) -> None:
    seen = Seen()
    method = await world.serve("unary_stream", seen.stream)
    call = method(b"", timeout=SHORT_S)
    assert await call.code() is Code.DEADLINE_EXCEEDED
    assert await read_all(call) == ([], "DEADLINE_EXCEEDED")


async def test_a_deadline_drops_even_a_status_behind_unread_messages(world: World) -> None:
    async def handler(request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"1"

    method = await world.serve("unary_stream", handler)
    call = method(b"", timeout=SHORT_S)
    assert await call.code() is Code.DEADLINE_EXCEEDED


async def test_a_deadline_that_is_over_before(world: World) -> None:
    seen = Seen()
    method = await world.serve("unary_unary", seen.answer)
    assert (await outcome(method(b"", timeout=-1)))[0] == "DEADLINE_EXCEEDED"
    assert not seen.started.is_set()


async def test_a_deadline_of_zero(world: World) -> None:
    async def handler(request: bytes, context: Context) -> bytes:
        return b""

    method = await world.serve("unary_unary", handler)
    await method(b"")
    assert (await outcome(method(b"", timeout=0)))[0] in {"OK", "DEADLINE_EXCEEDED"}


async def test_no_deadline(world: World) -> None:
    remaining: list[Any] = []

    async def handler(request: bytes, context: Context) -> bytes:
        remaining.append(context.time_remaining())
        return b""

    method = await world.serve("unary_unary", handler)
    call = method(b"", timeout=None)
    assert call.time_remaining() is None
    await call
    assert remaining == [None]


async def test_time_that_remains(world: World) -> None:
    remaining: list[Any] = []

    async def handler(request: bytes, context: Context) -> bytes:
        remaining.append(context.time_remaining())
        return b""

    method = await world.serve("unary_unary", handler)
    call = method(b"", timeout=100)
    assert 99 < call.time_remaining() <= 100
    await call
    assert 99 < remaining[0] <= 101  # long deadlines are rounded to whole seconds and more on their way


async def test_a_deadline_while_nobody_answers_the_connection(world: World) -> None:
    world.make_server()  # it never starts
    assert (await outcome(world.stub("unary_unary")(b"", timeout=SHORT_S)))[0] == "DEADLINE_EXCEEDED"


async def test_a_deadline_while_waiting_for_readiness(world: World) -> None:
    server = world.make_server()
    await server.start()
    await server.stop(None)
    call = world.stub("unary_unary")(b"", timeout=SHORT_S, wait_for_ready=True)
    assert (await outcome(call))[0] == "DEADLINE_EXCEEDED"


async def test_a_reader_sees_the_end_at_the_deadline(world: World) -> None:
    seen: list[Any] = []

    async def handler(requests: AsyncIterator[bytes], context: Context) -> bytes:
        try:
            seen.append(await context.read())
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return b""

    method = await world.serve("stream_unary", handler)
    assert (await outcome(method(timeout=SHORT_S)))[0] == "DEADLINE_EXCEEDED"
    await settle(lambda: "cancelled" in seen)
    assert seen in ([EOF, "cancelled"], ["cancelled"])


async def test_a_handler_that_ignores_its_cancellation_is_not_heard(world: World) -> None:
    ended = asyncio.Event()

    async def handler(request: bytes, context: Context) -> bytes:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
        return b"late"

    method = await world.serve("unary_unary", handler)
    call = method(b"", timeout=SHORT_S)
    assert (await outcome(call))[0] == "DEADLINE_EXCEEDED"
    await ended.wait()
    assert (await outcome(call))[0] == "DEADLINE_EXCEEDED"
