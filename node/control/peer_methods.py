"""The methods of the control API that concern other nodes."""

from typing import TYPE_CHECKING, TypeAlias

import grpc

from kernel.errors import Conflict, Unavailable
from lucid.v1 import control_pb2
from node.compose import Node
from session.bundle_builder import Shown

if TYPE_CHECKING:
    from node.onions import Onions

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
                hint="Start it with --listen onion.",
            )
        token, ttl_s = self._node.peering.make_owner_token()
        return control_pb2.MakeTokenResponse(token=token, token_ttl_s=ttl_s)

    async def RotateOnion(  # noqa: N802
        self, request: control_pb2.RotateOnionRequest, context: Context
    ) -> control_pb2.RotateOnionResponse:
        """Replaces the onion service."""
        onions = self._get_onions()
        await onions.rotate(request.grace_s if request.HasField("grace_s") else None)
        return control_pb2.RotateOnionResponse(onions=onions.describe().onions)

    async def CheckOnion(  # noqa: N802
        self, request: control_pb2.CheckOnionRequest, context: Context
    ) -> control_pb2.CheckOnionResponse:
        """Calls the node's own onion service."""
        onions = self._get_onions()
        reached = await onions.check()
        return control_pb2.CheckOnionResponse(tor=onions.describe(), reached=reached)

    def _get_onions(self) -> "Onions":
        if self._node.onions is None:
            raise Conflict("this node does not use Tor", hint="Set `listen` to `onion`.")
        return self._node.onions

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
