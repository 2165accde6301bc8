"""Several servers of one node, as while an onion service is replaced."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kernel.multiaddr import Multiaddr
from node import introspection


async def test_each_server_tells_the_health_of_the_node_as_it_is_now(
    make_meeting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introspection, "HEALTH_EVERY_S", 0.01)
    server = await make_meeting(1)
    is_serving = True
    server.peering._is_serving = lambda: is_serving
    places = [await server.peering.open(Multiaddr("ip4", "127.0.0.1", 0)) for _ in range(2)]

    async def ask(place: Multiaddr) -> int:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{place.port}") as channel:
            response = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            return int(response.status)

    assert [await ask(place) for place in places] == [health_pb2.HealthCheckResponse.SERVING] * 2
    await server.peering.close(places[0])
    is_serving = False
    async with asyncio.timeout(20):
        while await ask(places[1]) != health_pb2.HealthCheckResponse.NOT_SERVING:
            pass
