"""Sessions that their owner deletes."""

from dht import tables
from dht.replicas import get_lease, iterate_replicas
from simnet.world.machine import Machine
from simnet.world.recordings import check_recorded, record, wait_replicated
from simnet.world.world import World

SIZE_BYTES = 80_000
RELEASED_S = 1800.0


async def deleted_everywhere(world: World) -> None:
    """A session is deleted while a holder is away: in the end all have let it go, and nothing else."""
    owner, *holders = await world.start_nodes(world.nodes)
    kept = await record(world, owner, SIZE_BYTES)
    deleted = await record(world, owner, SIZE_BYTES)
    for recorded in (kept, deleted):
        await wait_replicated(world, owner, recorded)
    chunks = list_chunks(owner, deleted.session_id)
    away = world.rng.choice(holders)
    await away.kill(power_cut=bool(world.rng.randrange(2)))
    await owner.call(owner.node.manager.delete(deleted.session_id))
    world.say(f"{owner.name} deletes {deleted} while {away.name} is away")
    await world.sleep(world.rng.uniform(0, 60))
    if world.rng.randrange(2):
        await owner.restart()
    await away.start()
    await world.wait_until(
        lambda: not any(is_held(holder, chunk) for holder in holders for chunk in chunks),
        "all holders have let the deleted session go",
        within_s=RELEASED_S,
    )
    await wait_replicated(world, owner, kept)
    await check_recorded(world, owner, kept)
    mine = list_chunks(owner, kept.session_id)
    world.expect(
        all(sum(is_held(holder, chunk) for holder in holders) >= 3 for chunk in mine),
        "what was not deleted is held as before",
    )


def list_chunks(owner: Machine, session_id: bytes) -> list[bytes]:
    """IDs of the chunks of a session that have replicas."""
    rows = [row for page in iterate_replicas(owner.node.ports.records, session_id) for _, row in page]
    return sorted({get_lease(row).chunk_id for row in rows})


def is_held(holder: Machine, chunk_id: bytes) -> bool:
    """Does a machine hold a chunk for somebody?"""
    return holder.disk.records.get(tables.HOLDINGS, chunk_id) is not None
