"""Channels: their states, how they connect, and what becomes of calls when a connection or a channel ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.contracts.rpc_world import EOF, World, catch, iterate_all, outcome, read_all, settle

Code = grpc.StatusCode
State = grpc.ChannelConnectivity
Context = Any


async def echo(request: bytes, context: Context) -> bytes:
    return request


class Waiting:
    """A handler that waits until it is released."""

    def __init__(self) -> None:
        self.started, self.released, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.end: Any = None

    async def answer(self, request: Any, context: Context) -> bytes:
        await self._wait()
        return b"released"

    async def stream(self, request: Any, context: Context) -> AsyncIterator[bytes]:
        yield b"1"
        await self._wait()
        yield b"released"

    async def _wait(self) -> None:
        self.started.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.end = asyncio.CancelledError
            raise
        finally:
            self.ended.set()


async def test_states_of_a_channel_that_connects(world: World) -> None:
    method = await world.serve("unary_unary", echo)
    channel = world.dial()
    assert channel.get_state() is State.IDLE
    assert channel.get_state(try_to_connect=True) is State.IDLE
    await channel.wait_for_state_change(State.IDLE)
    await channel.channel_ready()
    assert channel.get_state() is State.READY
    await channel.channel_ready()
    await channel.close()
    assert channel.get_state() is State.SHUTDOWN
    assert channel.get_state(try_to_connect=True) is State.SHUTDOWN
    assert await method(b"1") == b"1"


async def test_a_call_connects(world: World) -> None:
    await world.serve("unary_unary", echo)
    channel = world.dial()
    assert await world.stub("unary_unary", channel)(b"1") == b"1"
    assert channel.get_state() is State.READY


async def test_waiting_for_another_state_returns_at_once(world: World) -> None:
    await world.serve("unary_unary", echo)
    channel = world.dial()
    await channel.wait_for_state_change(State.READY)
    assert channel.get_state() is State.IDLE


async def test_closing_ends_who_waits_for_a_state(world: World) -> None:
    await world.serve("unary_unary", echo)
    channel = world.dial()
    waiting = asyncio.create_task(channel.wait_for_state_change(State.IDLE))
    await asyncio.sleep(0.01)
    await channel.close()
    assert await catch(waiting) in (None, grpc.aio.UsageError)


@pytest.mark.parametrize("waits", ["wait_for_state_change", "channel_ready"])
async def test_nobody_waits_for_a_closed_channel(world: World, waits: str) -> None:
    await world.serve("unary_unary", echo)
    channel = world.dial()
    await channel.close()
    await channel.close()
    arguments = (State.SHUTDOWN,) if waits == "wait_for_state_change" else ()
    assert await catch(getattr(channel, waits)(*arguments)) is grpc.aio.UsageError


async def refuse(world: World) -> grpc.aio.Channel:
    """A channel to a port where nobody listens any more."""
    server = world.make_server()
    await server.start()
    await server.stop(None)
    return world.dial()


@pytest.mark.parametrize("wait_for_ready", [None, False])
async def test_nobody_listens(world: World, wait_for_ready: bool | None) -> None:
    channel = await refuse(world)
    method = world.stub("unary_unary", channel)
    call = method(b"", wait_for_ready=wait_for_ready)
    assert (await outcome(call))[0] == "UNAVAILABLE"
    assert channel.get_state() is State.TRANSIENT_FAILURE
    assert (await outcome(method(b"")))[0] == "UNAVAILABLE"


@pytest.mark.parametrize("kind", ["unary_stream", "stream_unary", "stream_stream"])
async def test_nobody_listens_to_a_stream(world: World, kind: str) -> None:
    method = world.stub(kind, await refuse(world))
    call = method(b"") if kind == "unary_stream" else method()
    if kind == "stream_unary":
        assert (await outcome(call))[0] == "UNAVAILABLE"
    else:
        assert await read_all(call) == ([], "UNAVAILABLE")
    if kind != "unary_stream":
        assert await catch(call.write(b"")) is asyncio.InvalidStateError


async def test_a_writer_learns_that_nobody_listens(world: World) -> None:
    method = world.stub("stream_stream", await refuse(world))
    call = method()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.write(b"1")
    assert caught.value.code() is Code.UNAVAILABLE


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_who_waits_for_the_connection_learns_that_there_is_none(world: World, kind: str) -> None:
    method = world.stub(kind, await refuse(world))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method().wait_for_connection()
    assert caught.value.code() is Code.UNAVAILABLE


async def test_waiting_for_readiness(world: World) -> None:
    channel = await refuse(world)
    call = world.stub("unary_unary", channel)(b"1", wait_for_ready=True)
    await settle(lambda: channel.get_state() is State.TRANSIENT_FAILURE)
    assert not call.done()
    server = world.make_server(port=world.port)
    handler: Any = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Service", {"Method": handler}),)
    )
    await server.start()
    assert await call == b"1"
    assert channel.get_state() is State.READY


async def test_a_server_that_starts_later(world: World) -> None:
    """Who connects before the server has started waits for it."""
    server = world.make_server()
    handler: Any = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Service", {"Method": handler}),)
    )
    call = world.stub("unary_unary")(b"1")
    await asyncio.sleep(0.05)
    assert not call.done()
    await server.start()
    assert await call == b"1"


@pytest.mark.parametrize("grace", [None, 0.05])
@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
async def test_closing_cancels_calls(world: World, kind: str, grace: float | None) -> None:
    waiting = Waiting()
    await world.serve(kind, waiting.answer)
    channel = world.dial()
    method = world.stub(kind, channel)
    call = method(b"") if kind == "unary_unary" else method()
    await waiting.started.wait()
    await channel.close(grace)
    assert await outcome(call) == ("cancelled", None)
    assert await call.code() is Code.CANCELLED
    await waiting.ended.wait()
    assert waiting.end is asyncio.CancelledError


@pytest.mark.parametrize("read", [read_all, iterate_all])
async def test_closing_cancels_streams(world: World, read: Any) -> None:
    waiting = Waiting()
    await world.serve("stream_stream", waiting.stream)
    channel = world.dial()
    call = world.stub("stream_stream", channel)()
    await waiting.started.wait()
    reading = asyncio.create_task(read(call))
    await asyncio.sleep(0.02)
    await channel.close()
    assert await reading == ([b"1"], "cancelled")
    await waiting.ended.wait()


async def test_closing_with_grace_lets_calls_end(world: World) -> None:
    waiting = Waiting()
    await world.serve("unary_unary", waiting.answer)
    channel = world.dial()
    method = world.stub("unary_unary", channel)
    call = method(b"")
    await waiting.started.wait()
    closing = asyncio.create_task(channel.close(10))
    await asyncio.sleep(0)
    with pytest.raises(grpc.aio.UsageError):
        method(b"")
    waiting.released.set()
    assert await call == b"released"
    await closing
    assert channel.get_state() is State.SHUTDOWN


async def test_grace_is_not_negative(world: World) -> None:
    await world.serve("unary_unary", echo)
    assert await catch(world.dial().close(-1)) is ValueError


async def test_a_channel_as_a_context(world: World) -> None:
    await world.serve("unary_unary", echo)
    async with world.dial() as channel:
        assert await world.stub("unary_unary", channel)(b"1") == b"1"
    assert channel.get_state() is State.SHUTDOWN


async def test_a_lost_connection_ends_a_unary_call(world: World) -> None:
    waiting = Waiting()
    await world.serve("unary_unary", waiting.answer)
    await world.interpose()
    call = world.stub("unary_unary")(b"")
    await waiting.started.wait()
    await world.cut()
    assert (await outcome(call))[0] == "UNAVAILABLE"
    assert await call.trailing_metadata() == grpc.aio.Metadata()
    await waiting.ended.wait()
    assert waiting.end is asyncio.CancelledError


@pytest.mark.parametrize("read", [read_all, iterate_all])
async def test_a_lost_connection_ends_a_stream_in_its_middle(world: World, read: Any) -> None:
    waiting = Waiting()
    await world.serve("stream_stream", waiting.stream)
    await world.interpose()
    call = world.stub("stream_stream")()
    reading = asyncio.create_task(read(call))
    await waiting.started.wait()
    await asyncio.sleep(0.05)
    await world.cut()
    assert await reading == ([b"1"], "UNAVAILABLE")
    await waiting.ended.wait()
    assert waiting.end is asyncio.CancelledError


async def test_what_is_unread_when_a_connection_is_lost(world: World) -> None:
    waiting = Waiting()
    await world.serve("unary_stream", waiting.stream)
    await world.interpose()
    call = world.stub("unary_stream")(b"")
    await waiting.started.wait()
    await asyncio.sleep(0.05)
    await world.cut()
    await asyncio.sleep(0.05)
    assert await read_all(call) == ([], "UNAVAILABLE")


async def test_a_handler_reads_the_end_when_the_connection_is_lost(world: World) -> None:
    read: list[Any] = []
    started = asyncio.Event()

    async def handler(requests: AsyncIterator[bytes], context: Context) -> bytes:
        started.set()
        try:
            read.append(await context.read())
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            read.append("cancelled")
            raise
        return b""

    await world.serve("stream_unary", handler)
    await world.interpose()
    call = world.stub("stream_unary")()
    await started.wait()
    await world.cut()
    assert (await outcome(call))[0] == "UNAVAILABLE"
    await settle(lambda: "cancelled" in read)
    assert read in ([EOF, "cancelled"], ["cancelled"])


async def test_a_channel_notices_that_its_connection_is_lost(world: World) -> None:
    await world.serve("unary_unary", echo)
    await world.interpose()
    channel = world.dial()
    method = world.stub("unary_unary", channel)
    await method(b"")
    await world.cut()
    await channel.wait_for_state_change(State.READY)
    assert channel.get_state() is not State.READY
    assert (await outcome(method(b"")))[0] == "UNAVAILABLE"


async def test_two_channels_are_two_connections(world: World) -> None:
    peers: list[str] = []

    async def handler(request: bytes, context: Context) -> bytes:
        peers.append(context.peer())
        return b""

    await world.serve("unary_unary", handler)
    for _ in range(2):
        await world.stub("unary_unary")(b"")
    assert len(dict.fromkeys(peers)) == 2
