"""Everything of a node that concerns other nodes, put together: who it is to them, its server, its links."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

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
from node.rpc.interceptor import Gate, PeerInterceptor
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
        self._services: list[Service] = []
        self._servers: dict[Multiaddr, PeerServer] = {}

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

    def prepare(
        self,
        is_serving: Callable[[], bool],
        get_standing: Callable[[], Standing],
        services: Sequence[Service] = (),
    ) -> None:
        """Gets ready to serve; `open` begins to.

        Args:
            is_serving: asked now and then, for the health service.
            get_standing: what peers are told of the node.
            services: what is served beside `NodeService`.
        """
        self.servicer.start(get_standing)
        self._is_serving = is_serving
        self._gate = Gate(self._tokens, self._clock, self._hosting_for)

        def add(grpc_server: grpc.aio.Server) -> None:
            node_pb2_grpc.add_NodeServiceServicer_to_server(self.servicer, grpc_server)

        self._services = [Service(NODE_SERVICE, add), *services]

    async def open(self, address: Multiaddr) -> Multiaddr:
        """Serves an address; returns what others dial. Peers do not know of it before `announce`.

        Raises:
            UsageError: nothing listens on such an address.
            Conflict: the port is taken.
        """
        await self._presenter.prepare()  # loads libp2p, which a node that meets nobody does without
        interceptor = PeerInterceptor(self._gate, self._clock, self._metrics, self._log)
        server = PeerServer(self._transport, interceptor, self._clock, self._is_serving)
        place = server.bind(address)
        await server.start(self._services)
        self._servers[place] = server
        return place

    async def close(self, place: Multiaddr) -> None:
        """Serves an address no longer; what is connected there is cut."""
        server = self._servers.pop(place, None)
        if server is not None:
            await server.stop()

    def announce(self, places: Sequence[Multiaddr]) -> None:
        """Tells peers, now and from now on, where this node listens; the first one is best."""
        self._presenter.set_addresses(places)
        self.address = replace(places[0], device=self.keys.device.identity.public_key)
        self.book.greet_anew()

    async def stop(self) -> None:
        """Stops serving."""
        for place in list(self._servers):
            await self.close(place)

    def make_owner_token(self) -> tuple[bytes, int]:
        """A token with which the owner of this node calls its peer server, and the seconds that it holds."""
        return self._tokens.issue(Caller(self.identity, is_owner=True)), TOKEN_TTL_S
