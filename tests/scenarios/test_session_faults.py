"""The same short stories again and again, with one fault at each operation of the disk.

A story is run once to count the operations of the disk, and then once per operation: the process dies there,
the power is cut there, the operation fails, the disk is full.
Afterwards, on a disk that behaves again, everything that was promised must hold.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from kernel.errors import LucidError, StoreError
from lucid.v1 import session_pb2
from session.recording import Recording
from storage.faults import Died
from tests.scenarios.world import KIB, ListSource, World, ending, ignore, plaintext, request

CHUNK = 64 * KIB
PIECE = 20_000
LIVE = plaintext(5 * PIECE, seed=1)
BULK = plaintext(3 * CHUNK + 100, seed=2)


@dataclass
class Told:
    """What a client was told before the fault: promises."""

    sessions: dict[bytes, bytes] = field(default_factory=dict)
    tokens: dict[bytes, bytes] = field(default_factory=dict)
    acknowledged: dict[bytes, int] = field(default_factory=dict)
    durable: dict[bytes, int] = field(default_factory=dict)
    complete: list[bytes] = field(default_factory=list)
    deleted: list[bytes] = field(default_factory=list)

    def take(self, recording: Recording, data: bytes) -> None:
        self.sessions[recording.session_id] = data
        self.tokens[recording.session_id] = recording.resume_token
        self.acknowledged[recording.session_id] = self.durable[recording.session_id] = 0


Story = Callable[[World, Told], Awaitable[None]]


async def record_live(world: World, told: Told) -> None:
    recording = await world.manager.open_recording(request(live=True))
    told.take(recording, LIVE)
    for start in range(0, len(LIVE), PIECE):
        position = await recording.append(start, LIVE[start : start + PIECE])
        told.acknowledged[recording.session_id] = position
        await world.clock.advance(2.5)
        if recording.failure is None and not world.faults.dead:
            told.durable[recording.session_id] = position
    await recording.finish(ending())
    told.complete.append(recording.session_id)


async def record_bulk(world: World, told: Told) -> None:
    recording = await world.manager.open_recording(request(live=False))
    told.take(recording, BULK)

    def on_progress(done: int, _stored: int) -> None:
        told.acknowledged[recording.session_id] = told.durable[recording.session_id] = done

    await recording.copy(ListSource(BULK), on_progress)
    await recording.finish(ending())
    told.complete.append(recording.session_id)


async def recover_and_delete(world: World, told: Told) -> None:
    """Interrupted, continued by the owner, held, released, finalized, deleted."""
    manager = world.manager
    recording = await manager.open_recording(request(live=True))
    told.take(recording, LIVE)
    told.acknowledged[recording.session_id] = await recording.append(0, LIVE[:PIECE])
    await recording.interrupt("gone")
    again = await manager.continue_recording(recording.session_id, None)
    told.tokens[again.session_id] = again.resume_token
    told.acknowledged[again.session_id] = await again.append(again.position, LIVE[PIECE : 2 * PIECE])
    await again.interrupt("gone")
    await manager.set_hold(again.session_id, True)
    await manager.set_hold(again.session_id, False)
    await manager.finalize(again.session_id)
    told.complete.append(again.session_id)
    told.deleted.append(again.session_id)
    await manager.delete(again.session_id)


STORIES: list[Story] = [record_live, record_bulk, recover_and_delete]


async def tell(world: World, story: Story, told: Told) -> BaseException | None:
    """Runs a story up to its fault."""
    try:
        await world.boot()
        await story(world, told)
    except (Died, LucidError) as error:
        return error
    return None


async def count_operations(story: Story) -> int:
    world = World()
    assert await tell(world, story, Told()) is None
    return world.faults.operations


async def check(world: World, told: Told, promised: dict[bytes, int]) -> None:
    """What was promised holds; and every session can be brought to a good end."""
    manager = world.manager
    assert manager.problems == []
    listed = {info.session_id: info for info in (await manager.list())}
    gone = {info.session_id for info in (await manager.list(state=session_pb2.STATE_DELETED))}
    for session_id, data in told.sessions.items():
        if session_id in told.deleted and session_id in gone:
            continue
        assert session_id in listed, "a session that was opened is not listed"
        kept = await world.read(session_id)
        assert kept == data[: len(kept)], "other bytes than were recorded"
        assert len(kept) >= promised[session_id], "acknowledged bytes are lost"
        assert (await world.verify(session_id)).valid
        if session_id in told.complete:
            assert listed[session_id].state == session_pb2.STATE_COMPLETE
    for session_id in listed:
        await bring_to_an_end(world, told, session_id)
    assert world.ports.blobs.used_bytes() == sum(
        world.files.size(path) for path in world.files.paths() if path.startswith("blobs/")
    )
    assert sum(info.stored_bytes for info in (await manager.list())) == world.ports.blobs.used_bytes()


async def bring_to_an_end(world: World, told: Told, session_id: bytes) -> None:
    manager, token = world.manager, told.tokens.get(session_id)
    if (await manager.info(session_id)).state == session_pb2.STATE_INTERRUPTED:
        if token is None:
            await manager.finalize(session_id)
        else:
            recording = await continue_with(world, session_id, token)
            data = told.sessions[session_id]
            if recording.ended:
                data = await world.read(session_id)
            elif recording.live:
                await recording.append(recording.position, data[recording.position :])
            else:
                await recording.copy(ListSource(data, recording.position), ignore)
            await recording.finish(ending())
            assert await world.read(session_id) == data
    assert (await manager.info(session_id)).state == session_pb2.STATE_COMPLETE
    assert (await world.verify(session_id)).valid


async def continue_with(world: World, session_id: bytes, token: bytes) -> Recording:
    """With the token if it still counts: one that was just replaced may or may not."""
    try:
        return await world.manager.continue_recording(session_id, token)
    except LucidError:
        return await world.manager.continue_recording(session_id, None)


@pytest.mark.parametrize("story", STORIES)
async def test_process_killed_at_every_step(story: Story) -> None:
    for operation in range(await count_operations(story)):
        world, told = World(seed=operation), Told()
        world.faults.die_at = operation
        await tell(world, story, told)
        await world.kill()
        await world.boot()
        await check(world, told, told.acknowledged)


@pytest.mark.parametrize("story", STORIES)
async def test_power_cut_at_every_step(story: Story) -> None:
    for operation in range(await count_operations(story)):
        world, told = World(seed=operation), Told()
        world.faults.die_at = operation
        await tell(world, story, told)
        await world.kill(power=True)
        await world.boot()
        await check(world, told, told.durable)


@pytest.mark.parametrize("story", STORIES)
async def test_recovery_itself_killed_at_every_step(story: Story) -> None:
    middle = await count_operations(story) // 2
    for operation in range(10_000):
        world, told = World(seed=operation), Told()
        world.faults.die_at = middle
        await tell(world, story, told)
        await world.kill()
        world.faults.die_at = operation
        try:
            await world.boot()
        except Died:
            pass
        else:
            if world.faults.operations <= operation:
                break
        await world.kill(power=operation % 2 == 0)
        await world.boot()
        await check(world, told, told.durable if operation % 2 == 0 else told.acknowledged)
    assert operation > 3


@pytest.mark.parametrize("fault", ["full_at", "fail_at"])
@pytest.mark.parametrize("story", STORIES)
async def test_disk_full_or_failing_at_every_step(story: Story, fault: str) -> None:
    for operation in range(await count_operations(story)):
        world, told = World(seed=operation), Told()
        setattr(world.faults, fault, operation)
        error = await tell(world, story, told)
        assert error is None or isinstance(error, StoreError), repr(error)
        await world.kill()
        await world.boot()
        await check(world, told, told.acknowledged)


@pytest.mark.parametrize("story", STORIES)
async def test_a_disk_that_runs_full_keeps_what_it_has(story: Story) -> None:
    for capacity in range(20_000, 300_000, 7_001):
        world, told = World(seed=capacity), Told()
        world.faults.capacity_bytes = capacity
        await tell(world, story, told)
        await world.kill()
        world.faults.capacity_bytes = None
        await world.boot()
        await check(world, told, told.acknowledged)


async def test_a_quota_below_what_is_there_lets_sessions_be_deleted() -> None:
    world = World()
    manager = await world.boot()
    recording = await manager.open_recording(request(live=False))
    await recording.copy(ListSource(plaintext(500_000)), ignore)
    await recording.finish(ending())
    await world.kill()
    world.quota_bytes = 100_000
    manager = await world.boot()
    with pytest.raises(StoreError, match="quota"):
        await manager.open_recording(request(live=False))
    assert await manager.delete(recording.session_id) > 100_000
    again = await manager.open_recording(request(live=False))
    await again.copy(ListSource(b"there is room"), ignore)
    await again.finish(ending())


async def test_quota_stops_a_recording_and_leaves_room_to_close_it() -> None:
    world = World(quota_bytes=400_000)
    manager = await world.boot()
    recording = await manager.open_recording(request(live=False))
    with pytest.raises(StoreError, match="quota"):
        await recording.copy(ListSource(plaintext(2_000_000)), ignore)
    await recording.interrupt("quota")
    assert world.ports.blobs.used_bytes() + world.ports.journal.used_bytes() <= 400_000
    kept = await world.read(recording.session_id)
    assert kept
    assert kept == plaintext(2_000_000)[: len(kept)]


@pytest.mark.parametrize("failing", ["fsync", "fsync_dir"])
async def test_frames_that_could_not_be_synced_are_sealed_though_the_source_is_quiet(failing: str) -> None:
    world = World()
    recording = await (await world.boot()).open_recording(request(live=True))
    await recording.append(0, LIVE)
    world.faults.before = fail_once(failing, "tail-")
    await world.clock.advance(3)
    assert isinstance(recording.failure, StoreError)
    await world.kill(power=True)
    await world.boot()
    assert await world.read(recording.session_id, partial=True) == LIVE


def fail_once(name: str, part: str) -> Callable[[int, str, str], None]:
    """Lets the first operation of that name fail that has to do with such a path."""
    failed: list[str] = []

    def before(_number: int, operation: str, path: str) -> None:
        if not failed and operation == name and (part in path or name == "fsync_dir"):
            failed.append(path)
            raise StoreError(f"cannot {operation} {path}: planned failure")

    return before
