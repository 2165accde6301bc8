"""How connections come about: a handshake that travels over the links, and is answered by who listens.

Rules: a port where nobody listens refuses at once, if its machine has power; a link that is cut, a machine
without power, and a server that does not accept yet are waited for, until connecting takes too long.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from simnet.world.connection import End
from simnet.world.links import CONNECT_TIMEOUT_S, Link

if TYPE_CHECKING:
    from simnet.world.network import Host

_SYN_RETRANSMIT_S = 1.0

OnConnected = Callable[[End | None, str], None]


class Listener(Protocol):
    """What listens on a port: a server.

    Attributes:
        host: where.
        is_accepting: does it take connections now? Otherwise they wait.
    """

    host: "Host"
    is_accepting: bool

    def accept(self, end: End) -> None:
        """Takes a connection."""
        ...

    def on_crash(self) -> None:
        """The host has died."""
        ...


class Attempt:
    """One try to connect: it works, is refused, or ends after a while."""

    def __init__(self, client: "Host", port: int, on_connected: OnConnected) -> None:
        """Begins at once; `on_connected` gets the client's end, or None and why there is none."""
        self._client = client
        self._port = port
        self._on_connected: OnConnected | None = on_connected
        self._has_travelled = False
        self._loop = asyncio.get_running_loop()
        self._network = client.network
        self._network.begin(self)
        self._timeout = self._loop.call_later(CONNECT_TIMEOUT_S, self._end, None, "connecting took too long")
        self._travelling: asyncio.Handle | None = None
        self.proceed()

    def cancel(self) -> None:
        """Gives up; nobody is told."""
        self._on_connected = None
        self._end(None, "")

    def proceed(self) -> None:
        """Goes on if it can: conditions or hosts have changed."""
        name = self._network.get_owner(self._port)
        if name is None:
            self._travel(0.0)
            return
        server = self._network.get_incarnation(name)
        there, back = self._get_links(name)
        if there.conditions.blocked or back.conditions.blocked or not server.is_reachable:
            self._stay()
        elif self._has_travelled:
            self._arrive()
        elif self._travelling is None:
            now = self._loop.time()
            self._travel(
                there.draw_delay_s(0, now, _SYN_RETRANSMIT_S) + back.draw_delay_s(0, now, _SYN_RETRANSMIT_S)
            )

    def _get_links(self, name: str) -> tuple[Link, Link]:
        client = self._client.name
        return self._network.get_link(client, name), self._network.get_link(name, client)

    def _travel(self, delay_s: float) -> None:
        if self._travelling is not None:
            return
        if delay_s:
            self._travelling = self._loop.call_later(delay_s, self._arrive)
        else:
            self._travelling = self._loop.call_soon(self._arrive)

    def _stay(self) -> None:
        if self._travelling is not None:
            self._travelling.cancel()
            self._travelling = None

    def _arrive(self) -> None:
        self._has_travelled = True
        listener = self._network.find_listener(self._port)
        if not self._client.is_alive:
            self.cancel()
        elif listener is None:
            self._end(None, "nobody listens there")
        elif listener.is_accepting and not listener.host.is_paused and not self._client.is_paused:
            connection = self._network.connect(self._client, listener.host, self._port)
            listener.accept(connection.server)
            self._end(connection.client, "")

    def _end(self, end: End | None, why: str) -> None:
        self._timeout.cancel()
        self._stay()
        self._network.end(self)
        on_connected, self._on_connected = self._on_connected, None
        if on_connected is not None:
            on_connected(end, why)
