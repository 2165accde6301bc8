"""Nodes on one machine: TCP on loopback addresses, and nothing else.

The bounds here hold for a connection before anybody has said who he is: how many there may be, how long one
may be silent, how large a message and its headers may be. What a call may take: `node/rpc/limits.py`.
"""

from collections.abc import Sequence

import grpc

from kernel.errors import Conflict, UsageError
from kernel.multiaddr import Multiaddr
from node.rpc.limits import MAX_CONCURRENT_CALLS, MAX_MESSAGE_BYTES

MAX_CONNECTIONS = 4096
MAX_STREAMS = 128
MAX_HEADER_BYTES = 16 << 10
HANDSHAKE_TIMEOUT_MS = 10_000
IDLE_TIMEOUT_MS = 120_000
_COMMON = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES),
)
_SERVER = (
    *_COMMON,
    ("grpc.so_reuseport", 0),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT_MS),
    ("grpc.max_connection_idle_ms", IDLE_TIMEOUT_MS),
)
_CLIENT = (
    *_COMMON,
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
)


class LoopbackTransport:
    """`node.ports.Transport` over loopback TCP."""

    def listen(
        self, address: Multiaddr, interceptors: Sequence[grpc.aio.ServerInterceptor]
    ) -> tuple[grpc.aio.Server, Multiaddr]:
        """See `node.ports.Transport`."""
        _check_loopback(address)
        server = grpc.aio.server(
            interceptors=list(interceptors), options=_SERVER, maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS
        )
        try:
            port = server.add_insecure_port(_get_endpoint(address))
        except RuntimeError as error:
            raise Conflict(
                f"port {address.port} of {address.host} cannot be listened on: it is taken, or not allowed",
                hint="Set `listen` to a free port, or to port 0, which takes one.",
            ) from error
        return server, Multiaddr(address.kind, address.host, port)

    def dial(self, address: Multiaddr) -> grpc.aio.Channel:
        """See `node.ports.Transport`."""
        _check_loopback(address)
        return grpc.aio.insecure_channel(_get_target(address), options=_CLIENT)


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
