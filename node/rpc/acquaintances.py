"""Everybody this node has met, and the newest grant list of every owner.

A record is checked here, because a device that shows an old grant list may have been retired meanwhile: of
all lists of an owner the one with the highest sequence counts.

Peers that were reached at an address which the owner configured stand in the table `peers`. Whoever dialled
this node is only a visitor: anybody can make himself as many identities as he likes, so visitors cost no
disk, and memory for the last few alone.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from dht.ports import PeerIdentity
from dht.tables import PEERS
from kernel.domains import Network
from kernel.errors import InvalidRecord, Reason
from kernel.grants import is_newer
from kernel.multiaddr import Multiaddr, parse_multiaddr
from kernel.peer_card import check_granted
from kernel.ports import Clock, Delete, Operation, Put, Records
from lucid.v1 import chunk_pb2, identity_pb2, node_pb2
from node.identity.peer_record import Presentation, check_peer_record

MAX_KNOWN = 1024
MAX_VISITORS = 256
MAX_OWNERS = 256
"""Owners of visitors whose grant lists are remembered, up to 32 KiB each."""
STORE_EVERY_NS = 600 * 10**9


@dataclass(slots=True)
class Acquaintance:
    """A peer that was met.

    Attributes:
        identity: who it is.
        sequence: of its newest record.
        software: name and version, for people.
        address: configured address behind which it was met last; None if it never was, or another node is met
            there now.
        addresses: where its newest record says that it listens.
        last_seen_ns: Unix nanoseconds.
        record: its newest one; None for a visitor, who has no row.
        stored_ns: `last_seen_ns` as it stands in the table.
    """

    identity: PeerIdentity
    sequence: int
    software: str
    address: Multiaddr | None
    addresses: tuple[Multiaddr, ...]
    last_seen_ns: int
    record: node_pb2.PeerRecord | None
    stored_ns: int = 0


class Acquaintances:
    """The peers that this node knows."""

    def __init__(
        self,
        records: Records,
        clock: Clock,
        network: Network,
        device: bytes,
        grant_list: identity_pb2.GrantList,
    ) -> None:
        """`device` is this node itself, no acquaintance of its own; `grant_list` that of its owner."""
        self._records = records
        self._clock = clock
        self._network = network
        self._device = device
        self._known: dict[bytes, Acquaintance] = {}
        self._owner = grant_list.owner
        self._grant_lists: OrderedDict[bytes, identity_pb2.GrantList] = OrderedDict()
        self._learn_grants(grant_list)  # a device that it does not name any more was retired

    def load(self) -> list[str]:
        """Reads the table; returns what is wrong with it, in words."""
        damaged: list[bytes] = []
        for key, value in self._records.scan(PEERS, damaged=damaged):
            try:
                acquaintance, grant_list = _decode_row(key, value)
            except (DecodeError, InvalidRecord):
                damaged.append(key)
                continue
            self._known[key] = acquaintance
            self._learn_grants(grant_list)
        return [f"the row of peer {key.hex()} is damaged; it is met anew" for key in damaged]

    def check(self, record: node_pb2.PeerRecord) -> Presentation:
        """What a record says, if it holds now.

        Raises:
            InvalidRecord: it does not, or its owner has retired the node.
        """
        now_s = self._clock.wall_ns() // 10**9
        presentation = check_peer_record(record, self._network, now_s)
        newest = self._grant_lists.get(presentation.identity.owner)
        if newest is not None and newest.sequence > presentation.grant_list.sequence:
            check_granted(newest, presentation.identity.device, now_s)
        return presentation

    async def meet(self, presentation: Presentation, address: Multiaddr | None) -> None:
        """Remembers a peer that has proved to be who `presentation` says; one that was reached, durably.

        Args:
            presentation: of the peer.
            address: the configured one behind which it was reached; None: it has come by itself.

        Raises:
            StoreError: the row cannot be written; the peer is known all the same.
        """
        device = presentation.identity.device
        if device == self._device:
            return
        old = self._known.get(device)
        known = old
        if known is None or presentation.sequence >= known.sequence:
            known = Acquaintance(
                presentation.identity,
                presentation.sequence,
                presentation.software,
                None if old is None else old.address,
                presentation.addresses,
                0,
                presentation.record,
            )
        known.last_seen_ns = self._clock.wall_ns()
        if address is None and (old is None or old.record is None):
            known.record = None
        else:
            known.record = known.record or presentation.record
        self._known[device] = known
        moved = [] if address is None else self._take_address(known, address)
        self._learn_grants(presentation.grant_list)
        operations = self._forget_oldest()
        for each in (*moved, known):
            operations += self._make_puts(each)
        if operations:
            await self._records.commit(operations)

    async def see(self, device: bytes) -> None:
        """Notes that a peer answered; the table learns of it now and then."""
        known = self._known.get(device)
        if known is not None:
            known.last_seen_ns = self._clock.wall_ns()
            if abs(known.last_seen_ns - known.stored_ns) > STORE_EVERY_NS:
                await self._records.commit(self._make_puts(known))

    def get(self, device: bytes) -> Acquaintance | None:
        """A peer, if it is known."""
        return self._known.get(device)

    def find(self, address: Multiaddr) -> Acquaintance | None:
        """Who was met last behind a configured address."""
        return next((known for known in self._known.values() if known.address == address), None)

    def all(self) -> Sequence[Acquaintance]:
        """All of them, sorted by device."""
        return [self._known[device] for device in sorted(self._known)]

    def _take_address(self, known: Acquaintance, address: Multiaddr) -> list[Acquaintance]:
        """Gives an address to who answers there; returns those who answered there before."""
        known.address = address
        moved = [other for other in self._known.values() if other.address == address and other is not known]
        for other in moved:
            other.address = None
        return moved

    def _make_puts(self, known: Acquaintance) -> list[Operation]:
        """The row of a peer; none for a visitor."""
        if known.record is None:
            return []
        known.stored_ns = known.last_seen_ns
        row = chunk_pb2.PeerRow(
            record=known.record,
            last_seen_ns=known.last_seen_ns,
            address="" if known.address is None else str(known.address),
            addresses=map(str, known.addresses),
        )
        return [Put(PEERS, known.identity.device, row.SerializeToString())]

    def _forget_oldest(self) -> list[Operation]:
        """Makes room for whoever came last: among visitors, and among peers that were reached."""
        operations: list[Operation] = []
        for is_visitor, most in ((True, MAX_VISITORS), (False, MAX_KNOWN)):
            seen_ns = {
                device: known.last_seen_ns
                for device, known in self._known.items()
                if (known.record is None) is is_visitor
            }
            if len(seen_ns) > most:
                oldest = min(seen_ns, key=lambda device: seen_ns[device])
                del self._known[oldest]
                operations += [] if is_visitor else [Delete(PEERS, oldest)]
        return operations

    def _learn_grants(self, grant_list: identity_pb2.GrantList) -> None:
        """Keeps the newest list of an owner; of owners of visitors alone, those who came last."""
        known = self._grant_lists.pop(grant_list.owner, grant_list)
        newest = grant_list if is_newer(grant_list, known) else known
        self._grant_lists[grant_list.owner] = newest
        if len(self._grant_lists) > MAX_OWNERS:
            lasting = {each.identity.owner for each in self._known.values() if each.record is not None}
            lasting.add(self._owner)
            passing = [owner for owner in self._grant_lists if owner not in lasting]
            for owner in passing[: max(0, len(passing) - MAX_OWNERS)]:
                del self._grant_lists[owner]


def _decode_row(key: bytes, value: bytes) -> tuple[Acquaintance, identity_pb2.GrantList]:
    """What a row says; it was checked before it was stored, and the store has checksums."""
    row = chunk_pb2.PeerRow.FromString(value)
    card = node_pb2.PeerCard.FromString(row.record.card.payload)
    if card.device != key:
        raise InvalidRecord(Reason.WRONG_SIGNER, "the row of a peer holds another one")
    grant_list = identity_pb2.GrantList.FromString(card.grants.payload)
    acquaintance = Acquaintance(
        PeerIdentity(card.device, grant_list.owner, card.box),
        card.sequence,
        card.software,
        parse_multiaddr(row.address) if row.address else None,
        tuple(map(parse_multiaddr, row.addresses)),
        row.last_seen_ns,
        row.record,
        row.last_seen_ns,
    )
    return acquaintance, grant_list
