"""What must hold in every run, whatever the story.

Always: a replica that counts is durable at its holder, who has signed for it; no two of a chunk are with one
owner; what a node and the network keep for it in memory has its bounds. When nothing is under way: what nodes
count is what is on their disks. What was recorded and acknowledged can be read: stories look at that, where
they know what it is. What must hold of single messages: `wire`. An invariant looks at disks and memory and
changes nothing; it gives what does not hold, a line each. A room adds its own to the table of its kind.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from blake3 import blake3
from google.protobuf.message import DecodeError

from dht import tables as dht_tables
from dht.incoming import IncomingLimits
from dht.replicas import get_lease, is_counting, iterate_replicas
from kernel.chunk_id import compute_blob_id
from kernel.domains import Domain
from kernel.errors import StoreDamaged
from kernel.signing import compute_digest, is_signature
from lucid.v1 import chunk_pb2
from node.rpc.node_servicer import MAX_PENDING
from node.rpc.tokens import MAX_TOKENS
from simnet.world.machine import NETWORK, Machine

if TYPE_CHECKING:
    from simnet.world.world import World

MOST_BUFFERED_BYTES = 64 << 20
"""Messages that the network keeps for one host, because they are on their way or nobody has read them."""

Invariant = Callable[["World"], Iterator[str]]


def find_undurable_replicas(world: "World") -> Iterator[str]:
    """A receipt that counts says that the chunk is durable at its holder, now: the power may be cut."""
    holders = {machine.device: machine for machine in world.machines}
    for owner in list_ready(world):
        now_s = owner.node.ports.clock.wall_ns() / 1e9
        recordings = owner.node.spreading.recordings
        for page in iterate_replicas(owner.node.ports.records):
            for key, row in page:
                holder = holders.get(row.holder)
                if holder is None or holder.is_adversary or not is_counting(row, now_s):
                    continue
                if recordings.is_deleted(key[:16]):  # it is being released
                    continue
                lease = get_lease(row)
                if not is_durable(holder, lease.chunk_id, lease.size_bytes):
                    name = lease.chunk_id.hex()[:8]
                    yield f"{holder.name} gave {owner.name} a receipt for {name}; a power cut could take it"


def find_crowded_replicas(world: "World") -> Iterator[str]:
    """Replicas of a chunk that count are on nodes of different owners, none of them the recorder's."""
    owners = {machine.device: machine.owner.identity.public_key for machine in world.machines}
    for owner in list_ready(world):
        now_s = owner.node.ports.clock.wall_ns() / 1e9
        held: dict[bytes, list[bytes]] = {}
        for page in iterate_replicas(owner.node.ports.records):
            for key, row in page:
                if is_counting(row, now_s):
                    held.setdefault(key[:-1], [owner.owner.identity.public_key]).append(
                        owners.get(row.holder, row.holder)
                    )
        for key, found in held.items():
            if len(set(found)) < len(found):
                yield f"{owner.name} counts several replicas of chunk {key.hex()[-8:]} with one owner"


def find_unproven_replicas(world: "World") -> Iterator[str]:
    """Whatever counts, its holder has signed a receipt for that lease, and nobody else for him."""
    for owner in list_ready(world):
        now_s = owner.node.ports.clock.wall_ns() / 1e9
        for page in iterate_replicas(owner.node.ports.records):
            for key, row in page:
                if is_counting(row, now_s) and not is_proven(row.SerializeToString()):
                    yield f"{owner.name} counts a replica of chunk {key.hex()[-10:]} without a receipt for it"


@lru_cache(maxsize=10_000)
def is_proven(value: bytes) -> bool:
    """Does the receipt in a replica row hold for its lease? It is judged here, not by the node's own code."""
    row = chunk_pb2.Replica.FromString(value)
    promised = chunk_pb2.Receipt.FromString(row.receipt.payload).lease_hash
    digest = compute_digest(Domain.RECEIPT, NETWORK, row.receipt.payload)
    is_signed = is_signature(digest, row.holder, row.receipt.signature)
    return is_signed and promised == blake3(row.lease.payload).digest()


def find_full_memories(world: "World") -> Iterator[str]:
    """Whatever others do, what is kept in memory because of them has a bound."""
    for machine in list_ready(world):
        if machine.is_adversary:
            continue
        incoming, limits = machine.node.hosting.holdings._incoming, IncomingLimits()
        owners = {key[0] for key in incoming._transfers}
        most = max((incoming.used_bytes(owner) for owner in owners), default=0)
        servicer, tokens = machine.node.peering.servicer, machine.node.peering._tokens
        for what, used, bound in (
            ("bytes of transfers", incoming.used_bytes(), limits.total_bytes),
            ("bytes of transfers of one owner", most, limits.owner_bytes),
            ("transfers that wait", incoming._waiting, limits.waiting),
            ("handshakes", len(servicer._pending._pending), MAX_PENDING),
            ("tokens", len(tokens._callers), MAX_TOKENS),
            ("bytes of the network", machine.buffered_bytes, MOST_BUFFERED_BYTES),
        ):
            if used > bound:
                yield f"{machine.name} has {used} {what} in memory; {bound} are the most"


def is_durable(holder: Machine, chunk_id: bytes, size_bytes: int) -> bool:
    """Would a power cut leave a chunk on a disk, whole? What was damaged on purpose counts as there."""
    name = chunk_id.hex()
    path = f"blobs/{name[:2]}/{name}"
    disk = holder.disk
    if path in disk.damaged:
        return True
    blob = disk.files.read_durable(path)
    if blob is None or len(blob) != size_bytes:
        return False
    if path not in disk.verified:
        if compute_blob_id(blob) != chunk_id:
            return False
        disk.verified.add(path)
    return True


def find_wrong_counts(world: "World") -> Iterator[str]:
    """Blobs, journals and what is held for others count what they are."""
    for machine in list_ready(world):
        ports, files = machine.node.ports, machine.disk.files
        blobs = sum(len(files.read_now(path)) for path in machine.disk.list_blobs())
        journals = sum(len(files.read_now(path)) for path in files.paths() if path.startswith("journal/"))
        held = sum(sizes_held(machine))
        for what, counted, there in (
            ("blobs", ports.blobs.used_bytes(), blobs),
            ("journals", ports.journal.used_bytes(), journals),
            ("held for others", machine.node.hosting.holdings.held_bytes, held),
        ):
            if counted != there:
                yield f"{machine.name} counts {counted} bytes of {what}, and has {there}"


def sizes_held(machine: Machine) -> Iterator[int]:
    """Lengths of the chunks that a machine holds for others, by its index."""
    for _, value in machine.disk.records.scan(dht_tables.HOLDINGS, damaged=[]):
        try:
            yield chunk_pb2.Holding.FromString(value).size_bytes
        except (DecodeError, StoreDamaged):
            continue


def list_ready(world: "World") -> list[Machine]:
    """Machines whose node runs and is ready."""
    return [machine for machine in world.machines if machine.is_ready]


ALWAYS: tuple[Invariant, ...] = (
    find_undurable_replicas,
    find_crowded_replicas,
    find_unproven_replicas,
    find_full_memories,
)
AT_REST: tuple[Invariant, ...] = (find_wrong_counts,)
