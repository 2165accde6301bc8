import socket
from typing import Any

import grpc
import pytest

from kernel.errors import Conflict, UsageError
from kernel.multiaddr import Multiaddr, parse_multiaddr
from lucid.v1 import node_pb2, node_pb2_grpc
from node.transport import loopback
from node.transport.loopback import LoopbackTransport

ONION = parse_multiaddr("/onion3/hnvcppgow2sc2yvdvdicu3ynonsteflxdxrehjr2ybekdc2z3iu63yid:1")
ANY_PORT = parse_multiaddr("/ip4/127.0.0.1/tcp/0")


async def test_what_is_not_loopback_is_refused_before_anything_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loopback, "grpc", None)
    # A kind that nothing parses, as if somebody had made a mistake elsewhere.
    for address in (ONION, Multiaddr("tcp4", "8.8.8.8", 1)):
        with pytest.raises(UsageError, match="no loopback address"):
            LoopbackTransport().listen(address, [])
        with pytest.raises(UsageError, match="no loopback address"):
            LoopbackTransport().dial(address)


class Ping:
    Hello = Authenticate = GetInfo = None

    async def Ping(self, request: Any, context: Any) -> node_pb2.PingResponse:  # noqa: N802
        return node_pb2.PingResponse(payload=request.payload)


async def ping(server: grpc.aio.Server, address: Multiaddr) -> bytes:
    transport = LoopbackTransport()
    node_pb2_grpc.add_NodeServiceServicer_to_server(Ping(), server)  # type: ignore[arg-type]
    await server.start()
    channel = transport.dial(address)
    try:
        request = node_pb2.PingRequest(payload=b"there")
        return (await node_pb2_grpc.NodeServiceStub(channel).Ping(request, timeout=20)).payload
    finally:
        await channel.close()
        await server.stop(None)


@pytest.mark.parametrize("text", ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"])
async def test_port_0_takes_a_free_one(text: str) -> None:
    server, address = LoopbackTransport().listen(parse_multiaddr(text), [])
    assert address.port != 0
    assert address.host == parse_multiaddr(text).host
    assert await ping(server, address) == b"there"


async def test_no_proxy_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy"):
        for spelling in (name, name.upper()):
            monkeypatch.setenv(spelling, "http://127.0.0.1:1")
    server, address = LoopbackTransport().listen(ANY_PORT, [])
    assert await ping(server, address) == b"there"


async def test_a_port_that_is_taken_is_an_error_that_says_so() -> None:
    first, address = LoopbackTransport().listen(ANY_PORT, [])
    with pytest.raises(Conflict, match=rf"port {address.port} of 127.0.0.1.*taken") as caught:
        LoopbackTransport().listen(address, [])
    assert "listen" in caught.value.hint
    await first.start()
    await first.stop(None)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = Multiaddr("ip4", "127.0.0.1", other.getsockname()[1])
        with pytest.raises(Conflict, match="taken"):
            LoopbackTransport().listen(taken, [])
