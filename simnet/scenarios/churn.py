"""Nodes come and go, as they do on the machines of people."""

import random

from simnet.world.clients import begin_to_record, keep_recording
from simnet.world.faults import Fault, Plan
from simnet.world.recordings import check_restored, check_spread, mend_replicas
from simnet.world.world import World

HOURS = 3
HOUR_S = 3600.0
LEAVING_PER_HOUR = 0.3
AWAY_S = (60.0, 600.0, 1800.0)
WIPED = 0.15


async def churn_recording(world: World) -> None:
    """During hours of slow input 30 % of the nodes leave each hour, and come back, some with empty disks."""
    owner, *holders = [world.add_machine() for _ in range(world.nodes)]
    owner.configure(world.machines, {"repair_after": "30m"})
    for holder in holders:
        holder.configure([owner], {})
    await world.start_machines(world.machines)
    async with world.suffering():
        client = await begin_to_record(world, owner)
        await keep_recording(world, client, 300_000, pieces=12 * HOURS, every_s=300)
        recorded = await client.finish()
    await world.wait_connected(world.machines)
    await mend_replicas(world, owner, recorded)
    await check_spread(world, owner, recorded)
    await check_restored(world, owner, recorded)


def draw_churn(rng: random.Random, nodes: int) -> Plan:
    """Each node but the owner's stays for an exponential time, and is away for another one."""
    plan = []
    for node in range(1, nodes):
        at_s = rng.expovariate(LEAVING_PER_HOUR / HOUR_S)
        while at_s < HOURS * HOUR_S:
            away_s = rng.expovariate(1 / rng.choice(AWAY_S))
            power_cut, wipe = rng.random() < 0.5, rng.random() < WIPED
            plan.append(Fault.make(at_s, "crash", node, for_s=away_s, power_cut=power_cut, wipe=wipe))
            at_s += away_s + rng.expovariate(LEAVING_PER_HOUR / HOUR_S)
    return sorted(plan, key=lambda fault: fault.at_s)
