"""Metadata: what is refused, what is dropped, what arrives, and when."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.contracts.rpc_world import World, catch, outcome, read_all

Context = Any


async def serve_what_is_invoked(world: World) -> tuple[Any, list[Any]]:
    seen: list[Any] = []

    async def handler(request: bytes, context: Context) -> bytes:
        seen.extend(context.invocation_metadata())
        return b""

    return await world.serve("unary_unary", handler), seen


@pytest.mark.parametrize(
    ("sent", "arriving"),
    [
        ((), []),
        ((("key", "value"),), [("key", "value")]),
        ([("key", "value")], [("key", "value")]),
        (grpc.aio.Metadata(("key", "value")), [("key", "value")]),
        ((("a", "1"), ("b", "2"), ("a", "3")), [("a", "1"), ("a", "3"), ("b", "2")]),
        ((("key-bin", b"\x00\xff"),), [("key-bin", b"\x00\xff")]),
        ((("key", b"bytes"),), [("key", "bytes")]),
        ((("key", ""),), [("key", "")]),
        ((("key", None),), [("key", "")]),
        ((("key", " spaced "),), [("key", " spaced ")]),
        ((("a.b_c-0", "x"),), [("a.b_c-0", "x")]),
        ((("grpc-own", "x"),), [("grpc-own", "x")]),
        ((("host", "x"),), [("host", "x")]),
        ((("user-agent", "x"),), []),
        ((("te", "x"),), []),
        ((("content-type", "x"),), []),
    ],
)
async def test_what_arrives(world: World, sent: Any, arriving: list[Any]) -> None:
    method, seen = await serve_what_is_invoked(world)
    await method(b"", metadata=sent)
    assert [tuple(item) for item in seen if item[0] != "user-agent"] == arriving
    (agent,) = (value for key, value in seen if key == "user-agent")
    assert agent.startswith("grpc-python-asyncio/")
    assert (seen[0].key, seen[0].value) == ("user-agent", agent)


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ((("Key", "x"),), grpc.aio.InternalError),
        ((("a b", "x"),), grpc.aio.InternalError),
        ((("", "x"),), grpc.aio.InternalError),
        ((("é", "x"),), grpc.aio.InternalError),
        (((":path", "x"),), grpc.aio.InternalError),
        ((("key", "ü"),), grpc.aio.InternalError),
        ((("key", b"\xff"),), grpc.aio.InternalError),
        ((("key", "two\nlines"),), grpc.aio.InternalError),
        ((("key-bin", "text"),), TypeError),
        ((("key", 1),), TypeError),
    ],
)
async def test_what_is_refused_when_the_call_is_awaited(
    world: World, sent: Any, error: type[Exception]
) -> None:
    method, seen = await serve_what_is_invoked(world)
    call = method(b"", metadata=sent)
    with pytest.raises(error):
        await call
    assert not call.done()
    assert seen == []


@pytest.mark.parametrize(("sent", "error"), [(5, TypeError), ({"a": "b"}, ValueError)])
async def test_what_is_refused_at_once(world: World, sent: Any, error: type[Exception]) -> None:
    method, _ = await serve_what_is_invoked(world)
    if isinstance(sent, dict):  # its keys are taken for pairs, when the call goes out
        assert await catch(method(b"", metadata=sent)) is error
    else:
        with pytest.raises(error):
            method(b"", metadata=sent)


async def test_initial_and_trailing_metadata_of_a_unary_call(world: World) -> None:
    async def handler(request: bytes, context: Context) -> bytes:
        await context.send_initial_metadata([("early", "1"), ("early-bin", b"\xff")])
        context.set_trailing_metadata([("late", "2"), ("late-bin", b"\xfe")])
        return b""

    method = await world.serve("unary_unary", handler)
    call = method(b"")
    assert await call.initial_metadata() == grpc.aio.Metadata(("early", "1"), ("early-bin", b"\xff"))
    assert await call.trailing_metadata() == grpc.aio.Metadata(("late", "2"), ("late-bin", b"\xfe"))
    assert await call == b""


async def test_initial_metadata_before_the_first_message(world: World) -> None:
    released = asyncio.Event()

    async def handler(request: bytes, context: Context) -> AsyncIterator[bytes]:
        await context.send_initial_metadata((("early", "1"),))
        await released.wait()
        yield b"1"

    method = await world.serve("unary_stream", handler)
    call = method(b"")
    assert await call.initial_metadata() == grpc.aio.Metadata(("early", "1"))
    assert not call.done()
    released.set()
    assert await read_all(call) == ([b"1"], "OK")


async def test_initial_metadata_come_with_the_first_message(world: World) -> None:
    released = asyncio.Event()

    async def handler(request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"1"
        await released.wait()

    method = await world.serve("unary_stream", handler)
    call = method(b"")
    assert await call.initial_metadata() == grpc.aio.Metadata()
    assert not call.done()
    released.set()
    assert await read_all(call) == ([b"1"], "OK")


@pytest.mark.parametrize("is_after_message", [False, True])
async def test_initial_metadata_are_sent_once(world: World, is_after_message: bool) -> None:
    errors: list[Any] = []

    async def handler(request: bytes, context: Context) -> None:
        if is_after_message:
            await context.write(b"1")
        else:
            await context.send_initial_metadata((("key", "1"),))
        errors.append(await catch(context.send_initial_metadata((("key", "2"),))))

    method = await world.serve("unary_stream", handler)
    call = method(b"")
    assert await read_all(call) == ([b"1"] if is_after_message else [], "OK")
    assert errors == [grpc.aio.UsageError]
    expected = grpc.aio.Metadata() if is_after_message else grpc.aio.Metadata(("key", "1"))
    assert await call.initial_metadata() == expected


async def test_initial_metadata_that_are_invalid(world: World) -> None:
    errors: list[Any] = []

    async def handler(request: bytes, context: Context) -> bytes:
        try:
            await context.send_initial_metadata((("Key", "x"),))
        except grpc.aio.InternalError as error:
            errors.append(isinstance(error, grpc.aio.BaseError))
            raise
        return b""

    method = await world.serve("unary_unary", handler)
    assert await outcome(method(b"")) == ("INTERNAL", "Invalid metadata")
    assert errors == [True]


async def test_trailing_metadata_that_are_invalid(world: World) -> None:
    async def handler(request: bytes, context: Context) -> bytes:
        context.set_trailing_metadata((("Key", "x"),))
        return b""

    method = await world.serve("unary_unary", handler)
    assert await outcome(method(b"")) == ("INTERNAL", "Invalid metadata")


@pytest.mark.parametrize(
    "value", [{"key": "value"}, 5, ("key",), (("key", 5),), ((5, "value"),), [["key", "value"]]]
)
async def test_trailing_metadata_that_are_none(world: World, value: Any) -> None:
    errors: list[Any] = []

    async def handler(request: bytes, context: Context) -> bytes:
        try:
            context.set_trailing_metadata(value)
        except TypeError:
            errors.append(TypeError)
        return b""

    method = await world.serve("unary_unary", handler)
    assert await method(b"") == b""
    assert errors == [TypeError]


@pytest.mark.parametrize("is_given", [False, True])
async def test_trailing_metadata_of_an_abort(world: World, is_given: bool) -> None:
    async def handler(request: bytes, context: Context) -> None:
        context.set_trailing_metadata((("set", "1"),))
        more = ((("given", "2"),),) if is_given else ()
        await context.abort(grpc.StatusCode.ABORTED, "why", *more)

    method = await world.serve("unary_unary", handler)
    call = method(b"")
    expected = grpc.aio.Metadata(("given", "2") if is_given else ("set", "1"))
    assert await call.trailing_metadata() == expected


async def test_trailing_metadata_of_a_handler_that_fails(world: World) -> None:
    async def handler(request: bytes, context: Context) -> AsyncIterator[bytes]:
        context.set_trailing_metadata((("set", "1"),))
        yield b"1"
        raise ValueError("boom")

    method = await world.serve("unary_stream", handler)
    call = method(b"")
    assert await read_all(call) == ([b"1"], "UNKNOWN")
    assert await call.trailing_metadata() == grpc.aio.Metadata(("set", "1"))
