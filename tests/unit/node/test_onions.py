"""The onion services of a node, over a journal in memory: killed at any step of a rotation, it goes on."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from kernel.errors import Conflict, StoreFull, Unavailable
from kernel.keys import DeviceKeys
from kernel.multiaddr import Multiaddr
from kernel.onion import OnionKey
from kernel.uninterrupted import end_task
from lucid.v1 import control_pb2
from node import onions as onions_module
from node.adapters import SystemClock
from node.health import Health
from node.logs import make_logger
from node.onions import STREAM, Onions
from storage.faults import Died, Faults
from storage.inline import InlineOffload
from storage.journal import FileJournal
from storage.memory_files import MemoryFiles
from storage.quota import Quota

KEYS = DeviceKeys.from_root(b"r" * 32)
PORT = 4001
HOUR_S = 3600


class NoRng:
    def below(self, bound: int) -> int:
        return 0


class ShiftedClock(SystemClock):
    shift_s = 0

    def wall_ns(self) -> int:
        return super().wall_ns() + self.shift_s * 10**9


class FakePublisher:
    """A Tor that publishes when the test says so."""

    connect_timeout_s = 1.0
    ping_every_s = 1.0
    ping_timeout_s = 1.0

    def __init__(self) -> None:
        self.is_ready = True
        self.services: set[str] = set()
        self.uploaded: set[str] = set()
        self._changed = asyncio.Event()

    def upload(self) -> None:
        self.uploaded |= self.services
        self._changed.set()
        self._changed = asyncio.Event()

    def dial(self, address: Multiaddr) -> Any:
        raise Unavailable("nobody is dialled here")

    async def relearn(self, address: Multiaddr) -> None:
        raise AssertionError("nothing is known of anybody")

    async def publish(self, key: OnionKey, port: int) -> None:
        assert port == PORT
        self.services.add(key.host)

    async def withdraw(self, host: str) -> None:
        self.services.discard(host)

    def is_published(self, host: str) -> bool:
        return host in self.services & self.uploaded

    async def wait_changed(self) -> None:
        await self._changed.wait()

    def explain(self) -> str:
        return ""

    def describe(self) -> control_pb2.TorStatus:
        return control_pb2.TorStatus(phase="ready")


class FakePeering:
    """What is served, and what peers are told."""

    def __init__(self) -> None:
        self.served: set[str] = set()
        self.announced: list[str] = []
        self.refuses = False
        self.book = self

    def retry_all(self) -> None:
        pass

    async def open(self, address: Multiaddr) -> Multiaddr:
        if self.refuses:
            raise Conflict("the socket cannot be listened on")
        assert address.host not in self.served
        self.served.add(address.host)
        return address

    async def close(self, place: Multiaddr) -> None:
        self.served.discard(place.host)

    def announce(self, places: Sequence[Multiaddr]) -> None:
        self.announced = [place.host for place in places]


@dataclass
class Bench:
    """One run of a node's onion services."""

    onions: Onions
    publisher: FakePublisher
    peering: FakePeering
    log: io.StringIO
    running: list["asyncio.Task[None]"] = field(default_factory=list)

    def run(self) -> None:
        self.running.append(asyncio.create_task(self.onions.run()))

    async def stop(self) -> None:
        for task in self.running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Died, BaseExceptionGroup):
                await task

    @property
    def roles(self) -> dict[str, str]:
        """Numbers of the services by what they are."""
        hosts = {KEYS.onion(number).host: str(number) for number in range(8)}
        return {
            one.role: hosts[one.address.split("/")[2].split(":")[0]] for one in self.onions.describe().onions
        }


@dataclass
class Machine:
    """A disk and a clock that outlive the node."""

    faults: Faults = field(default_factory=lambda: Faults(NoRng()))
    clock: ShiftedClock = field(default_factory=ShiftedClock)

    def __post_init__(self) -> None:
        self.files = MemoryFiles(NoRng(), self.faults)

    async def boot(self, quota: Quota | None = None, **settings: int) -> Bench:
        journal = await FileJournal.open(self.files, InlineOffload(), quota or Quota())
        publisher, peering, log = FakePublisher(), FakePeering(), io.StringIO()
        onions = Onions(
            KEYS,
            publisher,
            peering,  # type: ignore[arg-type]
            journal,
            self.clock,
            make_logger("debug", "json", log),
            Health(),
            **({"port": PORT, "rotate_every_s": 0, "grace_s": HOUR_S} | settings),
        )
        await onions.start()
        return Bench(onions, publisher, peering, log)


Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


Start = Callable[..., Awaitable[Bench]]


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
async def start(machine: Machine) -> AsyncIterator[Start]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(**settings: int) -> Bench:
            bench = await machine.boot(None, **settings)
            bench.run()
            stack.push_async_callback(bench.stop)
            return bench

        yield make


def hosts(*numbers: int) -> list[str]:
    return [KEYS.onion(number).host for number in numbers]


async def test_peers_are_told_when_the_new_service_can_be_found_and_the_old_one_stays(
    start: Start, machine: Machine, eventually: Eventually
) -> None:
    bench = await start()
    assert (bench.roles, bench.peering.announced) == ({"current": "0"}, hosts(0))
    rotating = asyncio.create_task(bench.onions.rotate(60))
    await eventually(lambda: bench.peering.served == {*hosts(0, 1)})
    assert (bench.roles, bench.peering.announced) == ({"current": "0", "next": "1"}, hosts(0))
    with pytest.raises(Conflict, match="is being published"):
        await bench.onions.rotate()
    bench.publisher.upload()
    await rotating
    assert (bench.roles, bench.peering.announced) == ({"old": "0", "current": "1"}, hosts(1, 0))
    with pytest.raises(Conflict, match="still served"):
        await bench.onions.rotate()
    machine.clock.shift_s = 61
    bench.publisher.upload()  # wakes it
    await eventually(lambda: bench.peering.served == {*hosts(1)})
    assert (bench.roles, bench.peering.announced) == ({"current": "1"}, hosts(1))
    assert bench.publisher.services == {*hosts(1)}


async def test_a_node_that_is_killed_while_it_waits_goes_on_with_the_grace_that_was_asked_for(
    machine: Machine, eventually: Eventually
) -> None:
    bench = await machine.boot()
    bench.run()
    rotating = asyncio.create_task(bench.onions.rotate(60))
    await eventually(lambda: len(bench.peering.served) == 2)
    await end_task(rotating)
    await bench.stop()
    machine.files.power_cut()
    again = await machine.boot()
    assert (again.roles, again.peering.served) == ({"current": "0", "next": "1"}, {*hosts(0, 1)})
    again.run()
    again.publisher.upload()
    await eventually(lambda: again.roles == {"old": "0", "current": "1"})
    [until_s] = [one.until_s for one in again.onions.describe().onions if one.role == "old"]
    assert 0 < until_s - machine.clock.wall_ns() // 10**9 <= 60
    await again.stop()
    machine.clock.shift_s = 61
    last = await machine.boot()  # the end came while it was away
    assert (last.roles, last.peering.served, last.peering.announced) == (
        {"current": "1"},
        {*hosts(1)},
        hosts(1),
    )


async def test_a_full_disk_keeps_no_node_from_its_start(machine: Machine, eventually: Eventually) -> None:
    bench = await machine.boot()
    bench.run()
    rotating = asyncio.create_task(bench.onions.rotate(60))
    await eventually(lambda: len(bench.peering.served) == 2)
    bench.publisher.upload()
    await rotating
    await bench.stop()
    quota = Quota(1)
    for shift_s, served in ((0, {*hosts(0, 1)}), (61, {*hosts(1)})):
        machine.clock.shift_s = shift_s
        again = await machine.boot(quota)
        assert again.peering.served == served
        await again.stop()


async def rotate_whole(bench: Bench, machine: Machine, eventually: Eventually) -> None:
    """A rotation, from the command to the end of the old service, or to the death of the machine."""
    rotating = asyncio.create_task(bench.onions.rotate(60))
    await eventually(lambda: len(bench.peering.served) == 2 or rotating.done() or machine.faults.dead)
    bench.publisher.upload()
    await eventually(lambda: rotating.done() or machine.faults.dead)
    machine.clock.shift_s += 61
    bench.publisher.upload()
    await eventually(lambda: len(bench.peering.served) == 1 or machine.faults.dead)
    if machine.faults.dead:
        rotating.cancel()
    with contextlib.suppress(asyncio.CancelledError, Died):
        await rotating


async def test_killed_at_any_access_to_the_disk_it_goes_on_and_no_number_is_used_for_two_services(
    eventually: Eventually,
) -> None:
    for die_at in range(100):
        machine = Machine()
        bench = await machine.boot()
        bench.run()
        machine.faults.operations, machine.faults.die_at = 0, die_at
        await rotate_whole(bench, machine, eventually)
        has_died = machine.faults.dead
        await bench.stop()
        machine.files.power_cut()
        machine.faults.revive()
        again = await machine.boot()
        assert again.roles.keys() in ({"current"}, {"current", "next"}, {"current", "old"}), die_at
        assert again.peering.served == {KEYS.onion(int(one)).host for one in again.roles.values()}
        assert again.peering.announced[0] == KEYS.onion(int(again.roles["current"])).host
        again.run()
        again.publisher.upload()
        machine.clock.shift_s += 61
        await eventually(lambda: "next" not in again.roles)  # noqa: B023
        machine.clock.shift_s += 61
        again.publisher.upload()
        await eventually(lambda: again.roles.keys() == {"current"})  # noqa: B023
        before = int(again.roles["current"])
        await rotate_whole(again, machine, eventually)
        assert again.roles == {"current": str(before + 1)}
        await again.stop()
        if not has_died:
            assert die_at > 4
            return
    pytest.fail("it died at every access")


async def test_a_disk_that_is_full_changes_nothing(
    start: Start, machine: Machine, eventually: Eventually
) -> None:
    bench = await start()
    machine.faults.full_at = machine.faults.operations
    with pytest.raises(StoreFull):
        await bench.onions.rotate()
    assert (bench.roles, bench.peering.served, bench.publisher.services) == (
        {"current": "0"},
        {*hosts(0)},
        {*hosts(0)},
    )
    await rotate_whole(bench, machine, eventually)
    assert bench.roles == {"current": "1"}


async def test_a_service_that_cannot_be_served_now_is_tried_on(
    start: Start, machine: Machine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onions_module, "TRY_AGAIN_S", 0.01)
    bench = await start()
    bench.peering.refuses = True
    rotating = asyncio.create_task(bench.onions.rotate(60))
    await eventually(lambda: "cannot be listened on" in bench.log.getvalue())
    assert (bench.roles, rotating.done()) == ({"current": "0", "next": "1"}, False)
    bench.peering.refuses = False
    await eventually(lambda: bench.peering.served == {*hosts(0, 1)})
    bench.publisher.upload()
    await rotating


async def test_a_rotation_that_is_not_published_in_time_is_told_of_and_goes_on(
    start: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onions_module, "PUBLISH_TIMEOUT_S", 0.05)
    bench = await start()
    with pytest.raises(Unavailable, match="is not published after"):
        await bench.onions.rotate()
    bench.publisher.upload()
    await eventually(lambda: bench.roles == {"old": "0", "current": "1"})


async def test_services_are_replaced_by_themselves_when_it_is_time(
    start: Start, machine: Machine, eventually: Eventually
) -> None:
    bench = await start(rotate_every_s=HOUR_S, grace_s=60)
    machine.clock.shift_s = HOUR_S - 10
    bench.publisher.upload()
    assert bench.roles == {"current": "0"}
    machine.clock.shift_s = HOUR_S
    bench.publisher.upload()
    await eventually(lambda: bench.peering.served == {*hosts(0, 1)})
    bench.publisher.upload()
    await eventually(lambda: bench.roles == {"old": "0", "current": "1"})


async def test_a_journal_with_nonsense_in_it_is_read_as_far_as_it_makes_sense(machine: Machine) -> None:
    await machine.boot()
    journal = await FileJournal.open(machine.files, InlineOffload(), Quota())
    await journal.append(STREAM, [b"\xff\xff no message"])
    bench = await machine.boot()
    assert bench.roles == {"current": "0"}


async def test_a_node_that_serves_nobody_has_nothing_to_replace_or_check(start: Start) -> None:
    bench = await start(port=0)
    for act in (bench.onions.rotate, bench.onions.check):
        with pytest.raises(Conflict, match="no onion service"):
            await act()


async def test_a_check_calls_nobody_while_the_service_cannot_be_found_and_tells_why_it_failed(
    start: Start,
) -> None:
    bench = await start()
    assert not await bench.onions.check()
    assert bench.onions.describe().reach_trouble == ""
    bench.publisher.upload()
    assert not await bench.onions.check()
    assert "nobody is dialled here" in bench.onions.describe().reach_trouble
    assert "does not reach itself through Tor" in bench.onions.problems[0]
