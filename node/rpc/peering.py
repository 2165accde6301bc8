"""Everything of a node that concerns other nodes, put together: who it is to them, its server, its links."""

from collections.abc import Callable, Collection, Sequence

import grpc

from dht.ports import PeerIdentity
from kernel.grants import verify_grant_list
from kernel.multiaddr import Multiaddr
from kernel.ports import Clock, Entropy, Offload, Records
from kernel.sealing import compute_x25519_public
from lucid.v1 import node_pb2, node_pb2_grpc
from node.identity.peer_keys import PeerKeys
from node.logs import Logger
from node.metrics import NodeMetrics
from node.ports import Transport
from node.rpc.acquaintances import Acquaintances
from node.rpc.greeting import Greeter
from node.rpc.interceptor import PeerInterceptor
from node.rpc.node_servicer import NodeServicer, Standing
from node.rpc.peer_book import PeerBook
from node.rpc.presenter import Presenter
from node.rpc.server import PeerServer, Service
from node.rpc.tokens import TOKEN_TTL_S, Caller, Tokens

NODE_SERVICE = node_pb2.DESCRIPTOR.services_by_name["NodeService"].full_name


class Peering:
    """The side of a node that others see.

    Attributes:
        keys: with which it presents itself.
        book: its peers.
        address: where it listens, with its ID; None if nowhere.
        servicer: its `NodeService`.
    """

    def __init__(
        self,
        keys: PeerKeys,
        transport: Transport,
        clock: Clock,
        entropy: Entropy,
        offload: Offload,
        records: Records,
        metrics: NodeMetrics,
        log: Logger,
        *,
        software: str,
        peers: Sequence[Multiaddr] = (),
        hosting_for: Collection[bytes] = (),
    ) -> None:
        """See the class.

        Args:
            keys: of this node.
            transport: between nodes.
            clock: time.
            entropy: nonces, tokens, jitter.
            offload: loads libp2p.
            records: keep the peers that were met.
            metrics: count calls.
            log: tells who comes and goes.
            software: name and version, for people.
            peers: addresses that the owner configured.
            hosting_for: owners for whom this node keeps something, beside its own; empty: all.
        """
        self.keys = keys
        self._hosting_for = {*hosting_for, keys.grants.public_key} if hosting_for else ()
        self.address: Multiaddr | None = None
        self._transport = transport
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._log = log
        self._tokens = Tokens(clock, entropy, self._is_known)
        self._presenter = Presenter(keys, clock, offload, software)
        device = keys.device.identity.public_key
        grant_list = verify_grant_list(keys.grants, keys.network)
        self._acquaintances = Acquaintances(records, clock, keys.network, device, grant_list)
        greeter = Greeter(self._presenter, self._acquaintances, entropy)
        self.book = PeerBook(self._acquaintances, greeter, transport, clock, entropy, log, peers)
        self.servicer = NodeServicer(
            self._presenter, self._acquaintances, self._tokens, clock, entropy, self.book.on_visited
        )
        self._server: PeerServer | None = None

    @property
    def identity(self) -> PeerIdentity:
        """This node, as others see it."""
        device = self.keys.device
        box = compute_x25519_public(device.box)
        return PeerIdentity(device.identity.public_key, self.keys.grants.public_key, box)

    def _is_known(self, device: bytes) -> bool:
        return self.book.is_known(device)

    def load(self) -> list[str]:
        """Reads what is known of peers; returns what is wrong with it, in words."""
        return self._acquaintances.load()

    async def start(
        self,
        listen: Multiaddr | None,
        is_serving: Callable[[], bool],
        get_standing: Callable[[], Standing],
        services: Sequence[Service] = (),
    ) -> None:
        """Begins to serve, if there is an address to listen on.

        Args:
            listen: the address; port 0 takes a free one.
            is_serving: asked now and then, for the health service.
            get_standing: what peers are told of the node.
            services: what is served beside `NodeService`.

        Raises:
            UsageError: nothing listens on such an address.
            Conflict: the port is taken.
        """
        if listen is None:
            return
        interceptor = PeerInterceptor(
            self._tokens, self._clock, self._metrics, self._log, hosting_for=self._hosting_for
        )
        server = PeerServer(self._transport, interceptor, self._clock, is_serving)
        place = server.bind(listen)
        await self._presenter.prepare()
        self._presenter.set_addresses((place,))
        self.servicer.start(get_standing)

        def add(grpc_server: grpc.aio.Server) -> None:
            node_pb2_grpc.add_NodeServiceServicer_to_server(self.servicer, grpc_server)

        await server.start([Service(NODE_SERVICE, add), *services])
        self._server = server
        self.address = Multiaddr(place.kind, place.host, place.port, self.keys.device.identity.public_key)

    async def stop(self) -> None:
        """Stops serving."""
        if self._server is not None:
            await self._server.stop()

    def make_owner_token(self) -> tuple[bytes, int]:
        """A token with which the owner of this node calls its peer server, and the seconds that it holds."""
        return self._tokens.issue(Caller(self.identity, is_owner=True)), TOKEN_TTL_S
