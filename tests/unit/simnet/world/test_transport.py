"""The transport of a simulated node: the addresses and bounds of the real one."""

import random
from typing import Any

import grpc
import pytest

from kernel.errors import Conflict, UsageError
from kernel.multiaddr import Multiaddr, decode_multiaddr, parse_multiaddr
from lucid.v1 import node_pb2, node_pb2_grpc
from node.ports import Transport
from node.rpc.limits import MAX_MESSAGE_BYTES
from simnet.world.network import Network
from simnet.world.transport import SimTransport
from tests.unit.simnet.world.pair import in_simulated_time

ANY_PORT = parse_multiaddr("/ip4/127.0.0.1/tcp/0")
ONION = parse_multiaddr("/onion3/hnvcppgow2sc2yvdvdicu3ynonsteflxdxrehjr2ybekdc2z3iu63yid:1")


async def ping(servicer: Any, request: node_pb2.PingRequest, context: Any) -> node_pb2.PingResponse:
    return node_pb2.PingResponse(payload=request.payload)


def make_transports() -> tuple[Transport, Transport]:
    network = Network(random.Random(1), lambda *event: None)
    return SimTransport(network.host("one")), SimTransport(network.host("two"))


@in_simulated_time
async def test_one_node_reaches_another_by_an_address_that_travels() -> None:
    one, two = make_transports()
    server, address = one.listen(ANY_PORT, [])
    servicer: Any = type("Servicer", (node_pb2_grpc.NodeServiceServicer,), {"Ping": ping})()
    node_pb2_grpc.add_NodeServiceServicer_to_server(servicer, server)
    await server.start()
    assert parse_multiaddr(str(address)) == decode_multiaddr(address.encode()) == address
    stub: Any = node_pb2_grpc.NodeServiceStub(two.dial(decode_multiaddr(address.encode())))
    assert (await stub.Ping(node_pb2.PingRequest(payload=b"there"))).payload == b"there"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Ping(node_pb2.PingRequest(payload=bytes(MAX_MESSAGE_BYTES)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Ping(node_pb2.PingRequest(), metadata=(("key", "x" * (17 << 10)),))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "address", [ONION, parse_multiaddr("/ip6/::1/tcp/1"), Multiaddr("tcp4", "8.8.8.8", 1)]
)
@in_simulated_time
async def test_other_addresses_are_refused(address: Multiaddr) -> None:
    one, _ = make_transports()
    with pytest.raises(UsageError, match="no address of the simulated world"):
        one.listen(address, [])
    with pytest.raises(UsageError, match="no address of the simulated world"):
        one.dial(address)


@in_simulated_time
async def test_a_port_is_taken_once() -> None:
    one, two = make_transports()
    _, address = one.listen(ANY_PORT, [])
    with pytest.raises(Conflict, match="taken"):
        two.listen(address, [])
