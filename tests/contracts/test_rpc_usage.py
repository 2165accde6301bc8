"""What a caller may not do, and what becomes of messages that cannot be encoded or decoded."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.contracts.rpc_world import EOF, World, catch, iterate_all, outcome, read_all

Code = grpc.StatusCode
Context = Any
UsageError = grpc.aio.UsageError


async def echo_all(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def collect(requests: AsyncIterator[bytes], context: Context) -> bytes:
    return b",".join([request async for request in requests])


async def yield_three(request: bytes, context: Context) -> AsyncIterator[bytes]:
    for number in range(3):
        yield b"%d" % number


async def echo(request: bytes, context: Context) -> bytes:
    return request


async def feed(*requests: bytes) -> AsyncIterator[bytes]:
    for request in requests:
        yield request


async def test_reading_after_iterating(world: World) -> None:
    method = await world.serve("unary_stream", yield_three)
    call = method(b"")
    async for message in call:
        assert message == b"0"
        break
    assert await catch(call.read()) is UsageError


async def test_iterating_after_reading(world: World) -> None:
    method = await world.serve("unary_stream", yield_three)
    call = method(b"")
    assert await call.read() == b"0"
    with pytest.raises(UsageError):
        aiter(call)


async def test_iterating_twice_goes_on(world: World) -> None:
    method = await world.serve("unary_stream", yield_three)
    call = method(b"")
    assert aiter(call) is aiter(call)
    async for message in call:
        assert message == b"0"
        break
    assert await iterate_all(call) == ([b"1", b"2"], "OK")


async def test_iterating_after_the_end(world: World) -> None:
    method = await world.serve("unary_stream", yield_three)
    call = method(b"")
    assert await iterate_all(call) == ([b"0", b"1", b"2"], "OK")
    assert await iterate_all(call) == ([], "OK")
    assert await call.read() is EOF


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_writing_beside_an_iterator(world: World, kind: str) -> None:
    method = await world.serve(kind, collect if kind == "stream_unary" else echo_all)
    call = method(feed(b"1"))
    assert await catch(call.write(b"2")) is UsageError
    assert await catch(call.done_writing()) is UsageError
    if kind == "stream_unary":
        assert await call == b"1"
    else:
        assert await read_all(call) == ([b"1"], "OK")


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_writing_after_done_writing(world: World, kind: str) -> None:
    started = asyncio.Event()

    async def wait(requests: AsyncIterator[bytes], context: Context) -> bytes:
        await started.wait()
        return b""

    async def wait_in_stream(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        await started.wait()
        yield b""

    method = await world.serve(kind, wait if kind == "stream_unary" else wait_in_stream)
    call = method()
    await call.done_writing()
    assert await catch(call.write(b"1")) is asyncio.InvalidStateError
    started.set()


async def test_writing_after_the_end(world: World) -> None:
    method = await world.serve("stream_stream", echo_all)
    call = method()
    await call.done_writing()
    assert await call.code() is Code.OK
    assert await catch(call.write(b"1")) is asyncio.InvalidStateError


async def test_reading_after_an_error(world: World) -> None:
    async def handler(request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"1"
        await context.abort(Code.ABORTED, "why")

    method = await world.serve("unary_stream", handler)
    call = method(b"")
    assert await read_all(call) == ([b"1"], "ABORTED")
    assert await read_all(call) == ([], "ABORTED")
    assert await read_all(call) == ([], "ABORTED")


async def test_a_closed_channel(world: World) -> None:
    method = await world.serve("unary_unary", echo)
    channel = world.dial()
    closed = world.stub("unary_unary", channel)
    await closed(b"")
    await channel.close()
    with pytest.raises(UsageError):
        closed(b"")
    for kind in ("unary_stream", "stream_unary", "stream_stream"):
        stub = world.stub(kind, channel)
        with pytest.raises(UsageError):
            stub(b"")
    assert await method(b"1") == b"1"


@pytest.mark.parametrize("request_", [5, "text", None])
async def test_a_request_of_another_type(world: World, request_: Any) -> None:
    method = await world.serve("unary_unary", echo)
    call = method(request_)
    if request_ is None:
        assert await outcome(call) == ("OK", b"")
    else:
        assert await catch(call) is TypeError


@pytest.mark.parametrize("written", [5, "text"])
async def test_writing_another_type(world: World, written: Any) -> None:
    method = await world.serve("stream_stream", echo_all)
    call = method()
    assert await catch(call.write(written)) is TypeError
    await call.write(b"1")
    assert await call.read() == b"1"


def fail(value: Any) -> Any:
    raise ValueError("of a serialiser")


async def test_a_request_that_cannot_be_serialised_is_empty(world: World) -> None:
    await world.serve("unary_unary", echo)
    method = world.stub("unary_unary", request_serializer=fail)
    assert await method(b"1") == b""


async def test_a_request_in_a_stream_that_cannot_be_serialised_is_empty(world: World) -> None:
    await world.serve("stream_stream", echo_all)
    method = world.stub("stream_stream", request_serializer=fail)
    assert await read_all(method(feed(b"1", b"2"))) == ([b"", b""], "OK")


async def test_a_response_that_cannot_be_deserialised_is_none(world: World) -> None:
    await world.serve("unary_unary", echo)
    method = world.stub("unary_unary", response_deserializer=fail)
    call = method(b"1")
    assert await outcome(call) == ("OK", None)
    assert await call.code() is Code.OK


async def test_a_response_in_a_stream_that_cannot_be_deserialised_is_none(world: World) -> None:
    await world.serve("unary_stream", yield_three)
    method = world.stub("unary_stream", response_deserializer=fail)
    assert await read_all(method(b"1")) == ([None, None, None], "OK")


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
async def test_a_request_that_the_server_cannot_deserialise(world: World, kind: str) -> None:
    handlers = {
        "unary_unary": echo,
        "unary_stream": yield_three,
        "stream_unary": collect,
        "stream_stream": echo_all,
    }
    method = await world.serve(kind, handlers[kind], serializers={"request_deserializer": fail})
    call = method(b"1") if kind.startswith("unary") else method(feed(b"1"))
    if kind.endswith("unary"):
        assert await outcome(call) == ("UNKNOWN", "Unexpected <class 'ValueError'>: of a serialiser")
    else:
        assert await read_all(call) == ([], "UNKNOWN")


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_a_response_that_the_server_cannot_serialise(world: World, kind: str) -> None:
    handler = echo if kind == "unary_unary" else yield_three
    method = await world.serve(kind, handler, serializers={"response_serializer": fail})
    if kind == "unary_unary":
        assert (await outcome(method(b"1")))[0] == "UNKNOWN"
    else:
        assert await read_all(method(b"1")) == ([], "UNKNOWN")


async def test_a_second_reader_reads_the_end(world: World) -> None:
    method = await world.serve("stream_stream", echo_all)
    call = method()
    await call.wait_for_connection()
    first = asyncio.create_task(call.read())
    await asyncio.sleep(0.02)
    second = asyncio.create_task(call.read())
    await asyncio.sleep(0.02)
    await call.write(b"1")
    assert await first == b"1"
    await call.done_writing()
    assert await second is EOF


async def test_what_calls_and_channels_are_instances_of(world: World) -> None:
    kinds = {
        "unary_unary": (grpc.aio.UnaryUnaryMultiCallable, grpc.aio.UnaryUnaryCall, echo),
        "unary_stream": (grpc.aio.UnaryStreamMultiCallable, grpc.aio.UnaryStreamCall, yield_three),
        "stream_unary": (grpc.aio.StreamUnaryMultiCallable, grpc.aio.StreamUnaryCall, collect),
        "stream_stream": (grpc.aio.StreamStreamMultiCallable, grpc.aio.StreamStreamCall, echo_all),
    }
    for kind, (callable_class, call_class, handler) in kinds.items():
        method: Any = await world.serve(kind, handler)
        call = method(b"" if kind.startswith("unary") else feed())
        assert isinstance(method, callable_class)
        assert isinstance(call, call_class)
        assert isinstance(call, grpc.aio.Call)
        assert isinstance(call, grpc.aio.RpcContext)
        call.cancel()
    assert isinstance(world.dial(), grpc.aio.Channel)
    assert isinstance(world.make_server(), grpc.aio.Server)
