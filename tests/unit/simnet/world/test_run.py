"""Runs: what makes one fail, and what its hash depends on."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kernel.errors import StoreFull
from simnet.scenarios import SCENARIOS
from simnet.world.faults import Fault
from simnet.world.invariants import is_durable
from simnet.world.process import ProcessDied
from simnet.world.recordings import begin_recording, check_recorded, record
from simnet.world.run import Outcome, Scenario, run_scenario
from simnet.world.trace_reader import read_trace
from simnet.world.world import World


def tell(story: Callable[[World], Awaitable[None]], seed: int = 1, **options: object) -> Outcome:
    return run_scenario(Scenario("story", story, 2), seed, **options)  # type: ignore[arg-type]


def test_a_run_is_a_function_of_its_seed() -> None:
    async def story(world: World) -> None:
        owner, _ = await world.start_nodes(2)
        await record(world, owner, 5000)

    first, again, other = tell(story), tell(story), tell(story, 2)
    assert first.failures == []
    assert (first.trace_hash, first.steps, first.virtual_s) == (
        again.trace_hash,
        again.steps,
        again.virtual_s,
    )
    assert first.trace_hash != other.trace_hash


def test_what_does_not_hold_is_told_with_its_time_and_stands_in_the_trace(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.sleep(2)
        world.expect(True, "fine")
        world.expect(False, "the sky is blue")
        await world.wait_until(lambda: False, "pigs fly", within_s=10)

    outcome = tell(story, trace_file=tmp_path / "t")
    assert len(outcome.failures) == 2
    assert "2.000 s" in outcome.failures[0]
    assert "the sky is blue" in outcome.failures[0]
    assert "pigs fly" in outcome.failures[1]
    assert [event.kind for event in read_trace(tmp_path / "t")].count("fail") >= 2


def test_a_story_that_fails_names_the_line() -> None:
    async def story(world: World) -> None:
        raise KeyError("gone")

    assert "test_run.py" in tell(story).failures[0]


def test_a_touch_of_the_real_world_fails_the_run_even_if_it_is_swallowed() -> None:
    async def story(world: World) -> None:
        try:
            time.time()
        except Exception:
            world.say("swallowed")

    assert any("time.time" in failure for failure in tell(story).failures)


def test_a_task_that_outlives_its_process_fails_the_run() -> None:
    kept = []

    async def leak() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(1000)))

    async def story(world: World) -> None:
        owner, _ = await world.start_nodes(2)
        await owner.call(leak())

    assert any("go on:" in failure for failure in tell(story).failures)


def test_a_run_ends_at_a_given_time() -> None:
    async def story(world: World) -> None:
        await world.start_nodes(2)
        await world.sleep(1e6)

    outcome = tell(story, until_s=3600.0)
    assert (outcome.failures, outcome.virtual_s >= 3600, outcome.virtual_s < 3700) == ([], True, True)


@pytest.mark.parametrize("power_cut", [False, True])
def test_a_process_that_is_killed_does_nothing_more_and_the_next_finds_what_was_durable(
    power_cut: bool,
) -> None:
    async def story(world: World) -> None:
        owner, _ = await world.start_nodes(2)
        recorded = await record(world, owner, 5000)
        operations = owner.disk.faults.operations
        recording = asyncio.create_task(begin_recording(world, owner))
        await world.sleep(0)
        await owner.kill(power_cut=power_cut)
        with pytest.raises(ProcessDied):
            await recording
        with pytest.raises(ProcessDied):
            await owner.call(asyncio.sleep(0))
        before = owner.disk.faults.operations
        await world.sleep(100)
        world.expect(owner.disk.faults.operations == before, "a dead process touches its disk")
        world.expect(operations > 0, "it had touched its disk")
        await owner.start()
        await check_recorded(world, owner, recorded)

    assert tell(story).failures == []


def test_a_process_that_dies_in_an_operation_of_its_disk_is_started_again() -> None:
    async def story(world: World) -> None:
        owner, holder = await world.start_nodes(2)
        playing = asyncio.create_task(world.play([Fault.make(0, "die-at", 0, for_s=30, operation=5)]))
        with pytest.raises(ProcessDied):
            await record(world, owner, 5000)
        world.expect(not owner.is_running and holder.is_running, "the owner died, the holder did not")
        await playing
        world.expect(owner.is_ready, "the owner runs again")
        await check_recorded(world, owner, await record(world, owner, 5000))

    assert tell(story).failures == []


def test_a_full_disk_refuses_and_takes_again_when_there_is_room() -> None:
    async def story(world: World) -> None:
        owner, _ = await world.start_nodes(2)
        playing = asyncio.create_task(world.play([Fault.make(0, "disk-full", 0, for_s=100, room_bytes=0)]))
        await world.sleep(1)
        with pytest.raises(StoreFull):
            await record(world, owner, 500_000)
        await playing
        await check_recorded(world, owner, await record(world, owner, 5000))

    assert tell(story).failures == []


def test_what_a_power_cut_would_take_is_not_durable() -> None:
    async def story(world: World) -> None:
        machine = world.add_machine()
        blob, chunk_id = b"x" * 5000, bytes(32)
        path = f"blobs/00/{chunk_id.hex()}"
        machine.disk.files.create(path, [blob])
        world.expect(not is_durable(machine, chunk_id, 5000), "written")
        machine.disk.files.fsync(path)
        world.expect(not is_durable(machine, chunk_id, 5000), "its name is not durable")
        for directory in ("blobs/00", "blobs", ""):
            machine.disk.files.fsync_dir(directory)
        world.expect(machine.disk.files.read_durable(path) == blob, "all of it is durable")
        world.expect(not is_durable(machine, chunk_id, 5000), "it is not what its name says")

    assert tell(story).failures == []


def test_the_weather_is_the_worst_of_all_faults_and_clears_up() -> None:
    async def story(world: World) -> None:
        await world.start_nodes(2)
        link = world.network.get_link("n0", "n1")
        plan = [
            Fault.make(0, "links", 0, for_s=20, latency_s=0.5, loss=0.1),
            Fault.make(10, "partition", 0, for_s=20, direction="out"),
        ]
        playing = asyncio.create_task(world.play(plan))
        await world.sleep(5)
        world.expect((link.conditions.latency_s, link.conditions.blocked) == (0.5, False), "slow")
        await world.sleep(10)
        world.expect((link.conditions.latency_s, link.conditions.blocked) == (0.5, True), "slow and cut")
        back = world.network.get_link("n1", "n0").conditions
        world.expect(not back.blocked, "one way only")
        await world.sleep(10)
        world.expect((link.conditions.latency_s, link.conditions.blocked) == (0, True), "cut")
        await playing
        world.expect(link.conditions.is_instant, "clear")

    assert tell(story).failures == []


def test_clocks_are_wrong_as_the_plan_says() -> None:
    async def story(world: World) -> None:
        first, second = await world.start_nodes(2)
        await world.play([Fault.make(0, "clock", 1, offset_s=86_400, drift=0.01)])
        await world.sleep(1000)
        ahead_s = (second.node.ports.clock.wall_ns() - first.node.ports.clock.wall_ns()) / 1e9
        world.expect(abs(ahead_s - 86_410) < 0.01, f"it is {ahead_s} s ahead")
        steady_s = (second.node.ports.clock.monotonic_ns() - first.node.ports.clock.monotonic_ns()) / 1e9
        world.expect(abs(steady_s - 10) < 0.01, f"its monotonic clock has gained {steady_s} s")

    assert tell(story).failures == []


def test_every_scenario_has_a_summary_and_its_own_name() -> None:
    for name, scenario in SCENARIOS.items():
        assert scenario.name == name
        assert scenario.summary.endswith(".")
