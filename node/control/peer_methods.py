"""The methods of the control API that concern other nodes."""

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from kernel.errors import Unavailable
from lucid.v1 import control_pb2

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class PeerMethods:
    """Part of `ControlServicer`."""

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

    async def ShareSession(  # noqa: N802
        self, request: control_pb2.ShareSessionRequest, context: Context
    ) -> control_pb2.ShareSessionResponse:
        """Not there yet."""
        raise Unavailable("not there yet")

    async def ProveSession(  # noqa: N802
        self, request: control_pb2.ProveSessionRequest, context: Context
    ) -> control_pb2.ProveSessionResponse:
        """Not there yet."""
        raise Unavailable("not there yet")

    def RestoreSessions(  # noqa: N802
        self, request: control_pb2.RestoreSessionsRequest, context: Context
    ) -> AsyncIterator[control_pb2.RestoreSessionsResponse]:
        """Not there yet."""
        raise Unavailable("not there yet")
