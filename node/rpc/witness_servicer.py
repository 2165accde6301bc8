"""`WitnessService`: co-signs checkpoints of other nodes' recordings. Rules: docs/spec/13-witness.md."""

from collections.abc import Callable
from typing import TypeAlias

import grpc

from dht.ports import PeerIdentity
from dht.witnessing import Witnesses
from lucid.v1 import witness_pb2, witness_pb2_grpc
from node.rpc.interceptor import get_caller
from node.rpc.server import Service

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"
GetCaller = Callable[[object], PeerIdentity]


def make_witness_service(witnesses: Witnesses) -> Service:
    """`WitnessService`, behind the gate of the peer server."""
    servicer = WitnessServicer(witnesses, get_caller)
    name = witness_pb2.DESCRIPTOR.services_by_name["WitnessService"].full_name
    return Service(
        name, lambda server: witness_pb2_grpc.add_WitnessServiceServicer_to_server(servicer, server)
    )


class WitnessServicer(witness_pb2_grpc.WitnessServiceServicer):
    """Serves the witness of a node."""

    def __init__(self, witnesses: Witnesses, get_caller: GetCaller) -> None:
        """`get_caller` tells from the context of a call who calls."""
        self._witnesses = witnesses
        self._get_caller = get_caller

    async def Attest(  # noqa: N802
        self, request: witness_pb2.AttestRequest, context: Context
    ) -> witness_pb2.AttestResponse:
        """Co-signs a checkpoint of the caller."""
        return await self._witnesses.attest(request, self._get_caller(context))

    async def GetAttested(  # noqa: N802
        self, request: witness_pb2.GetAttestedRequest, context: Context
    ) -> witness_pb2.GetAttestedResponse:
        """What was co-signed last of a session."""
        return await self._witnesses.get_attested(request)
