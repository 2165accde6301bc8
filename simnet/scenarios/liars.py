"""Holders that lie about what they hold."""

from dht.auditing import AuditOutcome
from dht.replicas import get_lease, is_counting, iterate_replicas
from lucid.v1 import chunk_pb2
from simnet.world.invariants import is_durable
from simnet.world.machine import Machine
from simnet.world.recordings import Recorded, audit, burn_down, check_recorded, record, wait_replicated
from simnet.world.world import WATCH_EVERY_S, World

SIZE_BYTES = 300_000
MOST_RECORDINGS = 8
REPAIR_S = 3600.0

LIARS = (
    "wrong-leaves",
    "wrong-frames",
    "endless-stream",
    "empty-promises",
    "pretends-to-have",
    "old-receipts",
    "never-reads",
    "drops-at-once",
)
"""An audit, or already the transfer, shows that they hold nothing that counts."""

SILENT = ("silence", "trickle")
"""They may be slow, and not malicious: their replicas count as long as their receipts do."""


async def liar_among_replicas(world: World) -> None:
    """A holder lies: what is read is right all the same, an audit finds the liar, others take over."""
    name = world.rng.choice(LIARS + SILENT)
    owner, *holders = await start_with_liar(world, name)
    liar = next(machine for machine in holders if machine.is_adversary)
    recordings = await record_until_chosen(world, owner, liar)
    for recorded in recordings:
        lose_blobs(world, owner)
        await check_recorded(world, owner, recorded)
    outcomes = [await audit(world, owner, recorded) for recorded in recordings]
    if name in SILENT:
        check_only_silent(world, owner, liar, outcomes)
    else:
        await check_repaired(world, owner, liar, recordings)
    heir, restored = await burn_down(world, owner)
    world.expect(
        restored.restored == len(recordings), f"{len(recordings)} sessions are restored: {restored.problems}"
    )
    for recorded in recordings:
        await check_recorded(world, heir, recorded)


async def start_with_liar(world: World, name: str) -> list[Machine]:
    """An owner and holders, one of which is the adversary of that name."""
    machines = [world.add_machine() for _ in range(world.nodes)]
    world.rng.choice(machines[1:]).turn(name)
    for machine in machines:
        machine.configure(machines, {})
    await world.start_machines(machines)
    return machines


async def record_until_chosen(world: World, owner: Machine, liar: Machine) -> list[Recorded]:
    """Records sessions until placement has chosen the liar for one of them, and all are replicated."""
    recordings: list[Recorded] = []
    while len(recordings) < MOST_RECORDINGS:
        recordings.append(await record(world, owner, SIZE_BYTES))
        await wait_replicated(world, owner, recordings[-1], within_s=REPAIR_S)
        if any(row.holder == liar.device for row in list_replicas(owner)):
            break
    else:
        world.say(f"{liar.name} was never chosen")
    await world.sleep(WATCH_EVERY_S)  # what must always hold is looked at, before the liar is found
    return recordings


def list_replicas(owner: Machine) -> list[chunk_pb2.Replica]:
    """Rows of all replicas of an owner's chunks."""
    return [row for page in iterate_replicas(owner.node.ports.records) for _, row in page]


def list_counting(owner: Machine) -> list[chunk_pb2.Replica]:
    """Those that count now."""
    now_s = owner.node.ports.clock.wall_ns() / 1e9
    return [row for row in list_replicas(owner) if is_counting(row, now_s)]


def lose_blobs(world: World, machine: Machine) -> None:
    """Lets a bit of every blob on a disk rot: whoever reads must ask others."""
    for path in machine.disk.list_blobs():
        machine.disk.files.flip(path, world.rng.randrange(8 * machine.disk.files.size(path)))
        machine.disk.damaged.add(path)
    world.say(f"everything rots on {machine.name}")


def check_only_silent(world: World, owner: Machine, liar: Machine, outcomes: list[AuditOutcome]) -> None:
    """Whoever was silent is told of; nobody is accused, and all others passed."""
    for outcome in outcomes:
        for finding in outcome.findings:
            world.expect(finding.silent, f"an audit accuses somebody: {finding.what}")
        for device, leaves in outcome.holders.items():
            world.expect(leaves > 0 or device == liar.device, f"{owner.name} got no leaf of an honest holder")


async def check_repaired(world: World, owner: Machine, liar: Machine, recordings: list[Recorded]) -> None:
    """Nothing counts that the liar holds; as many replicas as are wanted are durable elsewhere."""
    for recorded in recordings:
        await wait_replicated(world, owner, recorded, within_s=REPAIR_S)
    honest = {machine.device: machine for machine in world.machines if not machine.is_adversary}
    for row in list_counting(owner):
        world.expect(row.holder != liar.device, f"{owner.name} still counts on {liar.name}, who lies")
        lease = get_lease(row)
        world.expect(
            row.holder in honest and is_durable(honest[row.holder], lease.chunk_id, lease.size_bytes),
            f"a replica of {lease.chunk_id.hex()[:8]} counts, and is nowhere",
        )
