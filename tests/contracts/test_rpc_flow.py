"""Bounds: of what is in flight, of messages, of metadata, and of calls at once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.contracts.rpc_world import World, catch, iterate_all, outcome, read_all, settle

Code = grpc.StatusCode
Context = Any
MEGABYTE = bytes(1 << 20)
MANY = 64
"""Megabytes that no implementation takes in without a reader."""
SMALL = (("grpc.max_receive_message_length", 1000),)
SMALL_SENDS = (("grpc.max_send_message_length", 1000),)


async def echo(request: bytes, context: Context) -> bytes:
    return request


async def collect(requests: AsyncIterator[bytes], context: Context) -> bytes:
    return b"%d" % sum([len(request) async for request in requests])


async def echo_all(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def wait_until_stalled(count: list[int]) -> int:
    """How many messages were written when no more are."""
    before = -1
    while count[0] != before:
        before = count[0]
        await asyncio.sleep(0.1)
    return before


async def test_a_client_waits_for_a_server_that_does_not_read(world: World) -> None:
    released = asyncio.Event()

    async def handler(requests: AsyncIterator[bytes], context: Context) -> bytes:
        await released.wait()
        return await collect(requests, context)

    method = await world.serve("stream_unary", handler)
    call, written = method(), [0]

    async def write() -> None:
        for _ in range(MANY):
            await call.write(MEGABYTE)
            written[0] += 1
        await call.done_writing()

    writing = asyncio.create_task(write())
    assert await wait_until_stalled(written) < MANY
    released.set()
    assert await call == b"%d" % (MANY << 20)
    await writing


async def test_a_server_waits_for_a_client_that_does_not_read(world: World) -> None:
    written = [0]

    async def handler(request: bytes, context: Context) -> AsyncIterator[bytes]:
        for _ in range(MANY):
            yield MEGABYTE
            written[0] += 1

    method = await world.serve("unary_stream", handler)
    call = method(b"")
    assert await call.read() == MEGABYTE
    assert await wait_until_stalled(written) < MANY
    messages, code = await read_all(call)
    assert (len(messages), code) == (MANY - 1, "OK")


async def test_a_slow_stream_does_not_hold_up_another_call(world: World) -> None:
    async def handler(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async for request in requests:
            for _ in range(MANY if request == b"many" else 1):
                yield bytes(1 << 16)

    method = await world.serve("stream_stream", handler)
    slow, quick = method(), method()
    await slow.write(b"many")
    assert len(await slow.read()) == 1 << 16
    await quick.write(b"one")
    assert len(await quick.read()) == 1 << 16


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_writer_that_waits_learns_of_the_end(world: World, side: str) -> None:
    ended = asyncio.Event()

    async def never_read(requests: AsyncIterator[bytes], context: Context) -> bytes:
        await ended.wait()
        return b""

    async def write_much(request: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            for _ in range(MANY):
                yield MEGABYTE
        finally:
            ended.set()

    if side == "server":
        method = await world.serve("unary_stream", write_much)
        call = method(b"")
        await call.read()
        call.cancel()
        await ended.wait()
        return
    method = await world.serve("stream_unary", never_read)
    call = method()

    async def write() -> None:
        for _ in range(MANY):
            await call.write(MEGABYTE)

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.1)
    call.cancel()
    assert await catch(writing) in (asyncio.InvalidStateError, asyncio.CancelledError)
    ended.set()


@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary", "stream_stream"])
async def test_a_request_that_is_too_long_to_receive(world: World, kind: str) -> None:
    handler = {"unary_unary": echo, "stream_unary": collect, "stream_stream": echo_all}[kind]
    method = await world.serve(kind, handler, options=SMALL)
    if kind == "unary_unary":
        assert await outcome(method(bytes(1000))) == ("OK", bytes(1000))
        assert (await outcome(method(bytes(1001))))[0] == "RESOURCE_EXHAUSTED"
    elif kind == "stream_unary":
        assert (await outcome(method(iter([b"1", bytes(1001)]))))[0] == "RESOURCE_EXHAUSTED"
    else:
        messages, code = await iterate_all(method(iter([b"1", bytes(1001)])))
        assert code == "RESOURCE_EXHAUSTED"
        assert messages in ([], [b"1"])


@pytest.mark.parametrize("kind", ["unary_unary", "stream_stream"])
async def test_a_response_that_is_too_long_to_receive(world: World, kind: str) -> None:
    await world.serve(kind, {"unary_unary": echo, "stream_stream": echo_all}[kind])
    method = world.stub(kind, options=SMALL)
    if kind == "unary_unary":
        assert await outcome(method(bytes(1000))) == ("OK", bytes(1000))
        assert (await outcome(method(bytes(1001))))[0] == "RESOURCE_EXHAUSTED"
    else:
        assert (await read_all(method(iter([bytes(1001)]))))[1] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("kind", ["unary_unary", "stream_stream"])
async def test_a_request_that_is_too_long_to_send(world: World, kind: str) -> None:
    await world.serve(kind, {"unary_unary": echo, "stream_stream": echo_all}[kind])
    method = world.stub(kind, options=SMALL_SENDS)
    if kind == "unary_unary":
        assert await outcome(method(bytes(1000))) == ("OK", bytes(1000))
        assert (await outcome(method(bytes(1001))))[0] == "RESOURCE_EXHAUSTED"
    else:
        assert (await read_all(method(iter([bytes(1001)]))))[1] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("kind", ["unary_unary", "stream_stream"])
async def test_a_response_that_is_too_long_to_send(world: World, kind: str) -> None:
    handler = {"unary_unary": echo, "stream_stream": echo_all}[kind]
    method = await world.serve(kind, handler, options=SMALL_SENDS)
    if kind == "unary_unary":
        assert await outcome(method(bytes(1000))) == ("OK", bytes(1000))
        assert (await outcome(method(bytes(1001))))[0] == "RESOURCE_EXHAUSTED"
    else:
        assert (await read_all(method(iter([bytes(1001)]))))[1] == "RESOURCE_EXHAUSTED"


async def test_the_default_bound_is_four_megabytes(world: World) -> None:
    method = await world.serve("unary_unary", echo)
    assert (await outcome(method(bytes((4 << 20) + 1))))[0] == "RESOURCE_EXHAUSTED"
    assert (await outcome(method(bytes(4 << 20))))[0] == "OK"


async def test_metadata_that_are_too_long(world: World) -> None:
    method = await world.serve(
        "unary_unary",
        echo,
        options=(("grpc.max_metadata_size", 16 << 10), ("grpc.absolute_max_metadata_size", 16 << 10)),
    )
    assert (await outcome(method(b"", metadata=(("key", "x" * 10_000),))))[0] == "OK"
    assert (await outcome(method(b"", metadata=(("key", "x" * 20_000),))))[0] == "RESOURCE_EXHAUSTED"


async def test_too_many_calls_at_once(world: World) -> None:
    released, running = asyncio.Event(), [0]

    async def handler(request: bytes, context: Context) -> bytes:
        running[0] += 1
        await released.wait()
        return b""

    method = await world.serve("unary_unary", handler, maximum=2)
    calls = [method(b"") for _ in range(2)]
    await settle(lambda: running[0] == 2)
    assert await outcome(method(b"")) == ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!")
    released.set()
    assert [await outcome(call) for call in calls] == [("OK", b"")] * 2
    await settle(lambda: True)
    assert (await outcome(method(b"")))[0] == "OK"


async def test_more_calls_than_a_connection_carries_wait(world: World) -> None:
    released, running = asyncio.Event(), [0]

    async def handler(request: bytes, context: Context) -> bytes:
        running[0] += 1
        await released.wait()
        return request

    method = await world.serve("unary_unary", handler, options=(("grpc.max_concurrent_streams", 3),))
    channel = world.dial()
    await channel.channel_ready()
    method = world.stub("unary_unary", channel)
    calls = [method(b"%d" % number) for number in range(5)]
    late = method(b"", timeout=0.1)
    assert (await outcome(late))[0] in {"DEADLINE_EXCEEDED", "UNAVAILABLE"}
    assert running[0] <= 3
    released.set()
    ends = [(await outcome(call))[0] for call in calls]
    assert ends.count("OK") >= 3
    assert set(ends) <= {
        "OK",
        "UNAVAILABLE",
    }  # the real server refuses those that come before its limit is known


async def test_many_calls_over_one_channel(world: World) -> None:
    method = await world.serve("unary_unary", echo)
    calls = [method(b"%d" % number) for number in range(200)]
    assert [await call for call in calls] == [b"%d" % number for number in range(200)]


async def test_many_streams_over_one_channel(world: World) -> None:
    method = await world.serve("stream_stream", echo_all)
    calls = [method() for _ in range(50)]
    for turn in range(5):
        for number, call in enumerate(calls):
            await call.write(b"%d %d" % (turn, number))
        for number, call in enumerate(calls):
            assert await call.read() == b"%d %d" % (turn, number)
    for call in calls:
        await call.done_writing()
    assert [await call.code() for call in calls] == [Code.OK] * 50
