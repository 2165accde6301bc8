"""The kinds of faults: what each does to the world, and how it ends."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from kernel.errors import LucidError, UsageError
from simnet.world.faults import Fault
from simnet.world.links import Conditions
from simnet.world.machine import Machine
from simnet.world.process import ProcessDied

if TYPE_CHECKING:
    from simnet.world.world import World

START_AGAIN_S = 5.0

Act = Callable[["World", Fault], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault.

    Attributes:
        begin: makes it happen.
        end: what is done after `for_s`.
    """

    begin: Act
    end: Act


def get_kind(name: str) -> Kind:
    """A kind of fault by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in KINDS:
        raise UsageError(f'there is no kind of fault "{name}"', hint=f"There are {', '.join(KINDS)}.")
    return KINDS[name]


async def _nothing(world: "World", fault: Fault) -> None:
    pass


async def _crash(world: "World", fault: Fault) -> None:
    """`power_cut`: the machine loses its power, too; `wipe`: and its disk."""
    for machine in _hit(world, fault):
        await machine.kill(power_cut=bool(fault.get("power_cut", False)))
        if fault.get("wipe", False):
            machine.wipe()


async def _start_again(world: "World", fault: Fault) -> None:
    for machine in _hit(world, fault):
        await start_again(world, machine)


async def start_again(world: "World", machine: Machine) -> None:
    """Starts a node that does not run, as its service manager would: until it succeeds."""
    while True:
        await machine.settle()  # two may want it at the same time: nothing waits between here and the start
        if machine.is_running:
            return
        try:
            await machine.start()
        except (LucidError, ProcessDied) as error:
            world.on_event(machine.name, "log", f"cannot start: {error}")
            await machine.kill()
            await world.sleep(START_AGAIN_S)


async def _die_at(world: "World", fault: Fault) -> None:
    """`operation`: the process dies in the middle of that operation of its disk, counted from now."""
    for machine in _hit(world, fault):
        machine.disk.faults.die_at = machine.disk.faults.operations + int(fault.get("operation", 0))


async def _survive(world: "World", fault: Fault) -> None:
    """`power_cut`: the power goes before the process that died is started again."""
    for machine in _hit(world, fault):
        machine.disk.faults.die_at = None
        if fault.get("power_cut", False):
            await machine.kill(power_cut=True)
        await start_again(world, machine)


async def _change_links(world: "World", fault: Fault) -> None:
    """Conditions of all links of a machine, by their names; `direction`: "in", "out" or both."""
    names = {each.name for each in fields(Conditions)}
    given = {name: value for name, value in fault.how if name in names}
    conditions = Conditions(**given)  # type: ignore[arg-type]
    ends = fault.get("direction", "both")
    for machine in _hit(world, fault):
        for other in world.machines:
            if other is not machine and ends != "in":
                world.add_weather(fault, machine, other, conditions)
            if other is not machine and ends != "out":
                world.add_weather(fault, other, machine, conditions)


async def _cut(world: "World", fault: Fault) -> None:
    """Cuts the machines off from all others; `direction`: "in" or "out" cuts one way only."""
    ends = fault.get("direction", "both")
    inside = _hit(world, fault)
    for machine in inside:
        for other in world.machines:
            if other in inside:
                continue
            if ends != "in":
                world.add_weather(fault, machine, other, Conditions(blocked=True))
            if ends != "out":
                world.add_weather(fault, other, machine, Conditions(blocked=True))


async def _restore_links(world: "World", fault: Fault) -> None:
    world.end_weather(fault)


async def _pause(world: "World", fault: Fault) -> None:
    for machine in _hit(world, fault):
        machine.pause()


async def _resume(world: "World", fault: Fault) -> None:
    for machine in _hit(world, fault):
        machine.resume()


async def _fill_disk(world: "World", fault: Fault) -> None:
    """`room_bytes`: so much is left."""
    for machine in _hit(world, fault):
        room = int(fault.get("room_bytes", 0))
        machine.disk.faults.capacity_bytes = machine.disk.faults.used_bytes + room


async def _fail_disk(world: "World", fault: Fault) -> None:
    """`operation`: that operation of the disk fails, counted from now; a sync loses what it should save."""
    for machine in _hit(world, fault):
        machine.disk.faults.fail_at = machine.disk.faults.operations + int(fault.get("operation", 0))


async def _mend_disk(world: "World", fault: Fault) -> None:
    """Starts the node again: after a failed sync a stream takes nothing more in this process (spec 07)."""
    for machine in _hit(world, fault):
        faults = machine.disk.faults
        has_failed = faults.fail_at is not None and faults.operations > faults.fail_at
        faults.fail_at = None
        if has_failed:
            await machine.kill()
            await start_again(world, machine)


async def _empty_disk(world: "World", fault: Fault) -> None:
    for machine in _hit(world, fault):
        machine.disk.faults.capacity_bytes = None


async def _rot(world: "World", fault: Fault) -> None:
    """Flips one bit of one blob."""
    for machine in _hit(world, fault):
        path = machine.disk.rot_blob(world.rng)
        world.say(f"a bit rots on {machine.name}: {path}")


async def _shift_clock(world: "World", fault: Fault) -> None:
    """`offset_s`: the clock jumps ahead by so much; `drift`: and gains so much a second from now on."""
    for machine in _hit(world, fault):
        machine.skew.shift(world.now_s, float(fault.get("offset_s", 0)), float(fault.get("drift", 0)))


async def _slow_disk(world: "World", fault: Fault) -> None:
    """`latency_s`: what an operation takes on the average."""
    for machine in _hit(world, fault):
        machine.disk.latency_s = float(fault.get("latency_s", 1.0))


async def _restore_disk(world: "World", fault: Fault) -> None:
    for machine in _hit(world, fault):
        machine.disk.latency_s = machine.disk.usual_latency_s


def _hit(world: "World", fault: Fault) -> list[Machine]:
    return [world.machines[number] for number in fault.nodes if number < len(world.machines)]


KINDS: dict[str, Kind] = {
    "crash": Kind(_crash, _start_again),
    "die-at": Kind(_die_at, _survive),
    "partition": Kind(_cut, _restore_links),
    "links": Kind(_change_links, _restore_links),
    "pause": Kind(_pause, _resume),
    "disk-full": Kind(_fill_disk, _empty_disk),
    "disk-fail": Kind(_fail_disk, _mend_disk),
    "disk-slow": Kind(_slow_disk, _restore_disk),
    "rot": Kind(_rot, _nothing),
    "clock": Kind(_shift_clock, _nothing),
}
