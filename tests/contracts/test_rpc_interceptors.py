"""Interceptors of the server: their order, and all that one may do instead of passing a call on."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from tests.contracts.rpc_world import World, outcome, read_all

Code = grpc.StatusCode
Context = Any
Continuation = Callable[[Any], Awaitable[Any]]


async def echo(request: bytes, context: Context) -> bytes:
    return request


class Interceptor(grpc.aio.ServerInterceptor):
    """Does what it is told."""

    def __init__(self, intercept: Callable[[Continuation, Any], Awaitable[Any]]) -> None:
        self._intercept = intercept

    async def intercept_service(self, continuation: Continuation, handler_call_details: Any) -> Any:
        return await self._intercept(continuation, handler_call_details)


def make_recorder(name: str, seen: list[Any]) -> Interceptor:
    async def intercept(continuation: Continuation, details: Any) -> Any:
        seen.append(f"{name} before")
        handler = await continuation(details)
        seen.append(f"{name} after")
        return handler

    return Interceptor(intercept)


async def test_they_are_asked_in_order(world: World) -> None:
    seen: list[Any] = []

    async def handler(request: bytes, context: Context) -> bytes:
        seen.append("handler")
        return request

    interceptors = [make_recorder("first", seen), make_recorder("second", seen)]
    method = await world.serve("unary_unary", handler, interceptors=interceptors)
    assert await method(b"1") == b"1"
    assert seen == ["first before", "second before", "second after", "first after", "handler"]


async def test_they_see_method_and_metadata(world: World) -> None:
    seen: list[Any] = []

    async def intercept(continuation: Continuation, details: Any) -> Any:
        assert isinstance(details, grpc.HandlerCallDetails)
        seen.append((details.method, dict(details.invocation_metadata)["key"]))
        return await continuation(details)

    method = await world.serve("unary_unary", echo, interceptors=[Interceptor(intercept)])
    await method(b"", metadata=(("key", "value"),))
    assert seen == [("/test.Service/Method", "value")]


async def test_none_is_no_method(world: World) -> None:
    async def intercept(continuation: Continuation, details: Any) -> Any:
        return None

    method = await world.serve("unary_unary", echo, interceptors=[Interceptor(intercept)])
    assert await outcome(method(b"")) == ("UNIMPLEMENTED", "Method not found!")


async def test_they_are_asked_about_methods_that_are_not_there(world: World) -> None:
    seen: list[Any] = []
    await world.serve("unary_unary", echo, interceptors=[make_recorder("only", seen)])
    other: Any = world.dial().unary_unary("/test.Service/Other")
    assert await outcome(other(b"")) == ("UNIMPLEMENTED", "Method not found!")
    assert seen == ["only before", "only after"]


async def test_another_handler(world: World) -> None:
    async def answer(request: bytes, context: Context) -> bytes:
        return b"instead"

    async def intercept(continuation: Continuation, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(answer)

    method = await world.serve("unary_unary", echo, interceptors=[Interceptor(intercept)])
    assert await method(b"") == b"instead"


async def test_a_handler_that_aborts(world: World) -> None:
    async def refuse(request: bytes, context: Context) -> None:
        await context.abort(Code.UNAUTHENTICATED, "who are you?", (("key", "1"),))

    async def intercept(continuation: Continuation, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(refuse)

    method = await world.serve("unary_unary", echo, interceptors=[Interceptor(intercept)])
    call = method(b"")
    assert await outcome(call) == ("UNAUTHENTICATED", "who are you?")
    assert await call.trailing_metadata() == grpc.aio.Metadata(("key", "1"))


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_a_handler_of_another_kind(world: World, kind: str) -> None:
    """What takes a request as a stream serves a unary call as well: it is the same on the wire."""

    async def answer(requests: Any, context: Context) -> bytes:
        return b"+".join([request async for request in requests])

    async def stream(requests: Any, context: Context) -> Any:
        async for request in requests:
            yield request

    async def intercept(continuation: Continuation, details: Any) -> Any:
        if kind == "unary_stream":
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.stream_unary_rpc_method_handler(answer)

    method = await world.serve(kind, echo, interceptors=[Interceptor(intercept)])
    call = method(b"1")
    assert (await read_all(call) if kind == "unary_stream" else await outcome(call)) in (
        ([b"1"], "OK"),
        ("OK", b"1"),
    )


async def test_one_that_fails(world: World) -> None:
    async def intercept(continuation: Continuation, details: Any) -> Any:
        raise ValueError("boom")

    method = await world.serve("unary_unary", echo, interceptors=[Interceptor(intercept)])
    assert await outcome(method(b"", timeout=1)) == ("UNKNOWN", "Unexpected <class 'ValueError'>: boom")


async def test_one_that_passes_on_details_of_its_own(world: World) -> None:
    class Details(grpc.HandlerCallDetails):
        method = "/test.Service/Method"
        invocation_metadata = ()

    async def intercept(continuation: Continuation, details: Any) -> Any:
        return await continuation(Details())

    await world.serve("unary_unary", echo, interceptors=[Interceptor(intercept)])
    other: Any = world.dial().unary_unary("/test.Service/Other")
    assert (await outcome(other(b"1")))[0] == "UNKNOWN"


async def test_what_is_no_interceptor_is_refused(world: World) -> None:
    no_interceptor: Any = object()
    with pytest.raises(ValueError, match="nterceptor"):
        world.make_server([no_interceptor])
