"""One request, one answer: how a call ends, and what both sides are told."""

import asyncio
import contextlib
from typing import Any

import grpc
import pytest

from tests.contracts.rpc_world import World, outcome

Code = grpc.StatusCode
Context = Any


async def echo(request: bytes, context: Context) -> bytes:
    return request


async def answer_nothing(request: bytes, context: Context) -> None:
    return None


async def answer_text(request: bytes, context: Context) -> str:
    return "grüße"


async def answer_number(request: bytes, context: Context) -> int:
    return 5


async def abort(request: bytes, context: Context) -> None:
    await context.abort(Code.NOT_FOUND, "gone")


async def abort_without_details(request: bytes, context: Context) -> None:
    await context.abort(Code.NOT_FOUND)


async def abort_with_details_set_before(request: bytes, context: Context) -> None:
    context.set_details("before")
    await context.abort(Code.NOT_FOUND)


async def abort_with_number(request: bytes, context: Context) -> None:
    await context.abort(5, "by number")


async def abort_with_number_of_no_code(request: bytes, context: Context) -> None:
    await context.abort(99, "odd")


async def abort_with_text(request: bytes, context: Context) -> None:
    await context.abort("odd", "text")


async def abort_with_odd_details(request: bytes, context: Context) -> None:
    await context.abort(Code.INTERNAL, "ü\n%x")


async def abort_as_cancelled(request: bytes, context: Context) -> None:
    await context.abort(Code.CANCELLED, "by the server")


async def suppress_abort(request: bytes, context: Context) -> bytes:
    with contextlib.suppress(grpc.aio.AbortError):
        await context.abort(Code.NOT_FOUND, "first")
    return b"ignored"


async def abort_twice(request: bytes, context: Context) -> None:
    try:
        await context.abort(Code.NOT_FOUND, "first")
    except grpc.aio.AbortError:
        await context.abort(Code.INTERNAL, "second")


async def abort_with_status(request: bytes, context: Context) -> None:
    class Status(grpc.Status):
        code = Code.DATA_LOSS
        details = "by status"
        trailing_metadata = ()

    await context.abort_with_status(Status())


async def set_code(request: bytes, context: Context) -> bytes:
    context.set_code(Code.NOT_FOUND)
    context.set_details("set")
    return b"dropped"


async def set_code_by_number(request: bytes, context: Context) -> bytes:
    context.set_code(5)
    return b"dropped"


async def set_details_alone(request: bytes, context: Context) -> bytes:
    context.set_details("set")
    return b"kept"


async def fail(request: bytes, context: Context) -> bytes:
    raise ValueError("boom")


async def fail_with_code(request: bytes, context: Context) -> bytes:
    context.set_code(Code.DATA_LOSS)
    context.set_details("dropped")
    raise ValueError("boom")


async def fail_with_rpc_error(request: bytes, context: Context) -> bytes:
    raise grpc.aio.UsageError("boom")


BOOM = "Unexpected <class 'ValueError'>: boom"


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (echo, ("OK", b"request")),
        (answer_nothing, ("OK", b"")),
        (answer_text, ("OK", "grüße".encode())),
        (answer_number, ("UNKNOWN", "Unexpected <class 'TypeError'>: Expected bytes, got int")),
        (abort, ("NOT_FOUND", "gone")),
        (abort_without_details, ("NOT_FOUND", "")),
        (abort_with_details_set_before, ("NOT_FOUND", "before")),
        (abort_with_number, ("NOT_FOUND", "by number")),
        (abort_with_number_of_no_code, ("UNKNOWN", "odd")),
        (abort_with_text, ("UNKNOWN", "text")),
        (abort_with_odd_details, ("INTERNAL", "ü\n%x")),
        (abort_as_cancelled, ("CANCELLED", "by the server")),
        (suppress_abort, ("NOT_FOUND", "first")),
        (abort_twice, ("NOT_FOUND", "first")),
        (abort_with_status, ("DATA_LOSS", "by status")),
        (set_code, ("NOT_FOUND", "set")),
        (set_code_by_number, ("NOT_FOUND", "")),
        (set_details_alone, ("OK", b"kept")),
        (fail, ("UNKNOWN", BOOM)),
        (fail_with_code, ("DATA_LOSS", BOOM)),
        (
            fail_with_rpc_error,
            ("UNKNOWN", "Unexpected <class 'grpc._cython.cygrpc.UsageError'>: boom"),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_how_a_call_ends(world: World, handler: Any, expected: tuple[str, Any]) -> None:
    method = await world.serve("unary_unary", handler)
    call = method(b"request")
    assert await outcome(call) == expected
    assert await outcome(call) == expected
    code = await call.code()
    assert code.name == expected[0]
    assert call.done()
    assert call.cancelled() is (code is Code.CANCELLED)
    assert not call.cancel()
    if code is not Code.OK:
        assert await call.details() == expected[1]
    assert await call.initial_metadata() == grpc.aio.Metadata()
    assert await call.trailing_metadata() == grpc.aio.Metadata()


async def raise_cancelled(request: bytes, context: Context) -> bytes:
    raise asyncio.CancelledError


async def abort_with_ok(request: bytes, context: Context) -> None:
    await context.abort(Code.OK, "fine")


async def set_trailing_text_for_bytes(request: bytes, context: Context) -> bytes:
    context.set_trailing_metadata((("key-bin", "text"),))
    return b"x"


@pytest.mark.parametrize("handler", [raise_cancelled, abort_with_ok, set_trailing_text_for_bytes])
async def test_a_handler_that_sends_no_status_leaves_the_client_to_its_deadline(
    world: World, handler: Any
) -> None:
    method = await world.serve("unary_unary", handler)
    code, details = await outcome(method(b"", timeout=0.15))
    assert code == "DEADLINE_EXCEEDED"
    assert "Deadline Exceeded" in details


@pytest.mark.parametrize("size", [0, 1, 1 << 10, 1 << 20, (4 << 20) - 16])
async def test_messages_of_any_size(world: World, size: int) -> None:
    method = await world.serve("unary_unary", echo)
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert await method(message) == message


async def test_a_sync_handler(world: World) -> None:
    def answer(request: bytes, context: Context) -> bytes:
        return request * 2

    method = await world.serve("unary_unary", answer)
    assert await method(b"x") == b"xx"


async def test_error_carries_all_that_is_known(world: World) -> None:
    async def handler(request: bytes, context: Context) -> None:
        await context.send_initial_metadata((("early", "1"),))
        await context.abort(Code.ABORTED, "why", (("late", "2"),))

    method = await world.serve("unary_unary", handler)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(b"")
    error = caught.value
    assert isinstance(error, grpc.RpcError)
    assert (error.code(), error.details()) == (Code.ABORTED, "why")
    assert error.initial_metadata() == grpc.aio.Metadata(("early", "1"))
    assert error.trailing_metadata() == grpc.aio.Metadata(("late", "2"))
    assert error.debug_error_string()


async def test_what_is_never_awaited_is_done_nevertheless(world: World) -> None:
    seen = asyncio.Event()

    async def handler(request: bytes, context: Context) -> bytes:
        seen.set()
        return b""

    method = await world.serve("unary_unary", handler)
    call = method(b"")
    await seen.wait()
    assert await call.code() is Code.OK


async def test_done_callbacks_get_the_call(world: World) -> None:
    method = await world.serve("unary_unary", echo)
    call = method(b"")
    called: list[Any] = []
    call.add_done_callback(called.append)
    await call
    await asyncio.sleep(0)
    assert called == [call]
    call.add_done_callback(called.append)
    assert called == [call, call]


@pytest.mark.parametrize("handler", [echo, abort])
async def test_waiting_for_the_connection_waits_for_the_end(world: World, handler: Any) -> None:
    method = await world.serve("unary_unary", handler)
    call = method(b"")
    try:
        await call.wait_for_connection()
    except grpc.aio.AioRpcError as error:
        assert error.code() is Code.NOT_FOUND
    assert call.done()


async def test_context_says_what_was_set(world: World) -> None:
    seen: list[Any] = []

    async def handler(request: bytes, context: Context) -> bytes:
        seen.extend((context.code(), context.details(), context.trailing_metadata(), context.done()))
        context.set_code(Code.ABORTED)
        context.set_details("why")
        context.set_trailing_metadata([("key", "value")])
        seen.extend((context.code(), context.details(), context.trailing_metadata(), context.cancelled()))
        context.set_code(Code.CANCELLED)
        seen.append(context.cancelled())
        return b""

    method = await world.serve("unary_unary", handler)
    assert await outcome(method(b"")) == ("CANCELLED", "why")
    assert seen == [None, "", (), False, Code.ABORTED, "why", (("key", "value"),), False, True]


async def test_context_names_an_insecure_loopback_peer(world: World) -> None:
    seen: list[Any] = []

    async def handler(request: bytes, context: Context) -> bytes:
        seen.append(context.peer())
        seen.extend((context.peer_identities(), context.peer_identity_key(), context.auth_context()))
        return b""

    method = await world.serve("unary_unary", handler)
    await method(b"")
    await method(b"")
    await world.stub("unary_unary")(b"")
    kind, host, port = seen[0].split(":")
    assert (kind, host) == ("ipv4", "127.0.0.1")
    assert 0 < int(port) < 1 << 16
    assert seen[1:4] == [
        None,
        None,
        {"transport_security_type": [b"insecure"], "security_level": [b"TSI_SECURITY_NONE"]},
    ]
    assert seen[4] == seen[0] != seen[8]


async def test_context_callbacks_run_after_the_handler(world: World) -> None:
    order: list[Any] = []
    called = asyncio.Event()

    def on_done(context: Context) -> None:
        order.append(("callback", context.done()))
        called.set()

    async def handler(request: bytes, context: Context) -> bytes:
        context.add_done_callback(on_done)
        order.append("handler")
        return b""

    method = await world.serve("unary_unary", handler)
    await method(b"")
    await called.wait()
    assert order == ["handler", ("callback", True)]
