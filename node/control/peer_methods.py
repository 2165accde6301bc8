"""The methods of the control API that concern other nodes."""

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from kernel.errors import Unavailable
from lucid.v1 import control_pb2
from node.compose import Node
from session.bundle_builder import Shown

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class PeerMethods:
    """Part of `ControlServicer`."""

    _node: Node

    async def ListPeers(  # noqa: N802
        self, request: control_pb2.ListPeersRequest, context: Context
    ) -> control_pb2.ListPeersResponse:
        """Not there yet."""
        raise Unavailable("not there yet")

    async def PingPeer(  # noqa: N802
        self, request: control_pb2.PingPeerRequest, context: Context
    ) -> control_pb2.PingPeerResponse:
        """Not there yet."""
        raise Unavailable("not there yet")

    async def MakeToken(  # noqa: N802
        self, request: control_pb2.MakeTokenRequest, context: Context
    ) -> control_pb2.MakeTokenResponse:
        """Not there yet."""
        raise Unavailable("not there yet")

    async def ListReplicas(  # noqa: N802
        self, request: control_pb2.ListReplicasRequest, context: Context
    ) -> control_pb2.ListReplicasResponse:
        """Not there yet."""
        raise Unavailable("not there yet")

    def WaitReplicas(  # noqa: N802
        self, request: control_pb2.WaitReplicasRequest, context: Context
    ) -> AsyncIterator[control_pb2.WaitReplicasResponse]:
        """Not there yet."""
        raise Unavailable("not there yet")

    def AuditSession(  # noqa: N802
        self, request: control_pb2.AuditSessionRequest, context: Context
    ) -> AsyncIterator[control_pb2.AuditSessionResponse]:
        """Not there yet."""
        raise Unavailable("not there yet")

    async def ShareSession(  # noqa: N802
        self, request: control_pb2.ShareSessionRequest, context: Context
    ) -> control_pb2.ShareSessionResponse:
        """Not there yet."""
        raise Unavailable("not there yet")

    async def ProveSession(  # noqa: N802
        self, request: control_pb2.ProveSessionRequest, context: Context
    ) -> control_pb2.ProveSessionResponse:
        """A proof bundle."""
        shown = None
        if request.has_chunk:
            shown = Shown(request.chunk, request.first_byte, request.end_byte, request.reveal)
        session_id = self._node.manager.find(request.session)
        bundle = await self._node.prover.prove(session_id, shown)
        self._node.log.info("bundle made", session=session_id.hex(), revealed=request.reveal)
        return control_pb2.ProveSessionResponse(bundle=bundle)

    def RestoreSessions(  # noqa: N802
        self, request: control_pb2.RestoreSessionsRequest, context: Context
    ) -> AsyncIterator[control_pb2.RestoreSessionsResponse]:
        """Not there yet."""
        raise Unavailable("not there yet")
