"""The gRPC server for other nodes: `NodeService`, what other parts add, health and reflection."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from kernel.multiaddr import Multiaddr
from kernel.ports import Clock
from kernel.uninterrupted import end_task
from node.introspection import Introspection
from node.ports import Transport
from node.rpc.interceptor import PeerInterceptor

STOP_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the server.

    Attributes:
        name: full name, as in the descriptors.
        add: registers its servicer.
    """

    name: str
    add: Callable[[grpc.aio.Server], None]


class PeerServer:
    """A server on one address."""

    def __init__(
        self,
        transport: Transport,
        interceptor: PeerInterceptor,
        clock: Clock,
        is_serving: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._interceptor = interceptor
        self._clock = clock
        self._is_serving = is_serving

    def bind(self, address: Multiaddr) -> Multiaddr:
        """Takes the port; returns the address that others dial.

        Raises:
            UsageError: nothing listens on such an address.
            Conflict: the port is taken.
        """
        self._server, bound = self._transport.listen(address, [self._interceptor])
        return bound

    async def start(self, services: Sequence[Service]) -> None:
        """Begins to serve on the port that `bind` took."""
        for service in services:
            service.add(self._server)
        introspection = Introspection([service.name for service in services], self._is_serving, self._clock)
        introspection.add_to(self._server)
        await introspection.show()
        await self._server.start()
        self._watching = asyncio.create_task(introspection.watch())

    async def stop(self) -> None:
        """Answers what runs, for a moment, then closes."""
        await end_task(self._watching)
        await self._server.stop(STOP_GRACE_S)
