"""`WitnessService` over a real channel."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from lucid.v1 import witness_pb2, witness_pb2_grpc
from node.rpc.witness_servicer import WitnessServicer
from tests.scenarios.witness_world import SESSION, Series, WitnessNode, make_identity

DEVICE, CALLER = make_identity("device")


@pytest.fixture
async def stub() -> AsyncIterator[witness_pb2_grpc.WitnessServiceAsyncStub]:
    node = WitnessNode()
    await node.boot()
    server = grpc.aio.server()
    servicer = WitnessServicer(node.witnesses, lambda _: CALLER)
    witness_pb2_grpc.add_WitnessServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield witness_pb2_grpc.WitnessServiceStub(channel)
    await server.stop(None)


async def test_the_caller_is_co_signed(stub: witness_pb2_grpc.WitnessServiceAsyncStub) -> None:
    series = Series(DEVICE)
    series.grow(2)
    response = await stub.Attest(series.request(0))
    request = witness_pb2.GetAttestedRequest(session_id=SESSION, device=DEVICE.public_key)
    kept = await stub.GetAttested(request)
    assert kept.attestation == response.attestation
    assert kept.checkpoint == series.signed[-1]


async def test_others_are_not(stub: witness_pb2_grpc.WitnessServiceAsyncStub) -> None:
    series = Series(make_identity("stranger")[0])
    series.grow(2)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Attest(series.request(0))
