"""The simulated world as a story sees it: machines, faults, time, and what must hold.

Everything that happens by chance is drawn from the seed; everything that happens stands in the trace. What
must hold and does not is a failure of the run, which goes on: one run may show several.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import fields
from typing import Any, TypeVar

from kernel.keys import OwnerKeys
from kernel.uninterrupted import end_task
from simnet.world.faults import Fault, Plan, play
from simnet.world.invariants import ALWAYS, AT_REST, Invariant
from simnet.world.links import Conditions
from simnet.world.machine import Machine, derive_root
from simnet.world.mishaps import get_kind, start_again
from simnet.world.network import Network
from simnet.world.process import ProcessDied
from simnet.world.trace import Trace
from simnet.world.wire import WireWatch

T = TypeVar("T")

FIRST_PORT = 4000
POLL_S = 0.25
WATCH_EVERY_S = 10.0
REST_S = 60.0
WORLD = "world"


class World:
    """One run.

    Attributes:
        seed: from which everything follows.
        nodes: how many the story is to have.
        plan: faults that the story is to play.
        rng: for choices of the story.
        network: between the machines.
        machines: all of them, in the order in which they were made.
        failures: what did not hold.
    """

    def __init__(
        self, seed: int, nodes: int, plan: Plan, trace: Trace, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.seed = seed
        self.nodes = nodes
        self.plan = plan
        self.rng = random.Random(f"{seed}/story")  # noqa: S311 - a run must repeat
        self.machines: list[Machine] = []
        self._by_name: dict[str, Machine] = {}
        self.failures: list[str] = []
        self._trace = trace
        self._faults: dict[asyncio.Task[None], None] = {}
        self._climate = Conditions()
        self._weather: dict[tuple[str, str], dict[Fault, Conditions]] = {}
        self._get_time = loop.time
        self.network = Network(random.Random(f"{seed}/network"), self.on_event)  # noqa: S311 - as above
        WireWatch(self)

    def on_event(self, place: str, kind: str, detail: str) -> None:
        """Takes what happened into the trace; what is called a failure is one."""
        self._trace.add(round(self._get_time() * 1e9), place, kind, detail)
        if kind == "fail":
            self.failures.append(f"{self.now_s:.3f} s, {place}: {detail}")

    @property
    def now_s(self) -> float:
        """Virtual seconds since the run began."""
        return self._get_time()

    def say(self, text: str) -> None:
        """A line of the story."""
        self.on_event(WORLD, "step", text)

    def expect(self, holds: bool, what: str) -> None:
        """What must hold."""
        if not holds:
            self.on_event(WORLD, "fail", what)

    async def sleep(self, seconds: float) -> None:
        """Lets virtual time pass."""
        await asyncio.sleep(seconds)

    async def wait_until(self, holds: Callable[[], bool], what: str, *, within_s: float = 600.0) -> bool:
        """Waits until something holds; a failure, and False, if it does not in time."""
        end_s = self.now_s + within_s
        while not (result := _ask(holds)) and self.now_s < end_s:
            await self.sleep(POLL_S)
        self.expect(result, f"not within {within_s:g} s: {what}")
        return result

    def make_owner(self, name: str) -> OwnerKeys:
        """The keys of an owner of that name."""
        return OwnerKeys.from_root(derive_root(self.seed, name, "owner"))

    def add_machine(self, owner: OwnerKeys | None = None) -> Machine:
        """A machine more, of an owner of its own unless one is given; its node is not started."""
        number = len(self.machines)
        name = f"n{number}"
        keys = self.make_owner(name) if owner is None else owner
        address = f"/ip4/127.0.0.1/tcp/{FIRST_PORT + number}"
        machine = Machine(name, keys, self.seed, address, self.network, self.on_event)
        self.machines.append(machine)
        self._by_name[name] = machine
        return machine

    def find_machine(self, name: str) -> Machine | None:
        """The machine of that name; None for the world itself, and for hosts that are no machines."""
        return self._by_name.get(name)

    async def start_nodes(self, count: int, *, known: int | None = None, **flags: str) -> list[Machine]:
        """Machines with their nodes started and connected.

        Args:
            count: how many.
            known: each knows so many that come behind it in a ring; None: all know each other.
            flags: settings as on the command line.
        """
        machines = [self.add_machine() for _ in range(count)]
        for number, machine in enumerate(machines):
            ring = [*machines[number + 1 :], *machines[:number]]
            machine.configure(ring[:known], flags)
        await self.start_machines(machines)
        return machines

    async def start_machines(self, machines: Sequence[Machine]) -> None:
        """Starts the nodes of machines that are configured; returns when they are connected."""
        await self.gather(*(machine.start() for machine in machines))
        await self.wait_connected(machines)

    async def wait_connected(self, machines: Sequence[Machine]) -> None:
        """Waits until each of the machines is connected to all its peers."""

        def are_connected() -> bool:
            books = [machine.node.peering.book for machine in machines]
            return all(book.count_connected() == book.count_configured() for book in books)

        await self.wait_until(are_connected, "all nodes are connected")

    async def gather(self, *work: Coroutine[Any, Any, T]) -> list[T]:
        """Does several things at once."""
        return await asyncio.gather(*work)

    async def watch(self) -> None:
        """Looks at what must always hold, again and again, until it is cancelled."""
        while True:
            self._examine(ALWAYS)
            await self.sleep(WATCH_EVERY_S)

    def _examine(self, invariants: Sequence[Invariant]) -> None:
        for invariant in invariants:
            for found in invariant(self):
                self.expect(False, found)

    async def calm_down(self) -> None:
        """Ends all faults that are left, and starts the nodes that do not run."""
        await self._end_faults()
        for faults in self._weather.values():
            faults.clear()
        self.set_climate(Conditions())
        for machine in self.machines:
            machine.resume()
            machine.disk.recover()
            await start_again(self, machine)
        self.say("all faults are over")

    async def _end_faults(self) -> None:
        for fault in self._faults:
            fault.cancel()
        await asyncio.gather(*self._faults, return_exceptions=True)
        self._faults.clear()

    async def rest(self) -> None:
        """Waits until nothing is under way; then what nodes count must be what there is."""
        end_s = self.now_s + REST_S
        while any(found for invariant in AT_REST for found in invariant(self)) and self.now_s < end_s:
            await self.sleep(POLL_S)
        self._examine(AT_REST)

    async def end(self) -> None:
        """Comes to rest, and stops all nodes."""
        self._examine(ALWAYS)
        await self.rest()
        for machine in self.machines:
            with suppress(ProcessDied):
                await machine.stop()
            await machine.settle()

    async def abandon(self) -> None:
        """Kills all nodes."""
        await self._end_faults()
        for machine in self.machines:
            await machine.kill()

    def set_climate(self, conditions: Conditions) -> None:
        """What all links are like while nothing is wrong with them."""
        self._climate = conditions
        self.network.set_default(conditions)
        for source, target in self._weather:
            self._settle_link(source, target)

    def add_weather(self, fault: Fault, source: Machine, target: Machine, conditions: Conditions) -> None:
        """Lets a fault change one direction of a link until `end_weather`."""
        self._weather.setdefault((source.name, target.name), {})[fault] = conditions
        self._settle_link(source.name, target.name)

    def end_weather(self, fault: Fault) -> None:
        """Restores the links that a fault has changed, as far as no other one holds."""
        for (source, target), faults in self._weather.items():
            if faults.pop(fault, None) is not None:
                self._settle_link(source, target)

    def _settle_link(self, source: str, target: str) -> None:
        conditions = worst_of([self._climate, *self._weather[source, target].values()])
        self.network.set_conditions(source, target, conditions)

    async def play(self, plan: Plan) -> None:
        """Lets all faults of a plan happen; returns when they have ended."""

        def begin(fault: Fault) -> "asyncio.Task[None]":
            task = asyncio.create_task(self.suffer(fault))
            self._faults[task] = None
            task.add_done_callback(lambda done: self._faults.pop(done, None))
            return task

        await play(plan, begin)

    @asynccontextmanager
    async def suffering(self) -> AsyncIterator[None]:
        """Plays the plan of the run beside what the story does. Behind it all faults are over."""
        playing = asyncio.create_task(self.play(self.plan))
        try:
            yield
            await playing
        finally:
            await end_task(playing)
        await self.calm_down()

    async def suffer(self, fault: Fault) -> None:
        """Lets one fault happen, from its beginning to its end."""
        kind = get_kind(fault.kind)
        begins, ends = ("partition", "heal") if fault.kind == "partition" else ("fault", "over")
        self.on_event(WORLD, begins, str(fault))
        await kind.begin(self, fault)
        await self.sleep(fault.for_s)
        await kind.end(self, fault)
        self.on_event(WORLD, ends, str(fault))


def worst_of(conditions: Sequence[Conditions]) -> Conditions:
    """Conditions that are as bad as the worst of each."""
    rates = [each.bandwidth_bytes_s for each in conditions if each.bandwidth_bytes_s]
    worst = {
        field.name: max(getattr(each, field.name) for each in conditions) for field in fields(Conditions)
    }
    return Conditions(**worst | {"bandwidth_bytes_s": min(rates, default=0.0)})


def _ask(holds: Callable[[], bool]) -> bool:
    with suppress(ProcessDied):
        return holds()
    return False
