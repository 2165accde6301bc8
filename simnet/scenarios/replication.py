"""Recordings go to other machines and come back, over links as good or bad as they are."""

import random

from simnet.world.clients import begin_to_record, keep_recording
from simnet.world.faults import Fault, Plan
from simnet.world.links import Conditions
from simnet.world.recordings import check_recorded, check_restored, check_spread, record, wait_replicated
from simnet.world.world import World


async def record_replicate_restore(world: World) -> None:
    """A recording is replicated, its owner's machine burns down, a new one restores it."""
    owner, *_ = await world.start_nodes(world.nodes)
    recorded = await record(world, owner, 50_000)
    await wait_replicated(world, owner, recorded)
    await check_recorded(world, owner, recorded)
    await check_restored(world, owner, recorded)


async def under_loss(world: World) -> None:
    """A recording is replicated over links that delay, lose and reset, and restored over the same ones."""
    climate = draw_climate(world.rng)
    world.set_climate(climate)
    world.say(f"all links have {climate.latency_s:.3f} s and lose {climate.loss:.1%}")
    owner, *_ = await world.start_nodes(world.nodes)
    async with world.suffering():
        client = await begin_to_record(world, owner)
        await keep_recording(world, client, world.rng.randrange(600_000), pieces=12, every_s=10)
        recorded = await client.finish()
        world.set_climate(climate)
    world.set_climate(climate)
    await check_spread(world, owner, recorded)
    await check_restored(world, owner, recorded)


def draw_climate(rng: random.Random) -> Conditions:
    """What links across the world are like: from one city to the other end, more or less reliable."""
    return Conditions(
        latency_s=rng.choice([0.005, 0.05, 0.2]),
        jitter_s=rng.choice([0.0, 0.02, 0.2]),
        tail=rng.choice([0.0, 0.01]),
        tail_s=1.0,
        loss=rng.choice([0.0, 0.01, 0.05]),
        reset_per_s=rng.choice([0.0, 0.001, 0.01]),
        bandwidth_bytes_s=rng.choice([0.0, 1e6, 50e3]),
    )


def draw_bad_stretches(rng: random.Random, nodes: int) -> Plan:
    """Now and then all links of a machine are slow, lossy, or reset what goes over them."""
    kinds: list[dict[str, float]] = [
        {"latency_s": 2.0, "jitter_s": 3.0},
        {"loss": 0.3},
        {"reset_per_s": 0.2},
        {"bandwidth_bytes_s": 5e3},
        {"tail": 0.2, "tail_s": 5.0},
    ]
    return [
        Fault.make(
            rng.uniform(0, 150),
            "links",
            rng.randrange(nodes),
            for_s=rng.uniform(5, 60),
            direction=rng.choice(["in", "out", "both"]),
            **rng.choice(kinds),
        )
        for _ in range(rng.randrange(1, 8))
    ]


async def partition_heal(world: World) -> None:
    """Holders, or the owner, are cut off while a recording is uploaded; when links are back it completes."""
    owner, *_ = await world.start_nodes(world.nodes)
    async with world.suffering():
        client = await begin_to_record(world, owner)
        await keep_recording(world, client, 400_000, pieces=15, every_s=8)
        recorded = await client.finish()
    await check_spread(world, owner, recorded)
    await check_restored(world, owner, recorded)


def draw_partitions(rng: random.Random, nodes: int) -> Plan:
    """Groups of machines are cut off from the others, both ways or one."""
    return [
        Fault.make(
            rng.uniform(0, 100),
            "partition",
            *sorted(rng.sample(range(nodes), rng.randrange(1, nodes))),
            for_s=rng.choice([1.0, 5.0, 15.0, 25.0, 60.0, 120.0]),
            direction=rng.choice(["both", "both", "in", "out"]),
        )
        for _ in range(rng.randrange(1, 6))
    ]
