"""Processes die, and machines lose their power, at every step of what they do."""

import random

from simnet.world.clients import begin_to_record, keep_recording
from simnet.world.faults import Fault, Plan
from simnet.world.recordings import check_restored, check_spread
from simnet.world.world import World

OWNER = 0
WAYS_TO_RETURN = ("continue", "finalize")


async def holder_crashes(world: World) -> None:
    """Holders die in the middle of whatever they do for a recording; no receipt of theirs becomes a lie."""
    owner, *_ = await world.start_nodes(world.nodes)
    async with world.suffering():
        client = await begin_to_record(world, owner)
        await keep_recording(world, client, 300_000, pieces=20, every_s=8)
        recorded = await client.finish()
    await check_spread(world, owner, recorded)
    await check_restored(world, owner, recorded)


def draw_holder_crashes(rng: random.Random, nodes: int) -> Plan:
    """Each holder dies again and again: at once, or in an operation of its disk; some lose their power."""
    return [
        draw_crash(rng, rng.uniform(0, 180), rng.randrange(OWNER + 1, nodes))
        for _ in range(rng.randrange(1, 5 * (nodes - 1)))
    ]


async def owner_crash(world: World) -> None:
    """An owner's node dies while it records; what it acknowledged is there, replicated, and restored."""
    owner, *_ = await world.start_nodes(world.nodes)
    way = world.rng.choice(WAYS_TO_RETURN)
    async with world.suffering():
        client = await begin_to_record(world, owner)
        await keep_recording(world, client, 300_000, pieces=40, every_s=world.rng.choice([0.3, 1.0, 3.0]))
        if way == "finalize":
            await owner.kill(power_cut=world.rng.random() < 0.5)
        else:
            recorded = await client.finish()
    if way == "finalize":
        recorded = await client.finalize()
    await check_spread(world, owner, recorded)
    await check_restored(world, owner, recorded)


def draw_owner_crashes(rng: random.Random, _nodes: int) -> Plan:
    """The owner's node dies a few times, and comes back."""
    return [draw_crash(rng, rng.uniform(0, 80), OWNER) for _ in range(rng.randrange(1, 6))]


def draw_crash(rng: random.Random, at_s: float, node: int) -> Fault:
    """One way to die: killed, without power, or in the n-th operation of the disk from then on."""
    for_s, power_cut = rng.choice([0.1, 1.0, 5.0, 20.0]), rng.random() < 0.4
    if rng.random() < 0.3:
        return Fault.make(at_s, "crash", node, for_s=for_s, power_cut=power_cut)
    operation = int(2 ** rng.uniform(0, 9))
    return Fault.make(at_s, "die-at", node, for_s=10 + for_s, operation=operation, power_cut=power_cut)
