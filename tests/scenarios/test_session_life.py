"""Sessions from start to end on a disk that behaves: recording, reading, verifying, holding, deleting."""

import asyncio

import pytest

from kernel.errors import Conflict, InvalidRecord, LucidError, NotFound, StoreFull, UsageError
from lucid.v1 import session_pb2
from session import tables
from session.catalog import format_session_id
from tests.scenarios.world import (
    KIB,
    BytesSink,
    ListSource,
    World,
    ending,
    ignore,
    plaintext,
    request,
    settle,
)

SIZES = [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 10 * 64 * KIB + 5]


async def record_bulk(world: World, data: bytes) -> bytes:
    recording = await world.manager.open_recording(request(live=False))
    await recording.copy(ListSource(data), ignore)
    done = await recording.finish(ending())
    assert done.plaintext_bytes == len(data)
    return done.session_id


async def record_live(world: World, data: bytes, piece: int = 10_000) -> bytes:
    recording = await world.manager.open_recording(request(live=True))
    for start in range(0, len(data), piece):
        assert await recording.append(start, data[start : start + piece]) == start + len(
            data[start : start + piece]
        )
    done = await recording.finish(ending())
    assert done.plaintext_bytes == len(data)
    return done.session_id


@pytest.mark.parametrize("record", [record_bulk, record_live])
@pytest.mark.parametrize("size", SIZES)
async def test_what_was_recorded_comes_back_and_verifies(record: object, size: int) -> None:
    world = World()
    await world.boot()
    data = plaintext(size)
    session_id = await record(world, data)  # type: ignore[operator]
    assert await world.read(session_id) == data
    result = await world.verify(session_id)
    assert result.valid
    assert not result.findings
    info = await world.manager.info(session_id)
    assert (info.state, info.metadata.name, info.ended_ns) == (session_pb2.STATE_COMPLETE, "scenario", 9)
    assert info.stored_bytes == world.ports.blobs.used_bytes()
    await world.kill(power=True)
    await world.boot()
    assert world.manager.problems == []
    assert await world.read(session_id) == data
    assert (await world.verify(session_id)).valid


async def test_live_frames_are_readable_and_verifiable_while_recording(world: World) -> None:
    manager = await world.boot()
    data = plaintext(200_000)
    recording = await manager.open_recording(request(live=True))
    await recording.append(0, data[:150_000])
    await settle()
    assert await world.read(recording.session_id) == data[:150_000]
    await world.clock.advance(6)
    result = await world.verify(recording.session_id)
    assert result.valid
    assert result.checkpoints > 0
    await recording.append(150_000, data[150_000:])
    assert (await world.verify(recording.session_id)).valid
    assert (await manager.info(recording.session_id)).state == session_pb2.STATE_RECORDING
    await recording.interrupt("end of test")


async def test_following_sees_every_byte_once(world: World) -> None:
    manager = await world.boot()
    data = plaintext(300_000)
    recording = await manager.open_recording(request(live=True))
    sink = BytesSink(random_access=False)
    follower = asyncio.create_task(manager.get(recording.session_id, sink, follow=True, on_progress=ignore))
    for start in range(0, len(data), 7_000):
        await recording.append(start, data[start : start + 7_000])
        await world.clock.advance(0.3, 0.1)
    assert len(sink.data) > 250_000
    await recording.finish(ending())
    await world.clock.advance(1, 0.1)
    done = await follower
    assert bytes(sink.data) == data
    assert done.plaintext_bytes == len(data)


async def test_live_chunks_are_sealed_by_time_and_checkpoints_follow(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    await recording.append(0, b"x")
    await world.clock.advance(29)
    assert recording.row.chunk_count == 0
    assert 1 <= recording.row.checkpoint_count <= 6
    await world.clock.advance(3)
    assert recording.row.chunk_count == 1
    checkpoints = recording.row.checkpoint_count
    await world.clock.advance(60)
    assert recording.row.checkpoint_count == checkpoints
    await recording.interrupt("end of test")


async def test_checkpoints_of_a_busy_session_come_every_five_seconds(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    for second in range(20):
        await recording.append(second, b"x")
        await world.clock.advance(1)
    assert recording.row.checkpoint_count >= 4
    await recording.interrupt("end of test")


async def test_clock_jumps_change_nothing_but_the_times(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    for offset_s in (0, -86_400, 86_400 * 400, -10):
        world.clock.offset_ns += offset_s * 10**9
        await recording.append(recording.position, plaintext(1000))
        await world.clock.advance(6)
    await recording.finish(ending())
    assert (await world.verify(recording.session_id)).valid
    assert len(await world.read(recording.session_id)) == 4000


async def test_a_repeated_piece_is_taken_once_and_a_missing_one_is_a_gap(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    assert await recording.append(0, b"abc") == 3
    assert await recording.append(0, b"abc") == 3
    assert await recording.append(1, b"bcdef") == 6
    assert await recording.append(10, b"k") == 11
    await recording.finish(ending())
    info = await manager.info(recording.session_id)
    assert (info.gaps, info.lost_bytes, info.plaintext_bytes) == (1, 4, 7)
    assert await world.read(recording.session_id) == b"abcdefk"
    assert (await world.verify(recording.session_id)).valid


async def test_memory_is_bounded_by_slots(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=False))
    in_flight, most = 0, 0
    put = type(world.ports.blobs).put

    async def slow_put(self: object, blob_id: bytes, parts: object) -> None:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await settle()
        await put(self, blob_id, parts)  # type: ignore[arg-type]
        in_flight -= 1

    type(world.ports.blobs).put = slow_put  # type: ignore[method-assign]
    try:
        await recording.copy(ListSource(plaintext(40 * 64 * KIB)), ignore)
    finally:
        type(world.ports.blobs).put = put  # type: ignore[method-assign]
    assert 2 <= most <= world.preset.chunks_in_flight


async def test_too_many_recordings_are_refused(world: World) -> None:
    manager = await world.boot()
    for _ in range(world.preset.max_recordings):
        await manager.open_recording(request(live=False))
    with pytest.raises(Conflict):
        await manager.open_recording(request(live=False))


async def test_hold_refuses_deletion_and_survives_a_restart(world: World) -> None:
    manager = await world.boot()
    session_id = await record_bulk(world, b"data")
    assert (await manager.set_hold(session_id, True)).held
    await world.kill(power=True)
    manager = await world.boot()
    with pytest.raises(Conflict, match="legal hold"):
        await manager.delete(session_id)
    await manager.set_hold(session_id, False)
    assert await manager.delete(session_id) > 0


async def test_deletion_leaves_a_tombstone_and_no_bytes(world: World) -> None:
    manager = await world.boot()
    session_id = await record_live(world, plaintext(200_000))
    keep = await record_bulk(world, b"keep")
    kept = world.ports.blobs.used_bytes()
    await manager.delete(session_id)
    assert world.ports.blobs.used_bytes() < kept
    assert len(world.ports.blobs.ids()) == 1
    assert all(session_id.hex() not in path for path in world.files.paths())
    assert (await manager.info(session_id)).state == session_pb2.STATE_DELETED
    assert [info.session_id for info in (await manager.list())] == [keep]
    assert [info.session_id for info in (await manager.list(state=session_pb2.STATE_DELETED))] == [session_id]
    with pytest.raises(NotFound):
        await world.read(session_id)
    assert world.ports.records.scan(tables.CHUNKS, prefix=session_id) == []


async def test_the_index_never_holds_a_sealed_secret(world: World) -> None:
    await world.boot()
    session_id = await record_live(world, b"x")
    stream = tables.secret_stream(session_id)
    [(_, payload)] = (await world.ports.journal.read(stream)).records
    [sealed] = session_pb2.SealedSecrets.FromString(payload).secrets
    for table in tables.TABLES:
        for _, value in world.records.scan(table):
            assert sealed.ciphertext not in value


async def test_a_session_that_is_being_recorded_is_not_deleted(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    with pytest.raises(Conflict):
        await manager.delete(recording.session_id)
    with pytest.raises(Conflict):
        await manager.finalize(recording.session_id)
    with pytest.raises(Conflict):
        await manager.continue_recording(recording.session_id, None)
    await recording.interrupt("end of test")


async def test_retention_erases_in_time_but_never_what_is_held(world: World) -> None:
    manager = await world.boot()
    ids = []
    for _ in range(2):
        recording = await manager.open_recording(request(live=False, retain_s=100))
        await recording.copy(ListSource(b"x"), ignore)
        ids.append((await recording.finish(ending())).session_id)
    await manager.set_hold(ids[1], True)
    world.clock.now_ns += 99 * 10**9
    await manager.sweep()
    assert len(await manager.list()) == 2
    world.clock.now_ns += 2 * 10**9
    await manager.sweep()
    assert [info.session_id for info in (await manager.list())] == [ids[1]]


async def test_find_list_and_search(world: World) -> None:
    manager = await world.boot()
    ids = [await record_bulk(world, b"x") for _ in range(3)]
    for session_id in ids:
        text = format_session_id(session_id)
        assert manager.find(text) == manager.find(text.upper()) == session_id
        assert manager.find(text[:13]) == session_id
        assert manager.find(text[:11]) == session_id
    for bad in ("", "xyz", "0" * 33):
        with pytest.raises(UsageError):
            manager.find(bad)
    missing = next(digit for digit in "0123456789abcdef" if all(i.hex()[0] != digit for i in ids))
    with pytest.raises(NotFound):
        manager.find(missing)
    assert len(await manager.list(search="SCENARIO")) == len(await manager.list(tags=["t"])) == 3
    assert (await manager.list(search="nothing")) == (await manager.list(tags=["t", "u"])) == []
    assert (await manager.list(since_ns=world.clock.wall_ns() + 1)) == []


async def test_a_token_of_another_session_does_not_continue_it(world: World) -> None:
    manager = await world.boot()
    first = await manager.open_recording(request(live=True))
    second = await manager.open_recording(request(live=True))
    await first.interrupt("gone")
    for token in (second.resume_token, b"", bytes(32)):
        with pytest.raises(NotFound):
            await manager.continue_recording(first.session_id, token)
    await second.interrupt("end of test")


async def test_a_client_that_comes_back_takes_its_session_over(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    await recording.append(0, b"abc")
    again = await manager.continue_recording(recording.session_id, recording.resume_token)
    assert again.position == 3
    with pytest.raises(LucidError):
        await recording.append(3, b"from the lost connection")
    await again.append(3, b"def")
    await again.finish(ending())
    info = await manager.info(again.session_id)
    assert (info.gaps, info.state) == (0, session_pb2.STATE_COMPLETE)
    assert await world.read(again.session_id) == b"abcdef"


async def test_the_owner_continues_with_a_gap_and_old_tokens_are_void(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    await recording.append(0, b"abc")
    await recording.interrupt("gone")
    again = await manager.continue_recording(recording.session_id, None)
    assert again.resume_token != recording.resume_token
    await again.append(again.position, b"def")
    await again.interrupt("gone again")
    with pytest.raises(NotFound):
        await manager.continue_recording(recording.session_id, recording.resume_token)
    await manager.finalize(recording.session_id)
    info = await manager.info(recording.session_id)
    assert (info.gaps, info.state) == (2, session_pb2.STATE_COMPLETE)
    assert await world.read(recording.session_id) == b"abcdef"
    assert (await world.verify(recording.session_id)).valid
    with pytest.raises(Conflict):
        await manager.continue_recording(recording.session_id, None)
    with pytest.raises(Conflict):
        await manager.finalize(recording.session_id)


async def test_an_interrupted_file_goes_on_where_it_stopped(world: World) -> None:
    manager = await world.boot()
    data = plaintext(10 * 64 * KIB)
    recording = await manager.open_recording(request(live=False))

    class Broken(ListSource):
        async def read(self, size_bytes: int) -> bytes:
            if self.position > 5 * 64 * KIB:
                raise StoreFull("the source broke")
            return await super().read(size_bytes)

    with pytest.raises(StoreFull):
        await recording.copy(Broken(data), ignore)
    await recording.interrupt("source broke")
    again = await manager.continue_recording(recording.session_id, recording.resume_token)
    assert 0 < again.position < len(data)
    assert again.position % (64 * KIB) == 0
    await again.copy(ListSource(data, again.position), ignore)
    await again.finish(ending())
    assert await world.read(again.session_id) == data
    assert (await manager.info(again.session_id)).gaps == 0


async def test_finish_before_the_end_of_the_source_is_refused(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=False))
    with pytest.raises(Conflict):
        await recording.finish(ending())
    with pytest.raises(Conflict):
        await recording.append(0, b"not live")


async def test_stop_interrupts_what_runs_and_keeps_it(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    await recording.append(0, b"abc")
    await manager.stop()
    assert (await manager.info(recording.session_id)).state == session_pb2.STATE_INTERRUPTED
    await world.kill(power=True)
    await world.boot()
    assert await world.read(recording.session_id) == b"abc"


async def test_tampered_chunks_are_found_by_number(world: World) -> None:
    manager = await world.boot()
    data = plaintext(5 * 64 * KIB)
    session_id = await record_bulk(world, data)
    entries = [
        session_pb2.ChunkEntry.FromString(value)
        for _, value in world.ports.records.scan(tables.CHUNKS, prefix=session_id)
    ]
    paths = [f"blobs/{entry.chunk_id.hex()[:2]}/{entry.chunk_id.hex()}" for entry in entries]
    world.files.flip(paths[2], 50_000)
    result = await world.verify(session_id)
    assert not result.valid
    assert [(finding.has_index, finding.index) for finding in result.findings] == [(True, 2)]
    with pytest.raises(InvalidRecord):
        await world.read(session_id)
    damaged = await world.read(session_id, partial=True)
    assert len(damaged) == len(data)
    assert damaged[: 2 * 64 * KIB] == data[: 2 * 64 * KIB]
    assert damaged[2 * 64 * KIB : 3 * 64 * KIB] == bytes(64 * KIB)
    assert damaged[3 * 64 * KIB :] == data[3 * 64 * KIB :]
    assert len((await manager.info(session_id)).incidents) >= 1
    world.files.flip(paths[2], 50_000)
    assert (await world.verify(session_id)).valid
    world.files.rename(paths[0], "elsewhere")
    world.files.rename(paths[1], paths[0])
    world.files.rename("elsewhere", paths[1])
    assert [finding.index for finding in (await world.verify(session_id)).findings] == [0, 1]
    world.files.remove(paths[4])
    assert [finding.index for finding in (await world.verify(session_id)).findings] == [0, 1, 4]
