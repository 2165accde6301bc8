"""Disks without room, and clocks without the right time."""

import random

from dht.replicas import is_due, iterate_replicas
from kernel.errors import StoreFull
from node.health import LEAST_FREE_BYTES
from simnet.world.clients import begin_to_record, keep_recording
from simnet.world.faults import Fault, Plan
from simnet.world.machine import Machine
from simnet.world.recordings import check_restored, check_spread
from simnet.world.world import World

OWNER = 0
DAY_S = 86_400.0
LONGEST_SLEEP_DAYS = 28
"""A lease holds for 30 days, and clocks are a day wrong."""


async def disk_full(world: World) -> None:
    """Disks of holders, or of the owner, are full: replicas wait, and are made when there is room again."""
    owner, *holders = await world.start_nodes(world.nodes)
    async with world.suffering():
        client = await begin_to_record(world, owner)
        await keep_recording(world, client, 400_000, pieces=20, every_s=8)
        recorded = await client.finish()
        full = [holder.name for holder in holders if holder.disk.faults.capacity_bytes is not None]
        if full:
            count = owner.node.spreading.count(recorded.session_id)
            world.expect(count.pending > 0, f"{recorded} waits for room on {full}")
    strange = [error for error in client.errors if not isinstance(error, StoreFull)]
    world.expect(not strange, f"a recorder without room is told {strange}")
    await check_spread(world, owner, recorded)
    await check_restored(world, owner, recorded)


def draw_full_disks(rng: random.Random, nodes: int) -> Plan:
    """All disks of holders but one are full before anything is recorded; now and then the owner's is, too."""
    full = rng.sample(range(1, nodes), nodes - 2)
    kept = rng.choice([0, LEAST_FREE_BYTES])
    plan = [
        Fault.make(0.0, "disk-full", node, for_s=rng.uniform(100, 300), room_bytes=draw_room(rng) + kept)
        for node in sorted(full)
    ]
    if rng.random() < 0.5:
        at_s, for_s = rng.uniform(0, 120), rng.uniform(5, 100)
        plan.append(Fault.make(at_s, "disk-full", OWNER, for_s=for_s, room_bytes=draw_room(rng)))
    return plan


def draw_room(rng: random.Random) -> int:
    """What is left of the room for recordings: nothing, or less than is to be recorded."""
    return int(rng.choice([0, rng.uniform(0, 5_000), rng.uniform(0, 100_000)]))


async def clocks(world: World) -> None:
    """Clocks are a day wrong, drift and jump; nodes meet, keep, renew and restore all the same."""
    owner, *_ = await world.start_nodes(world.nodes)
    async with world.suffering():
        client = await begin_to_record(world, owner)
        await keep_recording(world, client, 300_000, pieces=20, every_s=10)
        recorded = await client.finish()
    for machine in world.machines:
        if world.rng.random() < 0.5:
            await machine.restart()
    await check_spread(world, owner, recorded)
    if world.rng.random() < 0.5:
        await sleep_long(world, DAY_S * world.rng.uniform(1, LONGEST_SLEEP_DAYS))
        await check_spread(world, owner, recorded)
        world.expect(has_fresh_leases(owner), "all leases hold for half a month, or were renewed")
    await check_restored(world, owner, recorded)


async def sleep_long(world: World, seconds: float) -> None:
    """All machines are off for so long, as far as their clocks tell."""
    await world.gather(*(machine.stop() for machine in world.machines))
    for machine in world.machines:
        machine.skew.shift(world.now_s, seconds, machine.skew.drift)
    world.say(f"{seconds / DAY_S:.1f} days pass")
    await world.gather(*(machine.start() for machine in world.machines))


def has_fresh_leases(owner: Machine) -> bool:
    """Is no lease of an owner due?"""
    ports, lease_s = owner.node.ports, owner.node.spreading.preset.lease_s
    now_s = ports.clock.wall_ns() / 1e9
    return not any(is_due(row, now_s, lease_s) for page in iterate_replicas(ports.records) for _, row in page)


def draw_wrong_clocks(rng: random.Random, nodes: int) -> Plan:
    """Most clocks jump to a day ahead or behind, and some back; all of them gain or lose a little."""
    plan = []
    for node in range(nodes):
        offset_s, drift = rng.uniform(-DAY_S, DAY_S), rng.choice([0.0, 1e-5, -1e-4, 1e-2, -1e-2])
        at_s = rng.choice([0.0, rng.uniform(0, 150)])
        plan.append(Fault.make(at_s, "clock", node, offset_s=offset_s, drift=drift))
        if rng.random() < 0.4:
            back_s = at_s + rng.uniform(1, 60)
            plan.append(Fault.make(back_s, "clock", node, offset_s=-offset_s, drift=drift))
    return plan
