"""Hosts, and how they reach each other.

Rules:

- All hosts share the address 127.0.0.1, as the nodes of one machine do: a port belongs to the host that
  listened on it last, also while nothing listens there.
- A name has one living host at a time. Who dies may come again under its name, as another incarnation;
  nothing of the one before reaches it.
- Conditions belong to directed links between names, and hold at once for what is sent from then on.
- Everything happens on the running loop, in an order that depends on the seed alone.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from kernel.errors import Conflict
from simnet.world.attempts import Attempt, Listener
from simnet.world.connection import Connection
from simnet.world.links import Conditions, Link
from simnet.world.rpc_channel import Channel
from simnet.world.rpc_server import Server

IP = "127.0.0.1"
FIRST_PORT = 20_000
_FIRST_CLIENT_PORT, _CLIENT_PORTS = 40_000, 25_000

OnEvent = Callable[[str, str, str], None]
OnCall = Callable[[str, str, float | None], None]
OnResponse = Callable[[str, str, bytes], None]


class Network:
    """All hosts and links of a world.

    Attributes:
        on_event: learns what happens: where, what kind, and the detail.
        on_call: learns of every call that begins: where, method, and the seconds that it may take.
        on_response: learns of every answer before it is sent: where, method, and its bytes.
    """

    def __init__(self, rng: random.Random, on_event: OnEvent) -> None:
        """A network without hosts.

        Args:
            rng: whatever happens by chance is drawn from it.
            on_event: learns what happens: where, what kind, and the detail.
        """
        self._rng = rng
        self.on_event = on_event
        self.on_call: OnCall | None = None
        self.on_response: OnResponse | None = None
        self._default = Conditions()
        self._links: dict[tuple[str, str], Link] = {}
        self._hosts: dict[str, Host] = {}
        self._listeners: dict[int, Listener] = {}
        self._owners: dict[int, str] = {}
        self._connections: dict[Connection, None] = {}
        self._attempts: dict[Attempt, None] = {}
        self._next_port = FIRST_PORT
        self._connected = 0

    def host(self, name: str) -> "Host":
        """A new host, or the next incarnation of one that has crashed.

        Raises:
            Conflict: the host lives.
        """
        if name in self._hosts and self._hosts[name].is_alive:
            raise Conflict(f"the host {name} lives", hint="Crash it before you start it again.")
        self._hosts[name] = host = Host(self, name)
        self.refresh()
        return host

    def set_conditions(self, source: str, target: str, conditions: Conditions) -> None:
        """Changes one direction between two names."""
        self.get_link(source, target).conditions = conditions
        self.refresh()

    def set_default(self, conditions: Conditions) -> None:
        """Changes all links that were not set one by one before, and those that come."""
        before, self._default = self._default, conditions
        for link in self._links.values():
            if link.conditions is before:
                link.conditions = conditions
        self.refresh()

    def pause(self, host: "Host") -> None:
        """Stops a host: it neither receives nor sends until `resume`; its machine still acknowledges."""
        host.is_paused = True
        self.refresh()

    def resume(self, host: "Host") -> None:
        """Lets a host that was paused go on."""
        host.is_paused = False
        self.refresh()

    def draw(self) -> float:
        """Chance, in [0, 1)."""
        return self._rng.random()

    def get_link(self, source: str, target: str) -> Link:
        """The link from one name to another."""
        link = self._links.get((source, target))
        if link is None:
            link = self._links[source, target] = Link(self._default, self._rng)
        return link

    def get_incarnation(self, name: str) -> "Host":
        """The host that has the name now."""
        return self._hosts[name]

    def get_owner(self, port: int) -> str | None:
        """Whose port it is; None if nobody ever listened on it."""
        return self._owners.get(port)

    def find_listener(self, port: int) -> Listener | None:
        """Who listens on a port."""
        return self._listeners.get(port)

    def refresh(self) -> None:
        """Applies what has changed to everything that stands or begins."""
        for connection in list(self._connections):
            connection.refresh()
        for attempt in list(self._attempts):
            attempt.proceed()

    def bind(self, listener: "Listener", port: int) -> int:
        """Takes a port, 0 for any that is free.

        Raises:
            Conflict: it is taken.
        """
        while port == 0:
            port, self._next_port = self._next_port, self._next_port + 1
            port = 0 if port in self._owners else port
        if port in self._listeners:
            raise Conflict(f"port {port} is taken", hint="Use port 0, which takes a free one.")
        self._listeners[port], self._owners[port] = listener, listener.host.name
        return port

    def unbind(self, port: int, listener: "Listener") -> None:
        """Gives a port back; it stays the host's."""
        if self._listeners.get(port) is listener:
            del self._listeners[port]
        self.refresh()

    def begin(self, attempt: "Attempt") -> None:
        """Looks after an attempt until it has ended."""
        self._attempts[attempt] = None

    def end(self, attempt: "Attempt") -> None:
        """Forgets an attempt."""
        self._attempts.pop(attempt, None)

    def connect(self, client: "Host", server: "Host", port: int) -> Connection:
        """A connection that stands from now on."""
        client_port = _FIRST_CLIENT_PORT + self._connected % _CLIENT_PORTS
        self._connected += 1
        there, back = self.get_link(client.name, server.name), self.get_link(server.name, client.name)
        sides = (client, f"ipv4:{IP}:{client_port}", there), (server, f"ipv4:{IP}:{port}", back)
        connection = Connection(*sides, self._rng, self._forget)
        self._connections[connection] = None
        client.connections[connection] = server.connections[connection] = None
        self.on_event(client.name, "connect", server.name)
        return connection

    def _forget(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        for end in (connection.client, connection.server):
            if isinstance(end.place, Host):
                end.place.connections.pop(connection, None)


class Host:
    """One incarnation of a machine.

    Attributes:
        network: it belongs to.
        name: of the machine.
        is_alive: has it not crashed yet?
        is_paused: set by `Network.pause`.
        connections: that have an end here.
    """

    def __init__(self, network: Network, name: str) -> None:
        self.network = network
        self.name = name
        self.is_alive = True
        self.is_paused = False
        self.connections: dict[Connection, None] = {}
        self._has_power = True
        self._listeners: dict[Listener, None] = {}

    @property
    def is_reachable(self) -> bool:
        """Does the machine have power, in this incarnation or a later one?"""
        return self._has_power or self.network.get_incarnation(self.name)._has_power

    def listen(
        self,
        port: int = 0,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        options: Sequence[tuple[str, Any]] = (),
        maximum_concurrent_rpcs: int | None = None,
    ) -> tuple[Server, int]:
        """A server that is bound, but not started, and its port.

        Raises:
            Conflict: the port is taken.
        """
        server = Server(self, interceptors, options, maximum_concurrent_rpcs)
        return server, server.bind(port)

    def dial(self, port: int, options: Sequence[tuple[str, Any]] = ()) -> Channel:
        """A channel to whoever has the port when it connects."""
        return Channel(self, port, options)

    def crash(self, *, power_cut: bool = False) -> None:
        """Ends everything here at once; nothing of this incarnation is sent any more.

        Args:
            power_cut: nobody is told: peers find out by their own deadlines. Otherwise they see a reset.
        """
        self.is_alive = False
        self._has_power = not power_cut
        for listener in list(self._listeners):
            listener.on_crash()
        for connection in list(self.connections):
            mine, other = connection.client, connection.server
            if mine.place is not self:
                mine, other = other, mine
            mine.die()
            if other.is_open:
                connection.carry_reset(mine)
            else:
                connection.forget()
        self.network.refresh()

    @property
    def buffered_bytes(self) -> int:
        """What has come and was not read yet, and what is on its way from here."""
        ends = [end for each in self.connections for end in (each.client, each.server) if end.place is self]
        unread = sum(stream.buffered_bytes for end in ends for stream in end.streams)
        return unread + sum(end.out.held_bytes for end in ends)

    def add_listener(self, listener: "Listener") -> None:
        """Has a listener crash with the host."""
        self._listeners[listener] = None

    def remove_listener(self, listener: "Listener") -> None:
        """Forgets a listener."""
        self._listeners.pop(listener, None)
