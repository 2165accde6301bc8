"""How services are served; what needs a Tor is in tests/tor."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from kernel.multiaddr import Multiaddr
from kernel.onion import OnionKey
from lucid.v1 import node_pb2, node_pb2_grpc
from node.adapters import SystemEntropy
from node.transport.tor import transport as transport_module
from node.transport.tor.transport import SOCKET_NAME, TorTransport
from tests.conduit import Conduit

ADDRESS = Multiaddr("onion3", OnionKey(b"k" * 32).host, 80)
DEADLINE_S = 30
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


class Waiting:
    """Answers no ping, and notes when the one who asks is gone."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return self.Ping

    async def Ping(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.gone.set()


async def test_a_client_whose_circuit_died_without_a_word_is_cut_off(
    tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = dict(transport_module._SERVER)
    assert given["grpc.keepalive_time_ms"] == given["grpc.http2.ping_timeout_ms"] == 60_000
    hurried = given | {"grpc.keepalive_time_ms": 100, "grpc.http2.ping_timeout_ms": 200}
    monkeypatch.setattr(transport_module, "_SERVER", tuple(hurried.items()))
    transport = TorTransport(cast(Any, None), tmp_path, SystemEntropy())
    server, _ = transport.listen(ADDRESS, [])
    waiting = Waiting()
    node_pb2_grpc.add_NodeServiceServicer_to_server(cast(Any, waiting), server)
    await server.start()
    socket = tmp_path / SOCKET_NAME.format(ADDRESS.host[:5])
    async with AsyncExitStack() as stack, asyncio.timeout(DEADLINE_S):
        stack.push_async_callback(server.stop, None)
        conduit = Conduit(lambda: asyncio.open_unix_connection(socket))
        port = await conduit.open(stack)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        call = node_pb2_grpc.NodeServiceStub(channel).Ping(node_pb2.PingRequest())
        stack.callback(call.cancel)
        await waiting.asked.wait()
        begun = conduit.pieces
        await eventually(lambda: conduit.pieces > begun + 8)  # pings that are answered
        assert not waiting.gone.is_set()
        conduit.swallow()
        await waiting.gone.wait()
