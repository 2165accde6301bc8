"""`ShareService`: other owners let this node read sessions of theirs. Bounds: node/rpc/limits.py."""

from collections.abc import Callable

import grpc

from dht.ports import PeerIdentity
from dht.sharing import OfferTaker
from lucid.v1 import share_pb2, share_pb2_grpc
from node.logs import Logger
from node.rpc.interceptor import get_caller
from node.rpc.server import Service

SHARE_SERVICE = share_pb2.DESCRIPTOR.services_by_name["ShareService"].full_name


class ShareServicer(share_pb2_grpc.ShareServiceServicer):
    """Serves one node."""

    def __init__(self, taker: OfferTaker, get_caller: Callable[[object], PeerIdentity], log: Logger) -> None:
        self._taker = taker
        self._get_caller = get_caller
        self._log = log

    async def Offer(  # noqa: N802
        self, request: share_pb2.OfferRequest, context: object
    ) -> share_pb2.OfferResponse:
        """Takes a session to read."""
        caller = self._get_caller(context)
        response = await self._taker.offer(caller, request)
        self._log.info(
            "session shared with this node",
            session=request.session_id.hex(),
            owner=caller.owner.hex(),
            sharer=caller.device.hex(),
            known=response.known,
        )
        return response


def make_share_service(taker: OfferTaker, log: Logger) -> Service:
    """The service, for the peer server."""
    servicer = ShareServicer(taker, get_caller, log)

    def add(server: grpc.aio.Server) -> None:
        share_pb2_grpc.add_ShareServiceServicer_to_server(servicer, server)

    return Service(SHARE_SERVICE, add)
