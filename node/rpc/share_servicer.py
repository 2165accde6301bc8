"""`ShareService`: other owners let this node read sessions of theirs. Bounds: node/rpc/limits.py."""

from collections.abc import Callable

from dht.ports import PeerIdentity
from dht.sharing import OfferTaker
from lucid.v1 import share_pb2, share_pb2_grpc
from node.logs import Logger


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
