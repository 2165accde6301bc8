"""`node.ports.Transport` over onion services: what leaves this process leaves through its Tor, or not at all.

gRPC is never given an onion name. It dials Tor's HTTP CONNECT proxy on loopback by number, and tells that the
name; so nothing is looked up, whatever resolver or proxy the environment names. Each channel has a circuit of
its own: what goes to two peers cannot be tied together by a relay, and a circuit that died unnoticed is left
behind by dialling again.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import grpc

from kernel.errors import Conflict, LocalError, UsageError
from kernel.multiaddr import Multiaddr
from kernel.onion import OnionKey
from kernel.ports import Clock, Entropy
from lucid.v1 import control_pb2
from node.config import NodeConfig
from node.logs import Logger
from node.rpc.limits import MAX_CONCURRENT_CALLS
from node.transport.options import CLIENT_OPTIONS, PROXY_VARIABLES, SERVER_OPTIONS
from node.transport.tor.supervisor import OnionService, TorSupervisor

CONNECT_TIMEOUT_S = 30.0
"""A descriptor to be fetched, two circuits to be built: seconds. An attempt that hangs for longer, because a
circuit of it died unnoticed, is better begun anew; what it has learnt of the service is kept by Tor."""
PING_EVERY_S = 10.0
"""Keeps circuits from idling, and finds those that died unnoticed: one in ten, when a Tor is killed."""
PING_TIMEOUT_S = 8.0
DEAD_CLIENT_MS = 60_000
"""A client that sends nothing for so long is asked, and cut off if it does not answer for as long again."""
WINDOW_BYTES = 512 << 10
"""What a stream may send before it was read."""
ISOLATION_BYTES = 16
SOCKET_NAME = "p-{}.sock"
"""Where a service is served; filled with the first five characters of its address."""
_COMMON = (
    # gRPC would ping at each message to learn how far the other side is. Over Tor that ping travels in a cell
    # of its own right before the answer, and the one waits for the other's acknowledgement, 40 ms a hop. A
    # fixed window does without; Tor's own, of some 250 kB a circuit, is smaller anyway.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
)
_SERVER = (
    *SERVER_OPTIONS,
    *_COMMON,
    ("grpc.keepalive_time_ms", DEAD_CLIENT_MS),
    # gRPC 1.85 does not heed grpc.keepalive_timeout_ms where that is the shorter one.
    ("grpc.http2.ping_timeout_ms", DEAD_CLIENT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
_CLIENT = (*CLIENT_OPTIONS, *_COMMON)


class TorTransport:
    """Serves and dials onion addresses."""

    connect_timeout_s = CONNECT_TIMEOUT_S
    ping_every_s = PING_EVERY_S
    ping_timeout_s = PING_TIMEOUT_S

    def __init__(self, tor: TorSupervisor, directory: Path, entropy: Entropy) -> None:
        """`directory` is where the Unix sockets are that Tor connects to.

        Raises:
            LocalError: the environment still names a proxy, which gRPC might obey.
        """
        check_environment(os.environ)
        self._tor = tor
        self._directory = directory
        self._entropy = entropy
        self._sockets: dict[str, Path] = {}
        for left in directory.glob(SOCKET_NAME.format("?" * 5)):  # by a process that was killed
            left.unlink()

    def listen(
        self, address: Multiaddr, interceptors: Sequence[grpc.aio.ServerInterceptor]
    ) -> tuple[grpc.aio.Server, Multiaddr]:
        """See `node.ports.Transport`: a Unix socket, which `publish` ties to the onion address."""
        _check_onion(address)
        path = self._directory / SOCKET_NAME.format(address.host[:5])
        server = grpc.aio.server(
            interceptors=list(interceptors), options=_SERVER, maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS
        )
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise Conflict(
                f"the socket {path} cannot be listened on", hint="Does another process use it?"
            ) from error
        self._sockets[address.host] = path
        return server, address.place

    def dial(self, address: Multiaddr) -> grpc.aio.Channel:
        """See `node.ports.Transport`."""
        _check_onion(address)
        host, port = self._tor.get_tunnel()
        isolation = self._entropy.draw(ISOLATION_BYTES).hex()
        options = (
            *_CLIENT,
            ("grpc.http_connect_server", f"{address.host}.onion:{address.port}"),
            ("grpc.http_connect_headers", f"X-Tor-Stream-Isolation: {isolation}"),
            ("grpc.default_authority", f"{address.host}.onion"),
        )
        return grpc.aio.insecure_channel(f"ipv4:{host}:{port}", options=options)

    async def relearn(self, address: Multiaddr) -> None:
        """See `node.ports.Dialler`: fetches the descriptor of the service anew."""
        await self._tor.refetch(address.host)

    async def run(self) -> None:
        """Keeps Tor until it is cancelled."""
        await self._tor.run()

    async def publish(self, key: OnionKey, port: int) -> None:
        """Publishes the service whose address is listened on."""
        await self._tor.publish(OnionService(key, port, self._sockets[key.host]))

    async def withdraw(self, host: str) -> None:
        """Publishes a service no longer; new clients find it no more."""
        self._sockets.pop(host, None)
        await self._tor.withdraw(host)

    def is_published(self, host: str) -> bool:
        """Can clients find the service?"""
        return self._tor.is_published(host)

    async def wait_changed(self) -> None:
        """Returns when what is published, or the state of Tor, has changed."""
        await self._tor.wait_changed()

    @property
    def is_ready(self) -> bool:
        """Is Tor ready?"""
        return self._tor.is_ready

    def explain(self) -> str:
        """Why Tor is not ready, in words; empty if it is."""
        return self._tor.state.describe()

    def describe(self) -> control_pb2.TorStatus:
        """How Tor is doing."""
        state = self._tor.state
        return control_pb2.TorStatus(
            phase=state.phase,
            percent=state.percent,
            summary=state.summary,
            version=state.version,
            trouble=state.trouble,
            hint=state.hint,
            tunnel="{}:{}".format(*self._tor.get_tunnel()) if self._tor.is_ready else "",
        )


def make_tor_transport(config: NodeConfig, clock: Clock, entropy: Entropy, log: Logger) -> TorTransport:
    """The transport of a node, as its owner set it."""
    home = config.home
    tor = TorSupervisor(home.tor, home.tor_socket, config.tor_settings, clock, entropy, log)
    return TorTransport(tor, home.root, entropy)


def check_environment(environment: "os._Environ[str]") -> None:
    """Checks that no variable is left from which gRPC takes a proxy.

    Raises:
        LocalError: one is.
    """
    for name in environment:
        if name.lower() in PROXY_VARIABLES:
            raise LocalError(
                f"the environment variable {name} names a proxy, and this node dials through Tor alone",
                hint="Unset it.",
            )


def _check_onion(address: Multiaddr) -> None:
    if address.kind != "onion3":
        raise UsageError(
            f"{address} is no onion address, and this node reaches no other",
            hint="Nodes on one machine, for tests: `--transport loopback`.",
        )
