"""Nodes in a simulated world: `node.ports.Transport` over its network, and nothing else.

A node's address is /ip4/127.0.0.1/tcp/PORT, as it is for nodes on one real machine: the port names the
host. The bounds are those of the real transport.
"""

from collections.abc import Sequence

import grpc

from kernel.errors import UsageError
from kernel.multiaddr import Multiaddr
from node.rpc.limits import MAX_CONCURRENT_CALLS, MAX_MESSAGE_BYTES
from node.transport.loopback import CONNECT_TIMEOUT_S, PING_EVERY_S, PING_TIMEOUT_S
from node.transport.options import MAX_HEADER_BYTES, MAX_STREAMS
from simnet.world.network import IP, Host

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
)


class SimTransport:
    """`node.ports.Transport` of one host."""

    connect_timeout_s = CONNECT_TIMEOUT_S
    ping_every_s = PING_EVERY_S
    ping_timeout_s = PING_TIMEOUT_S

    def __init__(self, host: Host) -> None:
        """What is listened on and dialled begins and ends with the host."""
        self._host = host

    def listen(
        self, address: Multiaddr, interceptors: Sequence[grpc.aio.ServerInterceptor]
    ) -> tuple[grpc.aio.Server, Multiaddr]:
        """See `node.ports.Transport`."""
        _check_simulated(address)
        server, port = self._host.listen(address.port, interceptors, _OPTIONS, MAX_CONCURRENT_CALLS)
        return server, Multiaddr(address.kind, address.host, port)

    async def relearn(self, address: Multiaddr) -> None:
        """See `node.ports.Dialler`: there is nothing to learn."""

    def dial(self, address: Multiaddr) -> grpc.aio.Channel:
        """See `node.ports.Transport`."""
        _check_simulated(address)
        return self._host.dial(address.port, _OPTIONS)


def _check_simulated(address: Multiaddr) -> None:
    if address.kind != "ip4" or address.host != IP:
        raise UsageError(
            f"{address} is no address of the simulated world",
            hint=f"Its nodes use /ip4/{IP}/tcp/PORT.",
        )
