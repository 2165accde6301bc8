"""Whatever can go wrong goes wrong, everywhere, at any time: the combinations that nobody thought of."""

import random

from node.health import LEAST_FREE_BYTES
from simnet.scenarios.crashes import draw_crash
from simnet.scenarios.replication import draw_bad_stretches, draw_partitions
from simnet.world.clients import begin_to_record, keep_recording
from simnet.world.faults import Fault, Plan
from simnet.world.recordings import check_restored, check_spread, mend_replicas
from simnet.world.world import World

OWNER = 0
LOSING = (1, 2)
LASTS_S = 160.0


async def all_at_once(world: World) -> None:
    """Two recordings under faults of all kinds, at all nodes; what was acknowledged is there at the end."""
    owner, *_ = await world.start_nodes(world.nodes)
    recordings = []
    async with world.suffering():
        for _ in range(2):
            client = await begin_to_record(world, owner)
            size_bytes = world.rng.randrange(300_000)
            await keep_recording(world, client, size_bytes, pieces=16, every_s=world.rng.choice([1, 5]))
            recordings.append(await client.finish())
    await world.wait_connected(world.machines)
    for recorded in recordings:
        await mend_replicas(world, owner, recorded)
    await check_spread(world, owner, *recordings)
    await check_restored(world, owner, *recordings)


def draw_anything(rng: random.Random, nodes: int) -> Plan:
    """Few or many faults. The owner's disk is not lost: not all that is on it has replicas yet.

    No more than two holders lose what they hold: nobody audits copies of facts, so three could lose them all.
    """
    plan = [_draw_fault(rng, nodes) for _ in range(int(2 ** rng.uniform(0, 5)))]
    plan += draw_bad_stretches(rng, nodes)[: rng.randrange(3)]
    plan += draw_partitions(rng, nodes)[: rng.randrange(3)]
    return sorted(plan, key=lambda fault: fault.at_s)


def _draw_fault(rng: random.Random, nodes: int) -> Fault:
    at_s, for_s = rng.uniform(0, LASTS_S), rng.choice([1.0, 10.0, 60.0])
    anyone, holder = rng.randrange(nodes), rng.choice(LOSING)
    match rng.choice(["crash", "crash", "full", "fail", "fail", "pause", "slow", "clock", "rot", "wipe"]):
        case "crash":
            return draw_crash(rng, at_s, anyone)
        case "full":
            room = rng.choice([0, LEAST_FREE_BYTES]) + rng.randrange(50_000)
            return Fault.make(at_s, "disk-full", anyone, for_s=for_s, room_bytes=room)
        case "fail":
            return Fault.make(at_s, "disk-fail", anyone, for_s=for_s, operation=int(2 ** rng.uniform(0, 8)))
        case "pause":
            return Fault.make(at_s, "pause", anyone, for_s=for_s)
        case "slow":
            return Fault.make(at_s, "disk-slow", anyone, for_s=for_s, latency_s=rng.choice([0.05, 0.5]))
        case "clock":
            return Fault.make(at_s, "clock", anyone, offset_s=rng.uniform(-86_400, 86_400))
        case "rot":
            return Fault.make(at_s, "rot", holder)
        case _:
            return Fault.make(at_s, "crash", holder, for_s=for_s, wipe=True)
