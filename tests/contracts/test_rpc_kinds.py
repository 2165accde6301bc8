"""A client that takes a method for one of another kind: all kinds look the same on the wire."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.contracts.rpc_world import World, outcome, read_all

Code = grpc.StatusCode
Context = Any


async def echo(request: bytes, context: Context) -> bytes:
    return request


async def abort(request: bytes, context: Context) -> None:
    await context.abort(Code.NOT_FOUND, "gone")


def make_stream(count: int) -> Any:
    async def handler(request: bytes, context: Context) -> AsyncIterator[bytes]:
        for number in range(count):
            yield b"%d" % number

    return handler


async def abort_after_one(request: bytes, context: Context) -> AsyncIterator[bytes]:
    yield b"0"
    await context.abort(Code.NOT_FOUND, "gone")


async def set_code(request: bytes, context: Context) -> bytes:
    context.set_code(Code.DATA_LOSS)
    return b"dropped"


@pytest.mark.parametrize(
    ("handler", "expected"),
    [(echo, ([b"1"], "OK")), (abort, ([], "NOT_FOUND")), (set_code, ([b""], "DATA_LOSS"))],
    ids=["echo", "abort", "set code"],
)
async def test_one_answer_taken_for_a_stream(world: World, handler: Any, expected: Any) -> None:
    await world.serve("unary_unary", handler)
    assert await read_all(world.stub("unary_stream")(b"1")) == expected
    assert await read_all(world.stub("stream_stream")(iter([b"1"]))) == expected


@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (make_stream(0), ("OK", None)),
        (make_stream(1), ("OK", b"0")),
        (make_stream(2), ("DEADLINE_EXCEEDED", None)),  # the second message is never read
        (abort_after_one, ("NOT_FOUND", "gone")),
    ],
    ids=["none", "one", "two", "abort"],
)
async def test_a_stream_taken_for_one_answer(
    world: World, kind: str, handler: Any, expected: tuple[str, Any]
) -> None:
    await world.serve("unary_stream", handler)
    request = b"1" if kind == "unary_unary" else iter([b"1"])
    code, answer = await outcome(world.stub(kind)(request, timeout=0.2))
    assert code == expected[0]
    if code != "DEADLINE_EXCEEDED":
        assert answer == expected[1]


@pytest.mark.parametrize(
    ("requests", "code"), [([b"1"], "OK"), ([b"1", b"2"], "OK"), ([], "DEADLINE_EXCEEDED")]
)
async def test_a_stream_of_requests_to_a_method_of_one(
    world: World, requests: list[bytes], code: str
) -> None:
    """The server takes the first message, and says nothing if there is none."""
    await world.serve("unary_unary", echo)
    end, answer = await outcome(world.stub("stream_unary")(iter(requests), timeout=0.2))
    assert end == code
    assert end != "OK" or answer == b"1"
