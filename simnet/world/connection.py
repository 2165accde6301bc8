"""Connections: two ends, each with what it sees itself.

Rules:

- An end is lost when its own bytes stay unacknowledged, when a reset reaches it, or when its host dies. The
  other end learns of it by a reset, if that gets through; otherwise when it sends something next.
- An end that finishes in good order is told of behind everything that it has sent.
- A host without power answers nothing; one that runs answers a reset to whatever it does not know.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Protocol

from simnet.world.links import Link, Pipe

UNLIMITED_STREAMS = 1 << 31


class Place(Protocol):
    """What an end must know of its host."""

    name: str
    is_paused: bool

    @property
    def is_reachable(self) -> bool:
        """Does the machine have power, whatever runs on it?"""
        ...


class Stream(Protocol):
    """One half of a call, at one end."""

    @property
    def buffered_bytes(self) -> int:
        """What has come and was not read yet."""
        ...

    def on_lost(self, why: str) -> None:
        """The connection is gone."""
        ...


class End:
    """One end of a connection.

    Attributes:
        place: the host.
        address: as the other side names it, "ipv4:127.0.0.1:PORT".
        streams: the calls that it carries, in the order in which they began.
        out: what it sends goes in here.
        peer: the other end.
        is_open: can it be used?
        on_open: at a server, what takes a new call.
        on_closed: called once, when the end was lost or the other one has finished.
        max_streams: calls that it takes at once; more wait at the other end.
    """

    peer: "End"

    def __init__(self, connection: "Connection", place: Place, address: str, link: Link) -> None:
        self.place = place
        self.address = address
        self.link = link
        self.streams: dict[Stream, None] = {}
        self.is_open = True
        self.on_open: Callable[[Any], None] | None = None
        self.on_closed: Callable[[End, str], None] | None = None
        self.on_draining: Callable[[End], None] | None = None
        self.max_streams = UNLIMITED_STREAMS
        self._connection = connection
        self.out = Pipe(link, self._on_timeout, self._on_refused)

    def finish(self) -> None:
        """Ends the connection in good order; streams that are left are lost."""
        if self.is_open:
            self.out.send(0, self.peer._on_reset, "the other side has closed the connection")
            self._end("the connection was closed")

    def drain(self) -> None:
        """Asks the other end to begin no more calls here."""
        if self.is_open:
            self.out.send(0, self.peer._on_goaway, None)

    def reset(self, why: str) -> None:
        """Ends the connection at once, and tells the other end if that is possible."""
        if self.is_open:
            self.out.close()
            self._end(why)
            self._connection.carry_reset(self)

    def die(self) -> None:
        """The host is gone: nothing is sent any more, and nobody here learns of it."""
        self.is_open = False
        self.out.close()
        self.peer.out.set_deaf()
        self.streams.clear()

    def _end(self, why: str) -> None:
        self.is_open = False
        self.peer.out.set_deaf()
        streams, self.streams = self.streams, {}
        for stream in streams:
            stream.on_lost(why)
        if self.on_closed is not None:
            self.on_closed(self, why)
        if not self.peer.is_open:
            self._connection.forget()

    def _on_timeout(self) -> None:
        self.reset("nothing was acknowledged for too long")

    def _on_refused(self) -> None:
        self._connection.carry_reset(self.peer)

    def _on_goaway(self, _: None) -> None:
        if self.is_open and self.on_draining is not None:
            self.on_draining(self)

    def _on_reset(self, why: str) -> None:
        if self.is_open:
            self.out.close()
            self._end(why)


class Connection:
    """A connection that stands.

    Attributes:
        client: end of who has dialled.
        server: end of who was dialled.
    """

    def __init__(
        self,
        client: tuple[Place, str, Link],
        server: tuple[Place, str, Link],
        rng: random.Random,
        on_forgotten: "Callable[[Connection], None]",
    ) -> None:
        """Each side: its host, its address, and the link that leads away from it."""
        self.client, self.server = End(self, *client), End(self, *server)
        self.client.peer, self.server.peer = self.server, self.client
        self._loop = asyncio.get_running_loop()
        self._rng = rng
        self._on_forgotten = on_forgotten
        self._chance: asyncio.TimerHandle | None = None
        self.refresh()

    def refresh(self) -> None:
        """Takes over what has changed about hosts and links."""
        for end in (self.client, self.server):
            to = end.peer
            is_blocked = end.link.conditions.blocked or not to.place.is_reachable
            end.out.update(
                is_held=is_blocked or end.place.is_paused or to.place.is_paused,
                is_unacknowledged=is_blocked or to.link.conditions.blocked,
            )
        self._draw_reset()

    def carry_reset(self, end: End) -> None:
        """Takes the reset that `end`, or its host for it, has sent to the other end, if that is possible."""
        to = end.peer
        if not to.is_open or end.link.conditions.blocked or not end.place.is_reachable:
            return
        delay_s = 0.0 if end.link.conditions.is_instant else end.link.draw_delay_s(0, self._loop.time())
        self._loop.call_later(delay_s, to._on_reset, "the connection was reset")

    def forget(self) -> None:
        """Lets go of everything once both ends are gone."""
        if self._chance is not None:
            self._chance.cancel()
            self._chance = None
        self._on_forgotten(self)

    def _draw_reset(self) -> None:
        if self._chance is not None:
            self._chance.cancel()
            self._chance = None
        rate = self.client.link.conditions.reset_per_s + self.server.link.conditions.reset_per_s
        if rate:
            self._chance = self._loop.call_later(self._rng.expovariate(rate), self._reset_by_chance)

    def _reset_by_chance(self) -> None:
        for end in (self.client, self.server):
            end._on_reset("the connection was reset")
