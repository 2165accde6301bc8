"""This node's own peer record: made when it is first needed, and again when it changes or grows old."""

from collections.abc import Sequence

from kernel.handshake import VERSIONS
from kernel.multiaddr import Multiaddr
from kernel.ports import Clock, Offload
from lucid.v1 import node_pb2
from node.identity.peer_keys import PeerKeys
from node.identity.peer_record import load_libp2p, make_peer_record

LIFETIME_S = 7 * 86400
RENEW_AFTER_NS = 86400 * 10**9


class Presenter:
    """Presents this node to others.

    Attributes:
        keys: of this node.
        software: name and version, for people.
        versions: of the protocol that it speaks.
    """

    def __init__(
        self,
        keys: PeerKeys,
        clock: Clock,
        offload: Offload,
        software: str,
        versions: Sequence[int] = VERSIONS,
    ) -> None:
        self.keys = keys
        self.software = software
        self.versions = tuple(versions)
        self._clock = clock
        self._offload = offload
        self._addresses: tuple[Multiaddr, ...] = ()
        self._record: node_pb2.PeerRecord | None = None
        self._sequence = 0
        self._made_ns = 0

    @property
    def addresses(self) -> tuple[Multiaddr, ...]:
        """Where this node listens."""
        return self._addresses

    def set_addresses(self, addresses: Sequence[Multiaddr]) -> None:
        """Takes where this node listens now."""
        self._addresses, self._record = tuple(addresses), None

    @property
    def sequence(self) -> int:
        """Of the record that holds now."""
        self.get_record()
        return self._sequence

    async def prepare(self) -> None:
        """Loads what records need, off the event loop; must have returned before any record is checked."""
        await self._offload.run(load_libp2p)

    def get_record(self) -> node_pb2.PeerRecord:
        """The record that holds now."""
        now_ns = self._clock.wall_ns()
        if self._record is None or not 0 <= now_ns - self._made_ns < RENEW_AFTER_NS:
            self._made_ns = now_ns
            self._sequence = max(now_ns, self._sequence + 1)
            self._record = make_peer_record(
                self.keys,
                self._addresses,
                sequence=self._sequence,
                expires_s=now_ns // 10**9 + LIFETIME_S,
                versions=self.versions,
                software=self.software,
            )
        return self._record
