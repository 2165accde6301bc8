"""A node that keeps things for others, on a simulated disk that survives its process."""

from dataclasses import dataclass, field

from dht.bandwidth import Pace
from dht.check_budget import CheckLimits
from dht.head_keeper import TOTAL_BYTES, HeadKeeper
from dht.holdings import Holdings
from dht.hosting_quota import HostingQuota
from dht.incoming import IncomingLimits
from dht.lease import derive_lease_key, sign_lease
from dht.ports import KeepingPorts, PeerIdentity
from dht.tables import TABLES
from kernel.chunk_id import compute_blob_id
from kernel.domains import NETWORKS
from kernel.signing import SigningKey
from lucid.v1 import chunk_pb2, identity_pb2
from storage.blobs import FileBlobs
from storage.faults import Faults
from storage.inline import InlineOffload
from storage.journal import FileJournal
from storage.memory_files import MemoryFiles
from storage.memory_records import MemoryRecords
from storage.quota import Quota
from tests.scenarios.world import ManualClock, SeededRng
from tests.unit.dht.memory_peer import MemoryPeer

NETWORK = NETWORKS["dev"]
DAY_S = 86_400


@dataclass
class OwnBlobsList:
    """`dht.ports.OwnBlobs` that a test fills."""

    needed: set[bytes] = field(default_factory=set)

    async def needs(self, blob_id: bytes) -> bool:
        return blob_id in self.needed


def make_identity(name: str, owner: str | None = None) -> tuple[PeerIdentity, SigningKey]:
    """A node, by name, and its key; nodes of one owner name the owner."""
    key = make_key(name)
    return PeerIdentity(key.public_key, make_key(owner or f"owner of {name}").public_key, b"b" * 32), key


def make_key(name: str) -> SigningKey:
    return SigningKey.from_seed(name.encode().ljust(32, b".")[:32])


class Holder:
    """A node that keeps; `boot` starts a process on its disk."""

    def __init__(
        self,
        name: str = "holder",
        *,
        seed: int = 1,
        quota_bytes: int = 0,
        owner_quota_bytes: int = 0,
        disk_quota_bytes: int | None = None,
        limits: IncomingLimits | None = None,
        check_limits: CheckLimits | None = None,
        head_bytes: int = TOTAL_BYTES,
    ) -> None:
        self.identity, self.key = make_identity(name)
        rng = SeededRng(seed)
        self.faults = Faults(rng)
        self.files = MemoryFiles(rng, self.faults)
        self.records = MemoryRecords(TABLES, self.faults)
        self.clock = ManualClock()
        self.own = OwnBlobsList()
        self._quotas = (quota_bytes, owner_quota_bytes)
        self._disk_quota_bytes = disk_quota_bytes
        self._limits = limits
        self._check_limits = check_limits
        self._head_bytes = head_bytes
        self.ports: KeepingPorts
        self.quota: HostingQuota
        self.holdings: Holdings
        self.heads: HeadKeeper

    @property
    def now_s(self) -> int:
        return self.clock.wall_ns() // 10**9

    async def boot(self) -> "Holder":
        offload, quota = InlineOffload(), Quota(self._disk_quota_bytes)
        blobs = await FileBlobs.open(self.files, offload, quota)
        journal = await FileJournal.open(self.files, offload, quota)
        self.ports = KeepingPorts(self.clock, offload, self.records, blobs, journal)
        self.quota = HostingQuota(*self._quotas)
        self.holdings = Holdings(
            self.ports,
            NETWORK,
            self.key,
            quota=self.quota,
            own=self.own,
            pace=Pace.limited(self.clock),
            limits=self._limits,
            check_limits=self._check_limits,
        )
        self.heads = HeadKeeper(self.ports, NETWORK, self.key, total_bytes=self._head_bytes)
        await self.holdings.start()
        await self.heads.start()
        return self

    def peer(self, caller: str = "owner") -> MemoryPeer:
        """This node as another one sees it."""
        return MemoryPeer(self.identity, self.holdings, self.heads, make_identity(caller)[0])

    def lease(
        self,
        blob: bytes,
        *,
        key: SigningKey | None = None,
        sequence: int = 1,
        days: float = 30,
        holder: bytes | None = None,
        replica: int = 0,
    ) -> identity_pb2.Signed:
        """A lease of a chunk at this node."""
        lease = chunk_pb2.Lease(
            chunk_id=compute_blob_id(blob),
            size_bytes=len(blob),
            replica=replica,
            holder=holder or self.identity.device,
            sequence=sequence,
            until_s=self.now_s + round(days * DAY_S),
        )
        return sign_lease(key or LEASE_KEY, NETWORK, lease)


LEASE_KEY = derive_lease_key(b"s" * 32, b"i" * 16)


def make_blob(size_bytes: int, seed: int = 1) -> bytes:
    return SeededRng(seed).draw(size_bytes)
