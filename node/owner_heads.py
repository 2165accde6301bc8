"""Heads, restoring and sharing of one node, put together.

A node whose keystore is older than heads has no head grant: it shares, and takes what is shared with it, but
publishes and restores nothing.
"""

from dht.bandwidth import Pace
from dht.blob_source import BlobSource
from dht.devices import OwnersDevices
from dht.object_store import ObjectStore
from dht.ports import Peers
from dht.publishing import HeadKeys, HeadPublisher
from dht.restoring import Restored, Restorer
from dht.sharing import OfferTaker, Sharer
from kernel.errors import Conflict, PeerFault
from kernel.grants import verify_grant_list
from node.identity.peer_keys import PeerKeys
from node.logs import Logger
from node.session_copies import SessionCopies
from session.access import RecorderKeys
from session.ports import SessionPorts
from session.session_manager import SessionManager


class OwnerHeads:
    """What this node does so that its owner's sessions survive it.

    Attributes:
        publisher: publishes heads; None without a head grant.
        sharer: lets other nodes read sessions.
        taker: takes what other owners share.
    """

    def __init__(
        self,
        ports: SessionPorts,
        keys: RecorderKeys,
        peer_keys: PeerKeys,
        manager: SessionManager,
        peers: Peers,
        pace: Pace,
        log: Logger,
    ) -> None:
        self._log = log
        self._peers = peers
        self._manager = manager
        self._device = keys.device.public_key
        self.publisher: HeadPublisher | None = None
        self._restorer: Restorer | None = None
        self._devices: OwnersDevices | None = None
        network, grant = keys.network, peer_keys.head_grant
        copies = SessionCopies(ports, keys, manager, keys.others.add)
        source = BlobSource(ports.blobs, peers, pace, self._on_fault)
        if grant is not None:
            locator = grant.public_key
            self._devices = OwnersDevices(network, locator, ports.records, ports.journal, copies.trust)
            objects = ObjectStore(network, ports.blobs, ports.clock, ports.entropy, peers, pace)
            head_keys = HeadKeys(network, keys.device, grant, keys.reader)
            self.publisher = HeadPublisher(
                head_keys, ports.records, ports.clock, ports.entropy, objects, peers, copies, self.catch_up
            )
            self._restorer = Restorer(
                network,
                locator,
                keys.reading,
                ports.records,
                ports.clock,
                peers,
                copies,
                self._devices,
                source.fetch,
            )
        self.sharer = Sharer(
            keys.device.public_key,
            peer_keys.grants,
            verify_grant_list(peer_keys.grants, network),
            grant,
            self._devices,
            self.publisher,
            copies,
            copies,
        )
        self.taker = OfferTaker(network, copies, source.fetch)

    async def start(self) -> list[str]:
        """Before sessions are used; returns what is wrong, in words."""
        if self._devices is None or self.publisher is None:
            return []
        await self._devices.start()
        self._manager.on_change = self.publisher.on_change
        return self._devices.problems

    @property
    def problems(self) -> list[str]:
        """What keeps heads from being where they should be; nothing while there are no peers."""
        problem = self.publisher.problem if self.publisher is not None else ""
        return [problem] if problem and self._peers.known() else []

    async def run(self) -> None:
        """Publishes heads until it is cancelled; returns at once if this node publishes none."""
        if self.publisher is not None:
            await self.publisher.run()

    async def restore(self, progress: Restored) -> None:
        """Brings back what heads tell of. See `Restorer.restore`.

        Raises:
            Conflict: this node has no head grant.
        """
        if self._restorer is None:
            raise Conflict(
                "the keystore of this node is older than heads",
                hint="Use `lucid-node restore` on a new home.",
            )
        await self._restorer.restore(progress)

    async def catch_up(self, sequence: int = 0) -> int:
        """Brings this store up to this node's newest head, if it is an old copy. See `Restorer.catch_up`.

        Returns:
            The number of the newest head, or `sequence`.

        Raises:
            Unavailable: what is missing cannot be fetched now.
        """
        if self._restorer is None:
            return sequence
        problems: list[str] = []
        sequence = await self._restorer.catch_up(self._device, sequence, problems)
        for problem in problems:
            self._log.warning("an old copy cannot be brought up", why=problem)
        return sequence

    def _on_fault(self, fault: PeerFault) -> None:
        self._log.warning("a peer broke the rules", why=str(fault))
