"""Recordings go to other machines and come back."""

from simnet.world.recordings import check_recorded, record, restore, wait_replicated
from simnet.world.world import World


async def record_replicate_restore(world: World) -> None:
    """A recording is replicated, its owner's machine burns down, a new one restores it."""
    owner, *holders = await world.start_nodes(world.nodes)
    recorded = await record(world, owner, 50_000)
    await wait_replicated(world, owner, recorded)
    await check_recorded(world, owner, recorded)
    await owner.kill(power_cut=True)
    world.say(f"{owner.name} burns down")
    heir = world.add_machine(owner.owner)
    heir.configure(holders, {})
    await heir.start()
    restored = await restore(world, heir)
    world.expect(restored.restored == 1, f"one session is restored, not {restored.restored}")
    await check_recorded(world, heir, recorded)
