"""Addresses on loopback that stay a cluster's own while it runs.

A port is bound by the supervisor, which does not listen on it: the kernel gives it to nobody who asks for a
free one, while a daemon that asks for this very port, with SO_REUSEADDR as servers do, gets it. So addresses
are known before the first node starts, and are still the same after a node was killed and started again.
"""

import socket
from dataclasses import dataclass

HOST = "127.0.0.1"


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
