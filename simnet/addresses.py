"""Addresses of nodes, known before the first one starts.

Onion addresses grow from the nodes' keys. Ports on loopback stay a cluster's own while it runs: the
supervisor binds them and does not listen. The kernel gives such a port to nobody who asks for a free one,
while a daemon that asks for this very port, with SO_REUSEADDR as servers do, gets it. So addresses are still
the same after a node was killed and started again.
"""

import socket
from dataclasses import dataclass
from typing import Protocol

HOST = "127.0.0.1"


class NodeAddress(Protocol):
    """Where peers reach a node."""

    @property
    def grpc(self) -> str:
        """As HOST:PORT."""
        ...

    @property
    def multiaddr(self) -> str:
        """As a multiaddr."""
        ...


@dataclass(frozen=True, slots=True)
class OnionAddress:
    """The address of an onion service.

    Attributes:
        host: 56 characters, without ".onion".
        port: the port.
    """

    host: str
    port: int

    @property
    def grpc(self) -> str:
        """As HOST:PORT."""
        return f"{self.host}.onion:{self.port}"

    @property
    def multiaddr(self) -> str:
        """As a multiaddr."""
        return f"/onion3/{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """A reserved address.

    Attributes:
        reservation: the bound socket; closing it gives the port back.
        port: the port.
    """

    reservation: socket.socket
    port: int

    @property
    def grpc(self) -> str:
        """As HOST:PORT."""
        return f"{HOST}:{self.port}"

    @property
    def multiaddr(self) -> str:
        """As a multiaddr."""
        return f"/ip4/{HOST}/tcp/{self.port}"


def reserve_address() -> Address:
    """Reserves a free port.

    Raises:
        OSError: there is none.
    """
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind((HOST, 0))
    except OSError:
        reservation.close()
        raise
    return Address(reservation, reservation.getsockname()[1])
