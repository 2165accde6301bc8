"""Disks, processes and power fail, whatever is under way."""

from contextlib import suppress
from dataclasses import dataclass, field

from kernel.errors import Conflict, LucidError
from simnet.world.clients import SYNCED_S
from simnet.world.machine import Machine
from simnet.world.mishaps import start_again
from simnet.world.process import ProcessDied
from simnet.world.recordings import (
    Recorded,
    Recorder,
    audit,
    begin_recording,
    check_recorded,
    record,
    wait_replicated,
)
from simnet.world.world import World

ROUNDS = 3
PIECES = 5
MOST_PIECE_BYTES = 30_000
MOST_OPERATIONS = 24
SOON = 8
"""A piece and its sync take about so many operations of the disk."""
FAULTS = ("kill", "power-cut", "die-at", "fail-at")
REPLICATED_S = 3600.0


async def power_cuts(world: World) -> None:
    """Again and again the recorder dies or its disk fails: what was acknowledged stays, and is replicated."""
    owner, *holders = await start_with_twins(world)
    recordings = []
    for _ in range(ROUNDS):
        recordings.append(await record_until_it_dies(world, owner))
        await check_recorded(world, owner, recordings[-1])
        with suppress(Conflict):  # it is complete: it died when all was done
            await owner.call(owner.node.finalize(recordings[-1].session_id))
    for recorded in recordings:
        await wait_replicated(world, owner, recorded, within_s=REPLICATED_S)
    for holder in holders:
        await holder.kill(power_cut=True)
    world.say("the power fails everywhere")
    for holder in holders:
        await start_again(world, holder)
    await world.wait_connected(world.machines)
    for recorded in recordings:
        outcome = await audit(world, owner, recorded)
        found = [finding.what for finding in outcome.findings]
        world.expect(not found and outcome.leaves > 0, f"holders have lost something: {found}")


async def failing_disks(world: World) -> None:
    """Single operations of the holders' disks fail: no receipt is given for what is not durable."""
    owner, *holders = await world.start_nodes(world.nodes)
    recordings = []
    for _ in range(2 * ROUNDS):
        for holder in holders:
            arm(world, holder, "fail-at")
        recordings.append(await record(world, owner, MOST_PIECE_BYTES, pieces=1))
    for recorded in recordings:
        await wait_replicated(world, owner, recorded, within_s=REPLICATED_S)
        await check_recorded(world, owner, recorded)


async def start_with_twins(world: World) -> list[Machine]:
    """Nodes that know each other; the last two belong to one owner."""
    machines = [world.add_machine() for _ in range(world.nodes - 1)]
    machines.append(world.add_machine(machines[-1].owner))
    for machine in machines:
        machine.configure(machines, {})
    await world.start_machines(machines)
    return machines


@dataclass
class Progress:
    """How much of a recording was acknowledged, and when."""

    steps: list[tuple[float, int]] = field(default_factory=list)

    def count_before(self, time_s: float) -> int:
        """Bytes that were acknowledged until then."""
        return max((size for at_s, size in self.steps if at_s <= time_s), default=0)


async def record_until_it_dies(world: World, owner: Machine) -> Recorded:
    """Records until a fault ends it, and starts the node again; tells what must still be there."""
    fault = world.rng.choice(FAULTS)
    recorder, progress = await begin_recording(world, owner), Progress()
    with suppress(ProcessDied, LucidError):
        await record_pieces(world, owner, recorder, progress, fault)
    recorded = recorder.recorded
    if fault != "kill":  # the power is cut after that: what was not synced when the process ended may go
        ended_s = world.now_s if owner.is_running else owner.deaths[-1][0]
        recorded.acknowledged = progress.count_before(ended_s - SYNCED_S)
    await owner.kill(power_cut=fault != "kill")
    owner.disk.recover()
    world.say(f"{owner.name} dies by {fault} after {recorded.acknowledged} bytes")
    await start_again(world, owner)
    return recorded


async def record_pieces(
    world: World, owner: Machine, recorder: Recorder, progress: Progress, fault: str
) -> None:
    """Records some pieces, and ends the recording; the fault of a disk happens in the middle of it."""
    when = world.rng.randrange(PIECES + 1)
    for number in range(PIECES):
        if number == when:
            arm(world, owner, fault, within=SOON)
        await recorder.append(world.rng.randrange(2, MOST_PIECE_BYTES))
        progress.steps.append((world.now_s, recorder.recorded.acknowledged))
        await world.sleep(world.rng.choice((0.0, 0.1, 1.0, 3.0, 40.0)))
    if when == PIECES:
        arm(world, owner, fault)
        await recorder.finish()


def arm(world: World, owner: Machine, fault: str, *, within: int = MOST_OPERATIONS) -> None:
    """Lets one of the next operations of a disk go wrong, if that is the fault."""
    at = owner.disk.faults.operations + world.rng.randrange(within)
    owner.disk.faults.die_at = at if fault == "die-at" else None
    owner.disk.faults.fail_at = at if fault == "fail-at" else None
