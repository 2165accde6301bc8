"""What a node keeps for others, put together."""

from collections.abc import Callable

from dht.bandwidth import Pace
from dht.head_keeper import HeadKeeper
from dht.holdings import Holdings
from dht.hosting_quota import HostingQuota
from dht.pinned_blobs import PinnedBlobs
from dht.ports import KeepingPorts
from kernel.domains import Network
from kernel.errors import LucidError
from kernel.signing import SigningKey
from node.config import NodeConfig
from node.own_blobs import NodeOwnBlobs
from node.ports import NodePorts

SWEEP_EVERY_S = 3600


class Hosting:
    """Chunks and heads of others.

    Attributes:
        pace: limits on speed, for all transfers of the node.
        holdings: chunks.
        heads: heads.
        own_blobs: the store of blobs for the sessions and heads of this node itself: what others lease stays.
    """

    def __init__(
        self,
        device: SigningKey,
        network: Network,
        config: NodeConfig,
        ports: NodePorts,
        get_room: Callable[[], int],
    ) -> None:
        """`get_room` tells how many bytes blobs and journals may still grow by."""
        self._clock = ports.clock
        self._get_room = get_room
        self._next_sweep_ns = 0
        self.pace = Pace.limited(ports.clock, up_bytes_s=config.limit_up, down_bytes_s=config.limit_down)
        keeping = KeepingPorts(ports.clock, ports.offload_cpu, ports.records, ports.blobs, ports.journal)
        quota = HostingQuota(config.hosting_quota, config.hosting_quota_per_owner, get_room)
        own = NodeOwnBlobs(ports.records, ports.blobs, ports.offload_io)
        self.holdings = Holdings(keeping, network, device, quota=quota, own=own, pace=self.pace)
        self.heads = HeadKeeper(keeping, network, device)
        self.own_blobs = PinnedBlobs(ports.blobs, self.holdings.is_held)

    async def start(self) -> list[str]:
        """Makes whole what a killed process left; returns what is wrong, in words."""
        await self.holdings.start()
        await self.heads.start()
        return self.holdings.problems + self.heads.problems

    async def sweep(self) -> None:
        """Forgets broken transfers; once an hour ends leases that are over, and heads that have expired.

        Raises:
            LucidError: the store failed; the next sweep goes on.
        """
        await self.holdings.forget_broken_transfers()
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._next_sweep_ns:
            return
        self._next_sweep_ns = now_ns + SWEEP_EVERY_S * 10**9
        now_s = self._clock.wall_ns() // 10**9
        await self.holdings.sweep(now_s)
        await self.heads.sweep(now_s)

    def count_free(self) -> int:
        """Bytes that this node would still take from others; 0 if that cannot be told."""
        try:
            room = self._get_room()
        except LucidError:
            return 0
        free = self.holdings.quota.free_bytes()
        return room if free is None else min(room, free)
