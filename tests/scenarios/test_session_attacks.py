"""What a careless client, a hostile file or an unlucky moment once got past: each must stay caught."""

import asyncio
from contextlib import suppress

import pytest

from kernel.errors import Conflict, InvalidRecord, LucidError, NotFound, StoreDamaged, StoreFull, UsageError
from kernel.ports import Delete, Put
from kernel.signing import SigningKey
from lucid.v1 import session_pb2
from lucid.v1.identity_pb2 import Signed
from session import tables
from session.access import MAX_MESSAGE_BYTES, RecorderKeys
from session.facts import apply_fact
from session.preset import SessionPreset
from session.recording import MAX_POSITION, Recording
from session.recording_request import RecordingRequest
from tests.scenarios.world import BytesSink, ListSource, World, ending, ignore, plaintext, request, settle


async def record(world: World, data: bytes = b"x") -> bytes:
    recording = await world.manager.open_recording(request(live=True))
    await recording.append(0, data)
    await recording.finish(ending())
    return recording.session_id


def get_row(world: World, session_id: bytes) -> session_pb2.SessionRow:
    value = world.records.get(tables.SESSIONS, session_id)
    assert value is not None
    return session_pb2.SessionRow.FromString(value)


async def put_row(world: World, session_id: bytes, row: session_pb2.SessionRow) -> None:
    await world.records.commit([Put(tables.SESSIONS, session_id, row.SerializeToString())])


def tail_path(session_id: bytes, index: int = 0) -> str:
    return f"journal/{tables.tail_stream(session_id, index)}.log"


def hold_puts(world: World) -> asyncio.Event:
    """Blobs are stored only once the event is set."""
    gate, put = asyncio.Event(), world.ports.blobs.put

    async def slow(*arguments: object) -> None:
        await gate.wait()
        await put(*arguments)  # type: ignore[arg-type]

    world.ports.blobs.put = slow  # type: ignore[method-assign, assignment]
    return gate


async def test_the_handler_of_a_lost_connection_does_not_end_its_successor(world: World) -> None:
    manager = await world.boot()
    old = await manager.open_recording(request(live=True))
    await old.append(0, b"abc")
    new = await manager.continue_recording(old.session_id, old.resume_token)
    await old.interrupt("connection lost")
    await new.append(new.position, b"def")
    await new.finish(ending())
    assert await world.read(new.session_id) == b"abcdef"


async def test_of_two_clients_that_come_back_at_once_one_records(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    await recording.append(0, b"abc")
    await recording.interrupt("gone")
    token = recording.resume_token
    both = await asyncio.gather(*(manager.continue_recording(recording.session_id, token) for _ in range(2)))
    outcomes = await asyncio.gather(*(each.append(3, b"def") for each in both), return_exceptions=True)
    assert [isinstance(outcome, Conflict) for outcome in outcomes] == [True, False]
    await both[1].finish(ending())
    assert (await world.verify(recording.session_id)).valid


async def test_a_cancelled_copy_can_be_interrupted_and_continued(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=False))
    gate = hold_puts(world)
    copying = asyncio.create_task(recording.copy(ListSource(plaintext(50_000)), ignore))
    await settle()
    copying.cancel()
    gate.set()
    with suppress(asyncio.CancelledError):
        await copying
    await recording.interrupt("client gone")
    assert (await manager.info(recording.session_id)).state == session_pb2.STATE_INTERRUPTED
    again = await manager.continue_recording(recording.session_id, recording.resume_token)
    await again.copy(ListSource(plaintext(50_000), again.position), ignore)
    await again.finish(ending())
    assert await world.read(again.session_id) == plaintext(50_000)


async def test_stopping_does_not_wait_for_a_source(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=False))

    class Silent:
        async def read(self, size_bytes: int) -> bytes:
            await asyncio.Event().wait()
            return b""

    copying = asyncio.create_task(recording.copy(Silent(), ignore))
    await settle()
    stopping = asyncio.create_task(manager.stop())
    await settle()
    assert stopping.done()
    copying.cancel()
    assert (await manager.info(recording.session_id)).state == session_pb2.STATE_INTERRUPTED


async def test_metadata_that_no_reader_would_accept_opens_no_session(world: World) -> None:
    manager = await world.boot()
    kind = session_pb2.SOURCE_KIND_STREAM
    for size, fits in ((MAX_MESSAGE_BYTES - 10, True), (MAX_MESSAGE_BYTES + 1, False)):
        wanted = RecordingRequest(kind, session_pb2.Metadata(command=["x" * size]), True)
        if fits:
            recording = await manager.open_recording(wanted)
            assert not (await manager.info(recording.session_id)).unreadable
            await recording.interrupt("end of test")
        else:
            with pytest.raises(UsageError):
                await manager.open_recording(wanted)


@pytest.mark.parametrize("retain_s", [2**60, -1])
async def test_an_impossible_retention_is_refused(world: World, retain_s: int) -> None:
    manager = await world.boot()
    with pytest.raises(UsageError):
        await manager.open_recording(request(live=True, retain_s=retain_s))


async def test_an_impossible_position_is_refused(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    with pytest.raises(UsageError):
        await recording.append(MAX_POSITION, b"a")
    assert await recording.append(0, b"fine") == 4
    await recording.interrupt("end of test")


async def test_a_recording_by_a_stranger_is_not_valid(world: World) -> None:
    honest = world.keys
    stranger = SigningKey.from_seed(b"z" * 32)
    world.keys = RecorderKeys(honest.network, stranger, b"O" * 32, honest.reader, {})
    await world.boot()
    session_id = await record(world, b"forged")
    world.keys = honest
    await world.boot()
    findings = [finding.what for finding in (await world.verify(session_id)).findings]
    assert any("device of the owner" in what for what in findings)
    assert any("another owner" in what for what in findings)


async def change_closed(row: session_pb2.SessionRow) -> None:
    row.ClearField("closed")


@pytest.mark.parametrize("field", ["closed", "root", "metadata", "retention", "gaps", "session_key", "other"])
async def test_verify_believes_no_row_of_the_index(world: World, field: str) -> None:
    await world.boot()
    session_id, other = await record(world), await record(world)
    row = get_row(world, session_id)
    match field:
        case "closed":
            row.ClearField("closed")
        case "root":
            row.root = b"R" * 32
        case "metadata":
            row.opened.metadata = bytes(len(row.opened.metadata))
        case "retention":
            row.opened.retain_until_s = 1
        case "gaps":
            row.gaps.append(0)
        case "session_key":
            row.opened.session_key = b"k" * 32
        case _:
            row = get_row(world, other)
    await put_row(world, session_id, row)
    assert not (await world.verify(session_id)).valid
    assert (await world.verify(other)).valid


async def test_a_missing_chunk_row_is_a_finding(world: World) -> None:
    await world.boot()
    session_id = await record(world)
    await world.records.commit([Delete(tables.CHUNKS, tables.chunk_key(session_id, 0))])
    assert not (await world.verify(session_id)).valid


async def test_a_missing_blob_is_damage_and_an_incident(world: World) -> None:
    manager = await world.boot()
    session_id = await record(world)
    await world.ports.blobs.remove(world.ports.blobs.ids())
    with pytest.raises(StoreDamaged):
        await world.read(session_id)
    assert (await manager.info(session_id)).incidents


async def test_nothing_follows_the_final_chunk(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    await recording.append(0, b"x")
    # The final chunk is durable, the manifest finds the disk full.
    for operation in range(world.faults.operations, world.faults.operations + 100):
        if recording.row.root != recording.row.opened.session_id and recording.ended:
            break
        world.faults.full_at = operation
        with suppress(StoreFull):
            await recording.finish(ending())
            break
    if recording.row.state == session_pb2.STATE_RECORDING:
        await recording.interrupt("full")
        again = await manager.continue_recording(recording.session_id, recording.resume_token)
        if again.ended:
            with pytest.raises(UsageError):
                await again.append(again.position, b"more")
        await again.finish(ending())
    chunks = world.records.scan(tables.CHUNKS, prefix=recording.session_id)
    flags = [session_pb2.ChunkEntry.FromString(value).flags & 1 for _, value in chunks]
    assert flags == [0] * (len(flags) - 1) + [1]
    assert (await world.verify(recording.session_id)).valid


async def test_a_stream_of_a_strange_name_does_not_stop_a_start(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    await recording.append(0, b"x")
    await world.ports.journal.append(
        tables.session_prefix(recording.session_id) + "/tail-9999999999", [b"y" * 100]
    )
    await world.kill()
    await world.boot()
    assert await world.read(recording.session_id) == b"x"


async def test_a_device_that_only_records_verifies_what_it_cannot_read(world: World) -> None:
    await world.boot()
    session_id = await record(world, plaintext(200_000))
    keys = world.keys
    world.keys = RecorderKeys(keys.network, keys.device, keys.owner, keys.reader, {})
    await world.boot()
    result = await world.verify(session_id)
    assert result.valid
    assert result.sealed
    path = next(path for path in world.files.paths() if path.startswith("blobs/"))
    world.files.flip(path, 10_000)
    assert not (await world.verify(session_id)).valid


async def test_a_row_is_not_given_up_when_its_journal_is_gone(world: World) -> None:
    await world.boot()
    session_id = await record(world)
    await world.kill()
    await world.ports.journal.drop(tables.facts_stream(session_id))
    world.records.flip(tables.CHECKPOINTS, tables.checkpoint_key(session_id, 0), 3)
    manager = await world.boot()
    assert manager.problems
    assert get_row(world, session_id).state == session_pb2.STATE_COMPLETE
    assert await world.read(session_id) == b"x"


async def test_a_closed_session_does_not_grow(world: World) -> None:
    await world.boot()
    session_id = await record(world)
    row = get_row(world, session_id)
    checkpoint = session_pb2.Checkpoint(chunk_count=row.chunk_count, sequence=row.checkpoint_count)
    signed = Signed(payload=checkpoint.SerializeToString())
    for fact in (
        session_pb2.Fact(checkpoint=signed),
        session_pb2.Fact(sealed=session_pb2.Sealed(checkpoint=signed)),
    ):
        with pytest.raises(InvalidRecord):
            apply_fact(session_id, row, fact)


async def test_a_session_is_held_or_deleted_never_both(world: World) -> None:
    manager = await world.boot()
    session_id = await record(world)
    sync = world.ports.journal.sync

    async def slow(stream: str) -> None:
        await settle()
        await sync(stream)

    world.ports.journal.sync = slow  # type: ignore[method-assign]
    outcomes = await asyncio.gather(
        manager.delete(session_id), manager.set_hold(session_id, True), return_exceptions=True
    )
    assert isinstance(outcomes[1], NotFound)
    assert world.records.get(tables.SESSIONS, session_id) is None
    assert not world.ports.journal.streams(tables.session_prefix(session_id))


async def test_the_gap_stands_before_the_chunk_that_follows_it(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    gate = hold_puts(world)
    await recording.append(0, b"before")
    appending = asyncio.create_task(recording.append(1000, b"after"))
    await settle()
    assert not recording.row.pending_gap
    gate.set()
    await appending
    await world.kill()
    manager = await world.boot()
    chunks = world.records.scan(tables.CHUNKS, prefix=recording.session_id)
    entries = [session_pb2.ChunkEntry.FromString(value) for _, value in chunks]
    assert [(entry.flags & 2, entry.plaintext_bytes, entry.lost_bytes) for entry in entries] == [
        (0, 6, 0),
        (2, 5, 994),
    ]
    assert (await manager.info(recording.session_id)).gaps == 1


async def test_a_finalized_session_ended_when_it_was_last_seen(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    await recording.append(0, b"x")
    await world.clock.advance(10)
    last_ns = world.clock.wall_ns()
    await world.kill()
    world.clock.now_ns += 86_400 * 10**9
    manager = await world.boot()
    info = await manager.finalize(recording.session_id)
    assert info.started_ns < info.ended_ns <= last_ns


async def test_a_tombstone_that_names_no_session_erases_nothing(world: World) -> None:
    await world.boot()
    session_id = await record(world)
    await world.ports.journal.append(
        tables.TOMBSTONE_STREAM, [session_pb2.Tombstone(deleted_ns=1).SerializeToString(), b"\xff"]
    )
    await world.ports.journal.sync(tables.TOMBSTONE_STREAM)
    await world.kill()
    manager = await world.boot()
    assert len(manager.problems) == 2
    assert await world.read(session_id) == b"x"


async def test_after_a_cancelled_append_nothing_more_is_acknowledged(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    await recording.append(0, b"one")
    append = world.ports.journal.append

    async def slow(stream: str, payloads: object) -> None:
        await append(stream, payloads)  # type: ignore[arg-type]
        await asyncio.sleep(0)

    world.ports.journal.append = slow  # type: ignore[method-assign]
    appending = asyncio.create_task(recording.append(3, b"two"))
    await asyncio.sleep(0)
    appending.cancel()
    with suppress(asyncio.CancelledError):
        await appending
    with pytest.raises((LucidError, asyncio.CancelledError)):
        await recording.append(recording.position, b"three")
    await world.kill()
    manager = await world.boot()
    again = await manager.continue_recording(recording.session_id, recording.resume_token)
    assert await world.read(again.session_id) in (b"one", b"onetwo")
    await again.interrupt("end of test")


async def test_a_damaged_facts_journal_is_told_at_the_start(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    for _ in range(3):
        await recording.append(recording.position, b"x" * 100)
        await world.clock.advance(31)
    await recording.interrupt("gone")
    await world.kill()
    path = f"journal/{tables.facts_stream(recording.session_id)}.log"
    world.files.flip(path, world.files.size(path) // 2 * 8)
    manager = await world.boot()
    assert any("session" in problem for problem in manager.problems)
    assert (await world.verify(recording.session_id)).valid


async def test_facts_that_only_the_index_remembers_do_not_hide_new_ones(world: World) -> None:
    manager = await world.boot()
    session_id = await record(world)
    await manager.set_hold(session_id, True)
    await world.kill()
    path = f"journal/{tables.facts_stream(session_id)}.log"
    world.files.truncate(path, world.files.size(path) - 10)
    manager = await world.boot()
    assert manager.problems
    assert (await manager.info(session_id)).held
    await manager.set_hold(session_id, False)
    await world.kill()
    manager = await world.boot()
    assert not (await manager.info(session_id)).held


@pytest.mark.parametrize("back", [500, 1500])
async def test_rot_in_frames_that_nobody_signed_is_a_gap(world: World, back: int) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    for number in range(4):
        await recording.append(recording.position, b"%d" % number * 1000)
    await world.kill()
    path = tail_path(recording.session_id)
    world.files.flip(path, (world.files.size(path) - back) * 8)
    manager = await world.boot()
    again = await manager.continue_recording(recording.session_id, recording.resume_token)
    assert again.position == 3000
    await again.append(4000, b"rest")
    await again.finish(ending())
    assert (await manager.info(again.session_id)).gaps >= 1


async def test_a_lost_stream_of_frames_is_a_gap(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    hold_puts(world)
    for number in range(8):
        await recording.append(recording.position, bytes([65 + number]) * 10_000)
    await world.kill()
    await world.ports.journal.drop(tables.tail_stream(recording.session_id, 0))
    manager = await world.boot()
    info = await manager.info(recording.session_id)
    assert (info.chunks, info.gaps, info.plaintext_bytes) == (2, 1, 20_000)


async def test_frames_that_do_not_open_are_an_incident(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    for letter in (b"a", b"b"):
        await recording.append(recording.position, letter * 100)
    stream = tables.tail_stream(recording.session_id, 0)
    first, second = [payload for _, payload in (await world.ports.journal.read(stream)).records]
    await world.kill()
    await world.ports.journal.drop(stream)
    forged = second[:-1] + bytes([second[-1] ^ 1])
    await world.ports.journal.append(stream, [first, forged])
    manager = await world.boot()
    info = await manager.info(recording.session_id)
    assert (info.plaintext_bytes, info.gaps, len(info.incidents)) == (100, 1, 1)


async def test_following_tells_of_damage_once(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    for start in (0, 1000):
        await recording.append(start, b"a" * 1000)
    world.files.flip(tail_path(recording.session_id), 500 * 8)
    following = asyncio.create_task(
        manager.get(recording.session_id, BytesSink(), partial=True, follow=True, on_progress=ignore)
    )
    await world.clock.advance(2, 0.1)
    await recording.interrupt("end of test")
    await world.clock.advance(1, 0.1)
    assert 1 <= len((await following).findings) <= 2


async def test_recordings_that_are_being_opened_count(world: World) -> None:
    world.preset = SessionPreset(chunk_bytes=65536, max_recordings=1)
    manager = await world.boot()
    sync = world.ports.journal.sync

    async def slow(stream: str) -> None:
        await asyncio.sleep(0)
        await sync(stream)

    world.ports.journal.sync = slow  # type: ignore[method-assign]
    opened = await asyncio.gather(
        *(manager.open_recording(request(live=True)) for _ in range(3)), return_exceptions=True
    )
    assert [isinstance(each, Recording) for each in opened] == [True, False, False]


def test_a_preset_that_cannot_work_is_refused() -> None:
    for wrong in ({"chunks_in_flight": 0}, {"max_recordings": 0}, {"chunk_bytes": 1}):
        with pytest.raises(ValueError, match="must be"):
            SessionPreset(**wrong)


async def test_a_client_that_lost_the_answer_learns_that_its_session_is_complete(world: World) -> None:
    manager = await world.boot()
    recording = await manager.open_recording(request(live=True))
    await recording.append(0, b"x")
    assert manager.get_done(recording.session_id, recording.resume_token) is None
    done = await recording.finish(ending())
    assert manager.get_done(recording.session_id, recording.resume_token) == done
    with pytest.raises(NotFound):
        manager.get_done(recording.session_id, bytes(32))
