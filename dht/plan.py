"""What is to be done for one chunk, by what is known of its replicas and of the peers. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from dht.placement import is_eligible
from dht.ports import PeerIdentity
from dht.replicas import get_lease, is_counting, is_due
from lucid.v1 import chunk_pb2


class Use(Enum):
    """What a peer is good for now."""

    READY = auto()
    BUSY = auto()
    AWAY = auto()


@dataclass(frozen=True, slots=True)
class Target:
    """A replica that is to be made or renewed.

    Attributes:
        replica: its number.
        holder: who is asked.
        after: sequence of the lease that it follows; 0 if there is none.
    """

    replica: int
    holder: PeerIdentity
    after: int


@dataclass(slots=True)
class ChunkPlan:
    """What is to be done for a chunk now.

    Attributes:
        targets: at different peers: all of them can be asked at the same time.
        busy: peers that would be asked if they had time.
        complete: nothing is to be done before a lease is due.
    """

    targets: list[Target] = field(default_factory=list)
    busy: list[bytes] = field(default_factory=list)
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Situation:
    """What is the same for all chunks of a group.

    Attributes:
        own: this node.
        ranks: for each replica, the known peers in the order of placement.
        known: the same peers by device.
        get_use: what a peer is good for now.
        now_s: Unix seconds.
        lease_s: how long leases hold.
    """

    own: PeerIdentity
    ranks: Sequence[Sequence[PeerIdentity]]
    known: Mapping[bytes, PeerIdentity]
    get_use: Callable[[bytes], Use]
    now_s: float
    lease_s: float


def plan_chunk(
    rows: Mapping[int, chunk_pb2.Replica], situation: Situation, keepers: Collection[bytes] = ()
) -> ChunkPlan:
    """Which replicas to make or renew.

    A due lease is renewed by its holder, and counts until it ends. A missing replica goes to the first peer
    by rank that may hold it: one that is away is passed over, one that is busy is waited for. Whoever broke a
    promise about this chunk comes last, and `keepers`, who have the bytes already, come first.
    """
    plan = ChunkPlan()
    holders = [
        situation.known.get(row.holder) or PeerIdentity(row.holder, b"", b"")
        for row in rows.values()
        if is_counting(row, situation.now_s)
    ]
    for replica, ranks in enumerate(situation.ranks):
        row = rows.get(replica, chunk_pb2.Replica())
        if is_counting(row, situation.now_s):
            if not is_due(row, situation.now_s, situation.lease_s):
                continue
            _choose(plan, replica, row, [peer for peer in ranks if peer.device == row.holder], situation)
        else:
            broken = {other.holder for other in rows.values() if other.trouble and other.HasField("receipt")}
            eligible = [peer for peer in ranks if is_eligible(peer, holders, own=situation.own)]
            eligible.sort(key=lambda peer: (peer.device in broken, peer.device not in keepers))
            holders += _choose(plan, replica, row, eligible, situation)
        plan.complete = False
    return plan


def _choose(
    plan: ChunkPlan,
    replica: int,
    row: chunk_pb2.Replica,
    ranks: Sequence[PeerIdentity],
    situation: Situation,
) -> list[PeerIdentity]:
    """Adds the first of `ranks` that is there to the plan; returns it."""
    for peer in ranks:
        match situation.get_use(peer.device):
            case Use.READY:
                after = get_lease(row).sequence if row.holder == peer.device else 0
                plan.targets.append(Target(replica, peer, after))
                return [peer]
            case Use.BUSY:
                plan.busy.append(peer.device)
                return [peer]
            case Use.AWAY:
                continue
    return []
