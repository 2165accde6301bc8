"""The methods of the control API that concern other nodes."""

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from kernel.errors import Conflict, Unavailable
from lucid.v1 import control_pb2
from node.compose import Node

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"


class PeerMethods:
    """Part of `ControlServicer`."""

    _node: Node

    async def ListPeers(  # noqa: N802
        self, request: control_pb2.ListPeersRequest, context: Context
    ) -> control_pb2.ListPeersResponse:
        """All peers, and the addresses where nobody was met yet."""
        return control_pb2.ListPeersResponse(peers=self._node.peering.book.describe())

    async def PingPeer(  # noqa: N802
        self, request: control_pb2.PingPeerRequest, context: Context
    ) -> control_pb2.PingPeerResponse:
        """A round trip to a peer, which is dialled now if it is not connected."""
        book = self._node.peering.book
        link = await book.reach(request.peer)
        try:
            round_trip_ns = 0 if link.peer is None else await link.peer.ping()
        except Unavailable:
            round_trip_ns = 0
        return control_pb2.PingPeerResponse(peer=book.describe_one(link), round_trip_us=round_trip_ns // 1000)

    async def MakeToken(  # noqa: N802
        self, request: control_pb2.MakeTokenRequest, context: Context
    ) -> control_pb2.MakeTokenResponse:
        """A token for the owner of this node."""
        if self._node.peering.address is None:
            raise Conflict(
                "the daemon does not listen for peers, so there is nothing to call",
                hint="Start it with --listen /ip4/127.0.0.1/tcp/0.",
            )
        token, ttl_s = self._node.peering.make_owner_token()
        return control_pb2.MakeTokenResponse(token=token, token_ttl_s=ttl_s)

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
