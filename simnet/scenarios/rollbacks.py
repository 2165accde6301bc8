"""Keepers of heads that forget what they acknowledged."""

from dht.restoring import Restored
from simnet.world.machine import Machine
from simnet.world.recordings import burn_down, check_recorded, record, wait_replicated
from simnet.world.world import World

SIZE_BYTES = 40_000
FORGETFUL = ("old-heads", "no-heads")


async def rolled_back_heads(world: World) -> None:
    """Most keepers serve older heads than they acknowledged: the newest one is found, and they are named."""
    machines = [world.add_machine() for _ in range(world.nodes)]
    owner, *keepers = machines
    forgetful = world.rng.sample(keepers, world.rng.randrange(1, len(keepers)))
    for keeper in forgetful:
        keeper.turn(world.rng.choice(FORGETFUL))
    for machine in machines:
        machine.configure(machines, {})
    await world.start_machines(machines)
    recordings = []
    for _ in range(3):
        recordings.append(await record(world, owner, SIZE_BYTES))
        await wait_replicated(world, owner, recordings[-1])
    rolled_back = [keeper for keeper in forgetful if keeper.adversary == "old-heads"]
    progress = Restored()
    await owner.call(owner.node.heads.restore(progress))
    check_named(world, rolled_back, progress, "acknowledged head")
    heir, restored = await burn_down(world, owner)
    world.expect(restored.restored == len(recordings), f"all is restored: {restored.problems}")
    check_named(world, rolled_back, restored, "serves an old head")
    for recorded in recordings:
        await check_recorded(world, heir, recorded)


def check_named(world: World, rolled_back: list[Machine], progress: Restored, what: str) -> None:
    """Whoever served an old head is told of, nobody else."""
    named = {
        machine.name
        for machine in world.machines
        for problem in progress.problems
        if what in problem and problem.startswith(f"peer {machine.device.hex()}")
    }
    world.expect(
        named == {keeper.name for keeper in rolled_back},
        f"{what}: {sorted(named)} are named, not {[keeper.name for keeper in rolled_back]}",
    )
