"""The peers of this node: those that its owner configured, and those that have come by themselves.

Every configured address has a link that is tried for ever. A peer that dials this node is called back where
it says that it listens; if it does not answer there for a while, its link ends, though it stays known.
"""

import asyncio
from collections.abc import Sequence
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

MAX_LEARNED = 256
MAX_LEARNED_FAILURES = 10


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
            transport, greeter, clock, entropy, self._on_greeted, self._on_changed, self._on_seen
        )
        self._configured = [Link(self._ports, address, is_configured=True) for address in configured]
        self._learned: dict[bytes, tuple[Link, asyncio.Task[None]]] = {}
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
                    group.create_task(link.run())
                for acquaintance in self._acquaintances.all():
                    self._call_back(acquaintance.identity.device, acquaintance.address)
                await asyncio.Event().wait()
            finally:
                self._group = None

    def known(self) -> Sequence[PeerIdentity]:
        """See `dht.ports.Peers`. Whoever listens nowhere is not counted: nothing can be brought there."""
        return [known.identity for known in self._acquaintances.all() if known.address is not None]

    def find(self, device: bytes) -> Peer | None:
        """See `dht.ports.Peers`."""
        return next((link.peer for link in self._links() if link.peer and link.device == device), None)

    async def wait_changed(self) -> None:
        """See `dht.ports.Peers`. Callers are told apart by their tasks."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can wait")
        while self._changes == self._seen_changes.get(task, 0):
            await self._changed.wait()
        self._seen_changes[task] = self._changes

    async def on_visited(self, presentation: Presentation) -> None:
        """Takes a peer that has dialled this node and proved who it is."""
        await self._remember(presentation, None)
        device = presentation.identity.device
        configured = [
            link
            for link in self._configured
            if link.device == device or link.address.place in presentation.addresses
        ]
        for link in configured:
            link.retry()
        if not configured:
            self._call_back(device, next(iter(presentation.addresses), None))

    async def reach(self, name: str) -> Link:
        """The link to a peer, tried now if it is down.

        Args:
            name: peer ID, an unambiguous beginning of one, or a multiaddr.

        Raises:
            NotFound: there is no such peer.
            UsageError: several peers have such a name.
        """
        link = self._find_link(name)
        await link.try_now()
        return link

    async def try_all(self) -> None:
        """Tries at once to reach all configured peers; returns when all attempts have ended."""
        await asyncio.gather(*(link.try_now() for link in self._configured))

    def describe(self) -> list[control_pb2.Peer]:
        """All peers, for people: known ones first, then addresses where nobody was met yet."""
        links = self._links()
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

    def count_connected(self) -> int:
        """Peers that can be called now."""
        return len({link.device for link in self._links() if link.peer is not None})

    def _links(self) -> list[Link]:
        return self._configured + [link for link, _ in self._learned.values()]

    def _find_link(self, name: str) -> Link:
        found = {
            id(link): link
            for link in self._links()
            if name in (str(link.address), str(link.address.place))
            or (name and link.device is not None and encode_peer_id(link.device).startswith(name))
        }
        if not found:
            raise NotFound(f'there is no peer "{name}"', hint="`lucid-node peers` lists them.")
        if len({link.device for link in found.values()}) > 1:
            raise UsageError(f'several peers are called "{name}"', hint="Write more of the ID.")
        return min(found.values(), key=lambda link: link.peer is None)

    def _call_back(self, device: bytes, address: Multiaddr | None) -> None:
        """Keeps a link to a peer that nobody configured."""
        if address is None or any(link.device == device for link in self._configured):
            return
        link, task = self._learned.get(device, (None, None))
        if link is not None and link.address.place == address.place:
            link.retry()
            return
        if self._group is None or (link is None and len(self._learned) >= MAX_LEARNED):
            return
        if task is not None:
            task.cancel()
        place = address.place
        link = Link(self._ports, Multiaddr(place.kind, place.host, place.port, device), is_configured=False)
        self._learned[device] = link, self._group.create_task(self._keep_learned(link, device))

    async def _keep_learned(self, link: Link, device: bytes) -> None:
        try:
            await link.run(MAX_LEARNED_FAILURES)
        finally:
            if self._learned.get(device, (None, None))[0] is link:
                del self._learned[device]

    async def _on_greeted(self, link: Link, greeted: Greeted) -> None:
        device = greeted.presentation.identity.device
        if link.is_configured and device in self._learned:
            self._learned[device][1].cancel()
        await self._remember(greeted.presentation, link.address.place)

    async def _remember(self, presentation: Presentation, address: Multiaddr | None) -> None:
        try:
            await self._acquaintances.meet(presentation, address)
        except StoreError as error:
            self._log.warning("peer cannot be stored", why=str(error))

    def _on_changed(self, link: Link) -> None:
        peer_id = "" if link.device is None else encode_peer_id(link.device)
        event = "peer lost" if link.peer is None else "peer connected"
        self._log.info(event, peer=peer_id, address=str(link.address.place), why=link.trouble)
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
        address=str(link.address.place),
        connected=link.peer is not None,
        latency_us=link.latency_ns // 1000,
        protocol=link.version,
        trouble=link.trouble,
    )


def _describe_known(known: Acquaintance, link: Link | None) -> control_pb2.Peer:
    shown = control_pb2.Peer(
        peer_id=encode_peer_id(known.identity.device),
        address="" if known.address is None else str(known.address),
        trouble="it listens nowhere" if known.address is None else "it did not answer",
    )
    if link is not None:
        shown = describe_link(link)
    shown.last_seen_ns = known.last_seen_ns
    shown.software = known.software
    shown.owner_id = known.identity.owner.hex()
    return shown
