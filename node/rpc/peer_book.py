"""The peers of this node: those that its owner configured, and those that have come by themselves.

Every configured address has a link that is tried for ever. Until there is a directory, what is brought to
other nodes is brought to these alone: chunks, heads, checkpoints to be co-signed. Anybody can be a visitor,
as often as he likes; so visitors are served within their limits, and never chosen for anything, nor dialled
unless the owner himself names one.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from weakref import WeakKeyDictionary

from dht.ports import Peer, PeerIdentity
from kernel.errors import LucidError, NotFound, StoreError, UsageError
from kernel.multiaddr import Multiaddr
from kernel.peer_id import encode_peer_id
from kernel.ports import Clock, Entropy
from lucid.v1 import control_pb2
from node.identity.peer_record import Presentation
from node.logs import Logger
from node.ports import Transport
from node.rpc.acquaintances import Acquaintance, Acquaintances
from node.rpc.greeting import Greeted, Greeter
from node.rpc.link import Link, LinkPorts

MAX_CALLED = 64
"""Visitors that the owner had dialled since the daemon was started."""


class PeerBook:
    """`dht.ports.Peers` over gRPC."""

    def __init__(
        self,
        acquaintances: Acquaintances,
        greeter: Greeter,
        transport: Transport,
        clock: Clock,
        entropy: Entropy,
        log: Logger,
        configured: Sequence[Multiaddr],
    ) -> None:
        self._acquaintances = acquaintances
        self._log = log
        self._ports = LinkPorts(
            transport,
            greeter,
            clock,
            entropy,
            self._find_addresses,
            self._on_greeted,
            self._on_changed,
            self._on_seen,
        )
        self._configured = [Link(self._ports, address) for address in configured]
        # Whom the owner configured: by name, or by where somebody answers.
        self._devices = {address.device for address in configured if address.device is not None}
        self._places = {address for address in configured if address.device is None}
        self._called: list[Link] = []
        self._group: asyncio.TaskGroup | None = None
        self._changes = 0
        self._changed = asyncio.Event()
        self._seen_changes: WeakKeyDictionary[asyncio.Task[object], int] = WeakKeyDictionary()

    async def run(self) -> None:
        """Keeps all links until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for link in self._configured:
                    link.start(group)
                await asyncio.Event().wait()
            finally:
                self._group = None

    def known(self) -> Sequence[PeerIdentity]:
        """See `dht.ports.Peers`: who was met at a configured address, or is named by one."""
        return [known.identity for known in self._acquaintances.all() if self._is_configured(known)]

    def is_known(self, device: bytes) -> bool:
        """Is it one of the known peers?"""
        known = self._acquaintances.get(device)
        return known is not None and self._is_configured(known)

    def find(self, device: bytes) -> Peer | None:
        """See `dht.ports.Peers`."""
        for link in chain(self._configured, self._called):
            if link.device == device and link.peer is not None:
                return link.peer
        return None

    async def wait_changed(self) -> None:
        """See `dht.ports.Peers`. Callers are told apart by their tasks."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can wait")
        while self._changes == self._seen_changes.get(task, 0):
            await self._changed.wait()
        self._seen_changes[task] = self._changes

    async def on_visited(self, presentation: Presentation) -> None:
        """Takes a peer that has dialled this node and proved who it is; where it listens, it may claim."""
        await self._remember(presentation, None)
        device = presentation.identity.device
        for link in self._links:
            is_claimed = link.device is None and link.address.place in presentation.addresses
            if link.device == device or is_claimed:
                link.retry()

    async def reach(self, name: str) -> Link:
        """The link to a peer, tried now if it is down. A visitor is dialled where it says that it listens.

        Args:
            name: peer ID, an unambiguous beginning of one, or a multiaddr; by the owner's word alone.

        Raises:
            NotFound: there is no such peer.
            UsageError: several peers have such a name.
        """
        link = self._find_link(name) or self._call(name)
        if link is None:
            raise NotFound(f'there is no peer "{name}"', hint="`lucid-node peers` lists them.")
        await link.try_now()
        return link

    async def try_all(self) -> None:
        """Tries at once to reach all configured peers; returns when all attempts have ended."""
        await asyncio.gather(*(link.try_now() for link in self._configured))

    def retry_all(self) -> None:
        """Lets links that are down be tried now: something has changed that may help them."""
        for link in self._links:
            if link.peer is None:
                link.retry()

    def describe(self) -> list[control_pb2.Peer]:
        """All peers, for people: known ones first, then addresses where nobody was met yet."""
        links = self._links
        shown = []
        for known in self._acquaintances.all():
            mine = [link for link in links if link.device == known.identity.device]
            mine.sort(key=lambda link: link.peer is None)
            shown.append(_describe_known(known, mine[0] if mine else None))
            links = [link for link in links if link not in mine]
        return shown + [describe_link(link) for link in links]

    def describe_one(self, link: Link) -> control_pb2.Peer:
        """The peer behind a link, for people."""
        known = None if link.device is None else self._acquaintances.get(link.device)
        return describe_link(link) if known is None else _describe_known(known, link)

    def count_configured(self) -> int:
        """Addresses that the owner configured."""
        return len(self._configured)

    def count_connected(self) -> int:
        """Configured peers that can be called now."""
        return len({link.device for link in self._configured if link.peer is not None})

    @property
    def _links(self) -> list[Link]:
        return self._configured + self._called

    def _is_configured(self, known: Acquaintance) -> bool:
        return known.identity.device in self._devices or known.address in self._places

    def _find_link(self, name: str) -> Link | None:
        found = {
            id(link): link
            for link in self._links
            if name in {str(one) for at in (link.address, link.dialled) for one in (at, at.place)}
            or (name and link.device is not None and encode_peer_id(link.device).startswith(name))
        }
        if not found:
            return None
        if len({link.device for link in found.values()}) > 1:
            raise UsageError(f'several peers are called "{name}"', hint="Write more of the ID.")
        return min(found.values(), key=lambda link: link.peer is None)

    def _call(self, name: str) -> Link | None:
        """A new link to the one visitor of that name; None if there is none, or nowhere to dial."""
        found = [
            replace(known.addresses[0], device=known.identity.device)
            for known in self._acquaintances.all()
            if name and known.addresses and encode_peer_id(known.identity.device).startswith(name)
        ]
        if len(found) > 1:
            raise UsageError(f'several peers are called "{name}"', hint="Write more of the ID.")
        if not found or self._group is None or len(self._called) >= MAX_CALLED:
            return None
        link = Link(self._ports, found[0])
        link.start(self._group)
        self._called.append(link)
        return link

    def greet_anew(self) -> None:
        """Presents this node to all peers again, now: its record has changed."""
        for link in self._links:
            link.greet_anew()

    def _find_addresses(self, address: Multiaddr) -> list[Multiaddr]:
        """Where to dial the peer of a configured address: where its newest record says, then there."""
        if address.device is None:
            known = self._acquaintances.find(address)
        else:
            known = self._acquaintances.get(address.device)
        if known is None:
            return [address]
        # Where the owner said to dial, whoever he said may answer; elsewhere only this node.
        others = [one for one in known.addresses if one != address.place]
        moved = [replace(one, device=known.identity.device) for one in others]
        return [address, *moved] if address.place in known.addresses else [*moved, address]

    async def _on_greeted(self, link: Link, greeted: Greeted) -> None:
        await self._remember(greeted.presentation, link.address.place)

    async def _remember(self, presentation: Presentation, address: Multiaddr | None) -> None:
        try:
            await self._acquaintances.meet(presentation, address)
        except StoreError as error:
            self._log.warning("peer cannot be stored", why=str(error))

    def _on_changed(self, link: Link) -> None:
        peer_id = "" if link.device is None else encode_peer_id(link.device)
        event = "peer lost" if link.peer is None else "peer connected"
        self._log.info(event, peer=peer_id, address=str(link.dialled.place), why=link.trouble)
        self._changes += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _on_seen(self, device: bytes) -> None:
        try:
            await self._acquaintances.see(device)
        except LucidError as error:
            self._log.warning("peer cannot be stored", why=str(error))


def describe_link(link: Link) -> control_pb2.Peer:
    """An address, for people."""
    return control_pb2.Peer(
        peer_id="" if link.device is None else encode_peer_id(link.device),
        address=str(link.dialled.place),
        connected=link.peer is not None,
        latency_us=link.latency_ns // 1000,
        protocol=link.version,
        trouble=link.trouble,
    )


def _describe_known(known: Acquaintance, link: Link | None) -> control_pb2.Peer:
    shown = control_pb2.Peer(
        peer_id=encode_peer_id(known.identity.device),
        address=str(known.address or next(iter(known.addresses), "")),
        trouble="it came by itself: it is served, and nothing is brought to it",
    )
    if link is not None:
        shown = describe_link(link)
    shown.last_seen_ns = known.last_seen_ns
    shown.software = known.software
    shown.owner_id = known.identity.owner.hex()
    return shown
