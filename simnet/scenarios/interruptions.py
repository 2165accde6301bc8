"""Connections that break in the middle of everything."""

from contextlib import suppress

from kernel.errors import Unavailable
from simnet.world.links import Conditions
from simnet.world.machine import Machine
from simnet.world.recordings import (
    BytesSink,
    Recorded,
    burn_down,
    check_recorded,
    ignore,
    record,
    wait_replicated,
)
from simnet.world.world import World

SIZE_BYTES = 8_000_000
RATE_BYTES_S = 100_000.0
RESETS_PER_S = 0.06
REPLICATED_S = 900.0
TRIES = 30
IMPATIENT_S = 90.0
RETRY_S = 5.0


async def broken_transfers(world: World) -> None:
    """Connections are slow and break every few seconds: transfers go on behind what has come."""
    owner, *_ = await world.start_nodes(world.nodes)
    world.set_climate(Conditions(latency_s=0.02, bandwidth_bytes_s=RATE_BYTES_S, reset_per_s=RESETS_PER_S))
    recorded = await record(world, owner, SIZE_BYTES)
    await wait_replicated(world, owner, recorded, within_s=REPLICATED_S)
    world.set_climate(Conditions())
    heir, _ = await burn_down(world, owner)
    world.set_climate(Conditions(latency_s=0.02, bandwidth_bytes_s=RATE_BYTES_S, reset_per_s=RESETS_PER_S))
    await fetch_again_and_again(world, heir, recorded)
    world.set_climate(Conditions())
    await check_recorded(world, heir, recorded)


async def impatient_holders(world: World) -> None:
    """Holders end each transfer after a few frames: it goes on soon, and gets there."""
    owner, *holders = [world.add_machine() for _ in range(world.nodes)]
    for holder in holders:
        holder.turn("breaks-off")
    for machine in (owner, *holders):
        machine.configure([owner, *holders], {})
    await world.start_machines([owner, *holders])
    recorded = await record(world, owner, SIZE_BYTES)
    await wait_replicated(world, owner, recorded, within_s=IMPATIENT_S)


async def fetch_again_and_again(world: World, heir: Machine, recorded: Recorded) -> None:
    """Reads until it succeeds: without any source a chunk cannot be had just now; it is not missing."""
    manager = heir.node.manager
    for _ in range(TRIES):
        with suppress(Unavailable):
            await heir.call(manager.get(recorded.session_id, BytesSink(), partial=False, on_progress=ignore))
            return
        await world.sleep(RETRY_S)
    world.expect(False, f"{recorded} cannot be read in {TRIES} tries")
