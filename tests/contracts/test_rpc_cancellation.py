"""Cancelling, from either side, at any time: who learns of it and how."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.contracts.rpc_world import EOF, World, catch, iterate_all, outcome, read_all, settle

Code = grpc.StatusCode
Context = Any
LOCALLY = "Locally cancelled by application!"


class Waiting:
    """A handler that waits for ever."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.events: list[Any] = []

    async def answer(self, request: Any, context: Context) -> bytes:
        context.add_done_callback(lambda _: self.events.append("done"))
        await self.wait()
        return b""

    async def stream(self, request: Any, context: Context) -> AsyncIterator[bytes]:
        context.add_done_callback(lambda _: self.events.append("done"))
        yield b"1"
        await self.wait()

    async def wait(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise

    async def end(self) -> list[Any]:
        await settle(lambda: "done" in self.events)
        return self.events


async def check_cancelled(call: Any) -> None:
    assert call.done()
    assert call.cancelled()
    assert not call.cancel()
    assert await call.code() is Code.CANCELLED
    assert await call.details() == LOCALLY
    assert await call.initial_metadata() == grpc.aio.Metadata()
    assert await call.trailing_metadata() == grpc.aio.Metadata()
    assert await call.debug_error_string() is None


@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
async def test_cancelling_a_call_that_runs(world: World, kind: str) -> None:
    waiting = Waiting()
    method = await world.serve(kind, waiting.answer)
    call = method(b"") if kind == "unary_unary" else method()
    await waiting.started.wait()
    assert call.cancel()
    await check_cancelled(call)
    assert await catch(call) is asyncio.CancelledError
    assert await waiting.end() == ["cancelled", "done"]


@pytest.mark.parametrize("read", [read_all, iterate_all])
@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
async def test_cancelling_a_stream_that_runs(world: World, kind: str, read: Any) -> None:
    waiting = Waiting()
    method = await world.serve(kind, waiting.stream)
    call = method(b"") if kind == "unary_stream" else method()
    await waiting.started.wait()
    assert call.cancel()
    await check_cancelled(call)
    assert await read(call) == ([], "cancelled")
    assert await waiting.end() == ["cancelled", "done"]


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_cancelling_before_anything_was_sent(world: World, kind: str) -> None:
    waiting = Waiting()
    method = await world.serve(kind, waiting.stream if kind.endswith("stream") else waiting.answer)
    call = method(b"") if kind.startswith("unary") else method()
    assert call.cancel()
    await check_cancelled(call)
    assert not waiting.started.is_set()


async def test_cancelling_before_the_connection(world: World) -> None:
    world.make_server()  # it never starts
    call = world.stub("unary_unary")(b"")
    await asyncio.sleep(0.01)
    assert call.cancel()
    assert await catch(call) is asyncio.CancelledError


async def test_cancelling_after_the_end(world: World) -> None:
    async def handler(request: bytes, context: Context) -> bytes:
        return b"1"

    method = await world.serve("unary_unary", handler)
    call = method(b"")
    assert await call == b"1"
    assert not call.cancel()
    assert not call.cancelled()
    assert await call == b"1"
    assert await call.code() is Code.OK


@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
async def test_whoever_cancels_the_awaiting_task_cancels_the_call(world: World, kind: str) -> None:
    waiting = Waiting()
    method = await world.serve(kind, waiting.answer)
    call = method(b"") if kind == "unary_unary" else method()

    async def wait() -> None:
        await call

    task = asyncio.create_task(wait())
    await waiting.started.wait()
    task.cancel()
    assert await catch(task) is asyncio.CancelledError
    await check_cancelled(call)
    assert await waiting.end() == ["cancelled", "done"]


@pytest.mark.parametrize("read", [read_all, iterate_all])
async def test_whoever_cancels_a_reading_task_cancels_the_call(world: World, read: Any) -> None:
    waiting = Waiting()
    method = await world.serve("unary_stream", waiting.stream)
    call = method(b"")
    task = asyncio.create_task(read(call))
    await waiting.started.wait()
    await asyncio.sleep(0.02)
    task.cancel()
    assert await task == ([b"1"], "cancelled")
    await check_cancelled(call)
    assert await waiting.end() == ["cancelled", "done"]


async def test_a_timeout_around_a_read_cancels_the_call(world: World) -> None:
    waiting = Waiting()
    method = await world.serve("unary_stream", waiting.stream)
    call = method(b"")
    assert await call.read() == b"1"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await call.read()
    await check_cancelled(call)


async def test_whoever_cancels_a_task_that_waits_for_the_code_leaves_the_call_alone(world: World) -> None:
    waiting = Waiting()
    method = await world.serve("unary_unary", waiting.answer)
    call = method(b"")
    await waiting.started.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await call.code()
    assert not call.done()


async def test_cancelling_drops_what_is_unread(world: World) -> None:
    waiting = Waiting()
    method = await world.serve("unary_stream", waiting.stream)
    call = method(b"")
    await waiting.started.wait()
    await asyncio.sleep(0.02)
    call.cancel()
    assert await read_all(call) == ([], "cancelled")


async def test_cancelling_ends_a_reader(world: World) -> None:
    waiting = Waiting()
    method = await world.serve("stream_stream", waiting.stream)
    call = method()
    assert await call.read() == b"1"
    reading = asyncio.create_task(call.read())
    await asyncio.sleep(0.02)
    call.cancel()
    assert await catch(reading) is asyncio.CancelledError


async def test_cancelling_ends_a_writer(world: World) -> None:
    waiting = Waiting()
    method = await world.serve("stream_unary", waiting.answer)
    call = method()
    await call.write(b"1")
    call.cancel()
    assert await catch(call.write(b"2")) is asyncio.InvalidStateError
    assert await catch(call.done_writing()) is None


async def test_cancelling_ends_an_iterator_of_requests(world: World) -> None:
    waiting = Waiting()
    ended = asyncio.Event()

    async def requests() -> AsyncIterator[bytes]:
        try:
            yield b"1"
            await asyncio.Event().wait()
        finally:
            ended.set()

    method = await world.serve("stream_unary", waiting.answer)
    call = method(requests())
    await waiting.started.wait()
    call.cancel()
    await ended.wait()
    assert await waiting.end() == ["cancelled", "done"]


async def test_callbacks_of_a_cancelled_call_run_at_once(world: World) -> None:
    waiting = Waiting()
    method = await world.serve("unary_unary", waiting.answer)
    call = method(b"")
    called: list[Any] = []
    await waiting.started.wait()
    call.add_done_callback(called.append)
    call.cancel()
    assert called == [call]


@pytest.mark.parametrize("style", ["read", "iterate"])
async def test_a_pending_read_usually_sees_the_end_first(world: World, style: str) -> None:
    events: list[Any] = []
    started = asyncio.Event()

    async def handler(requests: Any, context: Context) -> bytes:
        started.set()
        try:
            if style == "read":
                events.append(await context.read())
            else:
                events.extend([request async for request in requests])
                events.append(EOF)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise
        return b""

    method = await world.serve("stream_unary", handler)
    call = method()
    await started.wait()
    await asyncio.sleep(0.02)
    call.cancel()
    await settle(lambda: "cancelled" in events)
    assert events in ([EOF, "cancelled"], ["cancelled"])


async def test_a_handler_writes_on_after_the_client_has_gone(world: World) -> None:
    errors: list[Any] = []
    started = asyncio.Event()

    async def handler(request: bytes, context: Context) -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            errors.append(await catch(context.write(b"late")))
            errors.append(await context.read())
            raise

    method = await world.serve("unary_stream", handler)
    call = method(b"")
    await started.wait()
    call.cancel()
    await settle(lambda: len(errors) == 2)
    assert errors[1] is EOF
    assert errors[0] is None or issubclass(errors[0], grpc.aio.InternalError)


async def test_cancelled_by_the_server_is_no_local_cancellation(world: World) -> None:
    async def handler(request: bytes, context: Context) -> None:
        await context.abort(Code.CANCELLED, "by the server")

    method = await world.serve("unary_stream", handler)
    call = method(b"")
    assert await read_all(call) == ([], "CANCELLED")
    assert call.cancelled()


async def test_one_of_two_awaiting_tasks_is_cancelled(world: World) -> None:
    waiting = Waiting()
    method = await world.serve("unary_unary", waiting.answer)
    call = method(b"")
    first, second = asyncio.create_task(outcome(call)), asyncio.create_task(outcome(call))
    await waiting.started.wait()
    first.cancel()
    assert (await first, await second) == (("cancelled", None), ("cancelled", None))
