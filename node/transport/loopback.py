"""Nodes on one machine, for tests and development: TCP on loopback addresses, and nothing else."""

from collections.abc import Sequence

import grpc

from kernel.errors import Conflict, UsageError
from kernel.multiaddr import Multiaddr
from node.rpc.limits import MAX_CONCURRENT_CALLS
from node.transport.options import CLIENT_OPTIONS, SERVER_OPTIONS

CONNECT_TIMEOUT_S = 20.0
PING_EVERY_S = 30.0
PING_TIMEOUT_S = 20.0


class LoopbackTransport:
    """`node.ports.Transport` over loopback TCP."""

    connect_timeout_s = CONNECT_TIMEOUT_S
    ping_every_s = PING_EVERY_S
    ping_timeout_s = PING_TIMEOUT_S

    def listen(
        self, address: Multiaddr, interceptors: Sequence[grpc.aio.ServerInterceptor]
    ) -> tuple[grpc.aio.Server, Multiaddr]:
        """See `node.ports.Transport`."""
        _check_loopback(address)
        server = grpc.aio.server(
            interceptors=list(interceptors),
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
        )
        try:
            port = server.add_insecure_port(_get_endpoint(address))
        except RuntimeError as error:
            raise Conflict(
                f"port {address.port} of {address.host} cannot be listened on: it is taken, or not allowed",
                hint="Set `listen` to a free port, or to port 0, which takes one.",
            ) from error
        return server, Multiaddr(address.kind, address.host, port)

    async def relearn(self, address: Multiaddr) -> None:
        """See `node.ports.Dialler`: there is nothing to learn."""

    def dial(self, address: Multiaddr) -> grpc.aio.Channel:
        """See `node.ports.Transport`."""
        _check_loopback(address)
        return grpc.aio.insecure_channel(_get_target(address), options=CLIENT_OPTIONS)


def _check_loopback(address: Multiaddr) -> None:
    if not address.is_loopback:
        raise UsageError(
            f"{address} is no loopback address, and this node reaches no other",
            hint="Nodes on one machine use /ip4/127.0.0.1/tcp/PORT.",
        )


def _get_target(address: Multiaddr) -> str:
    """The address as gRPC dials it; its scheme keeps name resolution out."""
    if address.kind == "ip6":
        return f"ipv6:%5B{address.host}%5D:{address.port}"
    return f"ipv4:{address.host}:{address.port}"


def _get_endpoint(address: Multiaddr) -> str:
    """The address as gRPC listens on it."""
    return f"[{address.host}]:{address.port}" if address.kind == "ip6" else f"{address.host}:{address.port}"
