"""Nodes that change their addresses, as a new onion service does: their peers follow."""

from kernel.multiaddr import Multiaddr
from simnet.world.links import Conditions
from simnet.world.machine import Machine
from simnet.world.network import IP
from simnet.world.recordings import check_recorded, record, wait_replicated
from simnet.world.world import World

FIRST_MOVED_PORT = 5000
SIZE_BYTES = 2_000_000
GRACE_S = 60.0
"""Longer than the time between two pings, by which a peer that only dials in learns of the move."""


async def moving_addresses(world: World) -> None:
    """Every holder moves, the owner forgets nothing, and who starts where it was first is found there."""
    owner, *holders = await world.start_nodes(world.nodes)
    world.set_climate(Conditions(latency_s=0.1, reset_per_s=0.01))
    before = await record(world, owner, SIZE_BYTES)
    for number, holder in enumerate(holders):
        await move(world, holder, Multiaddr("ip4", IP, FIRST_MOVED_PORT + number))
    await world.wait_connected([owner, *holders])
    world.say("the owner is started anew: it knows where they went")
    await owner.kill()
    await owner.start()
    await world.wait_connected([owner, *holders])
    moved = await record(world, owner, SIZE_BYTES)
    await wait_replicated(world, owner, moved)
    world.say(f"{holders[0].name} has lost its way, and listens where it did first")
    await holders[0].kill()
    await holders[0].start()
    await world.wait_connected([owner, *holders])
    for recorded in (before, moved):
        await wait_replicated(world, owner, recorded)
    for recorded in (before, moved):
        await check_recorded(world, owner, recorded)


async def move(world: World, machine: Machine, place: Multiaddr) -> None:
    """Both addresses are served for a while, then the new one alone."""
    peering = machine.node.peering
    old = machine.address if peering.address is None else peering.address.place

    async def open_both() -> None:
        await peering.open(place)
        peering.announce([place, old])

    async def close_old() -> None:
        peering.announce([place])
        await peering.close(old)

    world.say(f"{machine.name} moves from port {old.port} to {place.port}")
    await machine.call(open_both())
    await world.sleep(GRACE_S)
    await machine.call(close_old())
