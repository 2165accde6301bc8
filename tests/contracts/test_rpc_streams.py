"""The kinds with streams, in both styles of handler and client: what arrives, and how it ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from tests.contracts.rpc_world import EOF, World, catch, iterate_all, outcome, read_all

Code = grpc.StatusCode
Context = Any
Read = Callable[[Any], Awaitable[tuple[list[Any], str]]]
READERS = pytest.mark.parametrize("read", [read_all, iterate_all])


async def yield_nothing(request: bytes, context: Context) -> AsyncIterator[bytes]:
    return
    yield


async def yield_three(request: bytes, context: Context) -> AsyncIterator[bytes]:
    for number in range(3):
        yield b"%d" % number


async def yield_many(request: bytes, context: Context) -> AsyncIterator[bytes]:
    for number in range(500):
        yield b"%d" % number


async def yield_empty(request: bytes, context: Context) -> AsyncIterator[bytes]:
    yield b""
    yield b""


async def yield_text(request: bytes, context: Context) -> AsyncIterator[str]:
    yield "ü"


async def yield_none(request: bytes, context: Context) -> AsyncIterator[None]:
    yield None


async def write_three(request: bytes, context: Context) -> None:
    for number in range(3):
        await context.write(b"%d" % number)


async def write_nothing(request: bytes, context: Context) -> None:
    return


async def abort_first(request: bytes, context: Context) -> AsyncIterator[bytes]:
    await context.abort(Code.NOT_FOUND, "gone")
    yield b""


async def abort_later(request: bytes, context: Context) -> AsyncIterator[bytes]:
    yield b"0"
    yield b"1"
    await context.abort(Code.NOT_FOUND, "gone")


async def write_and_abort(request: bytes, context: Context) -> None:
    await context.write(b"0")
    await context.abort(Code.NOT_FOUND, "gone")


async def suppress_abort_and_yield(request: bytes, context: Context) -> AsyncIterator[bytes]:
    yield b"0"
    with contextlib.suppress(grpc.aio.AbortError):
        await context.abort(Code.NOT_FOUND, "gone")
    yield b"1"


async def fail_first(request: bytes, context: Context) -> AsyncIterator[bytes]:
    raise ValueError("boom")
    yield b""


async def fail_later(request: bytes, context: Context) -> AsyncIterator[bytes]:
    yield b"0"
    raise ValueError("boom")


async def yield_and_set_code(request: bytes, context: Context) -> AsyncIterator[bytes]:
    context.set_code(Code.DATA_LOSS)
    context.set_details("set")
    yield b"0"


async def write_and_fail(request: bytes, context: Context) -> None:
    await context.write(b"0")
    raise ValueError("boom")


async def yield_number(request: bytes, context: Context) -> AsyncIterator[int]:
    yield 5


NUMBERS = [b"0", b"1", b"2"]
STREAMS = [
    (yield_nothing, [], "OK"),
    (yield_three, NUMBERS, "OK"),
    (yield_many, [b"%d" % number for number in range(500)], "OK"),
    (yield_empty, [b"", b""], "OK"),
    (yield_text, ["ü".encode()], "OK"),
    (yield_none, [b""], "OK"),
    (write_three, NUMBERS, "OK"),
    (write_nothing, [], "OK"),
    (abort_first, [], "NOT_FOUND"),
    (abort_later, [b"0", b"1"], "NOT_FOUND"),
    (write_and_abort, [b"0"], "NOT_FOUND"),
    (suppress_abort_and_yield, [b"0"], "NOT_FOUND"),
    (fail_first, [], "UNKNOWN"),
    (fail_later, [b"0"], "UNKNOWN"),
    (yield_and_set_code, [b"0"], "DATA_LOSS"),
    (write_and_fail, [b"0"], "UNKNOWN"),
    (yield_number, [], "UNKNOWN"),
]


@READERS
@pytest.mark.parametrize(
    ("handler", "messages", "code"), STREAMS, ids=lambda value: getattr(value, "__name__", "")
)
async def test_a_stream_of_answers(
    world: World, read: Read, handler: Any, messages: list[bytes], code: str
) -> None:
    method = await world.serve("unary_stream", handler)
    call = method(b"")
    assert await read(call) == (messages, code)
    assert call.done()
    assert (await call.code()).name == code


@READERS
@pytest.mark.parametrize("size", [1 << 20, (4 << 20) - 16])
async def test_large_messages_in_a_stream(world: World, read: Read, size: int) -> None:
    async def handler(request: bytes, context: Context) -> AsyncIterator[bytes]:
        for number in range(3):
            yield bytes([number]) * size

    method = await world.serve("unary_stream", handler)
    assert await read(method(b"")) == ([bytes([number]) * size for number in range(3)], "OK")


async def collect(requests: AsyncIterator[bytes], context: Context) -> bytes:
    return b",".join([request async for request in requests])


async def collect_by_hand(requests: AsyncIterator[bytes], context: Context) -> bytes:
    received = []
    while (request := await context.read()) is not EOF:
        received.append(request)
    return b",".join(received)


async def take_one(requests: AsyncIterator[bytes], context: Context) -> bytes:
    async for request in requests:
        return request
    return b"none"


async def take_by_next(requests: Any, context: Context) -> bytes:
    first = await requests.__anext__()
    second = await context.read()
    return bytes(first + b"+" + second)


async def answer_at_once(requests: AsyncIterator[bytes], context: Context) -> bytes:
    return b"early"


async def abort_after_one(requests: AsyncIterator[bytes], context: Context) -> None:
    async for _ in requests:
        await context.abort(Code.NOT_FOUND, "gone")


async def feed(*requests: bytes) -> AsyncIterator[bytes]:
    for request in requests:
        yield request


@pytest.mark.parametrize("is_sync", [False, True])
@pytest.mark.parametrize(
    ("handler", "requests", "expected"),
    [
        (collect, NUMBERS, ("OK", b"0,1,2")),
        (collect, [], ("OK", b"")),
        (collect, [b"x"] * 500, ("OK", b",".join([b"x"] * 500))),
        (collect_by_hand, NUMBERS, ("OK", b"0,1,2")),
        (collect_by_hand, [b"", b""], ("OK", b",")),
        (take_one, NUMBERS, ("OK", b"0")),
        (take_one, [], ("OK", b"none")),
        (take_by_next, NUMBERS, ("OK", b"0+1")),
        (answer_at_once, [], ("OK", b"early")),
        (abort_after_one, NUMBERS, ("NOT_FOUND", "gone")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_stream_of_requests(
    world: World, handler: Any, requests: list[bytes], expected: tuple[str, Any], is_sync: bool
) -> None:
    method = await world.serve("stream_unary", handler)
    assert await outcome(method(iter(requests) if is_sync else feed(*requests))) == expected


async def test_a_stream_of_requests_written_by_hand(world: World) -> None:
    method = await world.serve("stream_unary", collect)
    call = method()
    await call.wait_for_connection()
    await call.write(b"1")
    await call.write(b"2")
    await call.done_writing()
    await call.done_writing()
    assert await call == b"1,2"


async def test_an_iterator_that_fails_cancels_the_call(world: World) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"1"
        raise ValueError("of the caller")

    method = await world.serve("stream_unary", collect)
    call = method(broken())
    assert await outcome(call) == ("cancelled", None)
    assert await call.code() is Code.CANCELLED


async def echo(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def echo_by_hand(requests: AsyncIterator[bytes], context: Context) -> None:
    while (request := await context.read()) is not EOF:
        await context.write(request)


async def echo_then_abort(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request
    await context.abort(Code.ABORTED, "after all")


async def answer_first(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    yield b"first"
    async for request in requests:
        yield request


async def never_read(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    yield b"only"


BOTH = [
    (echo, NUMBERS, "OK"),
    (echo_by_hand, NUMBERS, "OK"),
    (echo_then_abort, NUMBERS, "ABORTED"),
    (answer_first, [b"first", *NUMBERS], "OK"),
]


@READERS
@pytest.mark.parametrize(
    ("handler", "messages", "code"), BOTH, ids=lambda value: getattr(value, "__name__", "")
)
async def test_streams_both_ways(
    world: World, read: Read, handler: Any, messages: list[bytes], code: str
) -> None:
    method = await world.serve("stream_stream", handler)
    assert await read(method(feed(*NUMBERS))) == (messages, code)


async def test_a_handler_that_reads_nothing(world: World) -> None:
    method = await world.serve("stream_stream", never_read)
    messages, code = await iterate_all(method(feed(*NUMBERS)))
    assert messages == [b"only"]
    assert code in {"OK", "INTERNAL"}  # INTERNAL if a request was just being written


@pytest.mark.parametrize("handler", [echo, echo_by_hand])
async def test_turn_by_turn(world: World, handler: Any) -> None:
    method = await world.serve("stream_stream", handler)
    call = method()
    for number in range(50):
        await call.write(b"%d" % number)
        assert await call.read() == b"%d" % number
    await call.done_writing()
    assert await call.read() is EOF
    assert await call.read() is EOF
    assert await call.code() is Code.OK


async def test_a_handler_reads_the_end_again_and_again(world: World) -> None:
    async def handler(requests: AsyncIterator[bytes], context: Context) -> None:
        for _ in range(4):
            await context.write(b"end" if await context.read() is EOF else b"request")

    method = await world.serve("stream_stream", handler)
    assert await read_all(method(feed(b"1"))) == ([b"request", b"end", b"end", b"end"], "OK")


async def test_the_status_waits_until_all_is_read(world: World) -> None:
    method = await world.serve("unary_stream", abort_later)
    call = method(b"")
    await call.wait_for_connection()
    assert await call.read() == b"0"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await call.code()
    assert not call.done()
    assert await call.read() == b"1"
    assert await call.code() is Code.NOT_FOUND


async def test_an_error_after_requests_ends_a_writer(world: World) -> None:
    method = await world.serve("stream_stream", abort_after_one_of_both)
    call = method()
    await call.write(b"1")
    assert await call.code() is Code.NOT_FOUND
    assert await catch(call.write(b"2")) is asyncio.InvalidStateError
    assert await read_all(call) == ([], "NOT_FOUND")
    assert await catch(call.done_writing()) is None


async def abort_after_one_of_both(requests: AsyncIterator[bytes], context: Context) -> None:
    await context.read()
    await context.abort(Code.NOT_FOUND, "gone")


async def test_answering_twice_in_a_stream_that_has_ended(world: World) -> None:
    kept: list[Any] = []
    ended = asyncio.Event()

    async def handler(request: bytes, context: Context) -> None:
        kept.append(context)
        context.add_done_callback(lambda _: ended.set())
        await context.write(b"1")

    method = await world.serve("unary_stream", handler)
    assert await read_all(method(b"")) == ([b"1"], "OK")
    await ended.wait()
    assert kept[0].done()
    assert await catch(kept[0].write(b"2")) is grpc.aio.UsageError
    assert await catch(kept[0].read()) is grpc.aio.UsageError
    assert await catch(kept[0].send_initial_metadata(())) is grpc.aio.UsageError
