"""Connections that die without a word, as circuits of Tor do: real gRPC, through what drops all bytes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from kernel.errors import Unavailable
from kernel.multiaddr import Multiaddr
from lucid.v1 import chunk_pb2, node_pb2
from node.adapters import SystemClock
from node.rpc import connecting, reachability
from node.rpc import peer as peer_module
from node.rpc.interceptor import Gate
from node.rpc.node_servicer import NodeServicer
from node.rpc.reachability import reach
from node.transport.loopback import LoopbackTransport
from tests.conduit import PIECE_BYTES, Conduit

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


class ConduitTransport(LoopbackTransport):
    """Dials the way through the conduit, and asks often."""

    ping_every_s = 0.02
    ping_timeout_s = 0.3

    def __init__(self, port: int) -> None:
        self._through = Multiaddr("ip4", "127.0.0.1", port)

    def dial(self, address: Multiaddr) -> grpc.aio.Channel:
        return super().dial(self._through)


Join = Callable[..., Awaitable[tuple[Any, Any, Conduit, ConduitTransport]]]


@pytest.fixture
async def join(make_meeting: Any, eventually: Eventually) -> AsyncIterator[Join]:
    """A node that serves, one that is connected with it, what is between them, and how that one dials."""
    async with AsyncExitStack() as stack:

        async def join(chunks: Any = None) -> tuple[Any, Any, Conduit, ConduitTransport]:
            server = await make_meeting(1, chunks=chunks)
            conduit = Conduit(lambda: asyncio.open_connection("127.0.0.1", server.address.port))
            transport = ConduitTransport(await conduit.open(stack))
            client = await make_meeting(2, peers=[server.address], listen=None, transport=transport)
            await eventually(lambda: client.peer(server) is not None)
            return server, client, conduit, transport

        yield join


async def test_a_connection_that_fell_silent_is_replaced(join: Join, eventually: Eventually) -> None:
    server, client, conduit, _ = await join()
    before = client.peer(server)
    conduit.swallow()
    await eventually(lambda: client.peer(server) not in (None, before))
    assert len(conduit.carried) == 2
    assert await client.peer(server).ping() > 0
    with pytest.raises(Unavailable, match="disconnected"):
        await before.ping()
    with pytest.raises(Unavailable, match="disconnected"):
        await anext(before.get_chunk(chunk_pb2.GetChunkRequest()))


async def test_a_call_that_is_not_answered_has_the_link_ask_at_once(
    join: Join, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConduitTransport, "ping_every_s", 3600.0)
    server, client, conduit, _ = await join()
    before = client.peer(server)
    conduit.swallow()
    with pytest.raises(Unavailable, match="did not answer in time"):
        await before.ping(0.05)
    await eventually(lambda: client.peer(server) not in (None, before))


class Trickling:
    """Gives or takes frames one by one, for as long as it is let."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def GetChunk(self, request: Any, context: Any) -> Any:  # noqa: N802
        while True:
            await self.goes_on.wait()
            await asyncio.sleep(0.01)
            yield chunk_pb2.GetChunkResponse(frame=b"frame")

    async def PutChunk(self, requests: Any, context: Any) -> Any:  # noqa: N802
        async for _ in requests:
            await self.goes_on.wait()
        yield chunk_pb2.PutChunkResponse(offset=1)

    def __getattr__(self, name: str) -> Any:
        return self.GetChunk


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[node_pb2.PingRequest]:
    """Pings that were asked for; only the first one of a link is answered."""
    pings: list[node_pb2.PingRequest] = []
    answer = NodeServicer.Ping

    async def ping(self: NodeServicer, request: Any, context: Any) -> Any:
        pings.append(request)
        if len(pings) > 1:
            await asyncio.Event().wait()
        return await answer(self, request, context)

    monkeypatch.setattr(NodeServicer, "Ping", ping)
    return pings


async def read(peer: Any) -> None:
    async for _ in peer.get_chunk(chunk_pb2.GetChunkRequest()):
        pass


async def write(peer: Any) -> None:
    async def requests() -> AsyncIterator[chunk_pb2.PutChunkRequest]:
        while True:
            yield chunk_pb2.PutChunkRequest(frame=bytes(PIECE_BYTES))

    async for _ in peer.put_chunk(requests()):
        pass


@pytest.mark.parametrize("transfer", [read, write])
async def test_an_answer_that_a_transfer_delays_is_no_silence(
    join: Join,
    eventually: Eventually,
    asked: list[Any],
    transfer: Callable[[Any], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trickling = Trickling()
    server, client, _, _ = await join(trickling)
    peer = client.peer(server)
    running = asyncio.ensure_future(transfer(peer))
    await eventually(lambda: len(asked) > 2)
    trickling.goes_on.clear()  # a frame may take a long time
    await eventually(lambda: len(asked) > 5)
    assert client.peer(server) is peer
    monkeypatch.setattr(peer_module, "STREAM_SILENCE_NS", 0)
    await eventually(lambda: client.peer(server) is not peer)
    with pytest.raises(Unavailable):
        await running


async def test_a_peer_that_refuses_a_ping_is_there(
    join: Join, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client, _, _ = await join()
    peer = client.peer(server)
    refused: list[str] = []

    def refuse(self: Gate, name: str, *_: Any) -> None:
        refused.append(name)
        raise Unavailable("it has too many calls at once")

    monkeypatch.setattr(Gate, "enter", refuse)
    await eventually(lambda: len(refused) > 3)
    assert client.peer(server) is peer


class MuteTransport(LoopbackTransport):
    """Reaches nobody, but does not say so, until the way is learnt anew."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.learnt: list[Multiaddr] = []

    async def relearn(self, address: Multiaddr) -> None:
        self.learnt.append(address)

    def dial(self, address: Multiaddr) -> grpc.aio.Channel:
        return super().dial(address if self.learnt else Multiaddr("ip4", "127.0.0.1", self._port))


@pytest.fixture
async def mute(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MuteTransport]:
    """Who connects there hears nothing."""
    monkeypatch.setattr(connecting, "FIRST_CONNECT_S", 0.1)
    monkeypatch.setattr(reachability, "PAUSE_S", 0.0)
    held: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0) as server:
        yield MuteTransport(server.sockets[0].getsockname()[1])
        for writer in held:
            writer.close()


async def test_a_link_learns_the_way_anew_where_an_attempt_hangs(
    make_meeting: Any, eventually: Eventually, mute: MuteTransport
) -> None:
    server = await make_meeting(1)
    client = await make_meeting(2, peers=[server.address], listen=None, transport=mute)
    await eventually(lambda: client.peer(server) is not None)
    assert mute.learnt == [server.address]


async def test_a_node_that_looks_whether_it_is_reached_does_so_too(
    make_meeting: Any, mute: MuteTransport
) -> None:
    server = await make_meeting(1)
    assert 0 < await reach(mute, server.address, SystemClock()) < 5e9
    assert mute.learnt == [server.address]


async def test_nobody_is_reached_where_all_attempts_fail(mute: MuteTransport) -> None:
    nowhere = Multiaddr("ip4", "127.0.0.1", 1)
    with pytest.raises(Unavailable, match="cannot be reached"):  # the last attempt is refused
        await reach(mute, nowhere, SystemClock())
    assert mute.learnt == [nowhere]
