"""Bits that rot, an index that is lost: reported by name, nothing wrong is ever taken for right."""

import random

import pytest

from kernel.errors import LucidError
from kernel.ports import Delete
from lucid.v1 import session_pb2
from session import tables
from session.rebuild import find_lost_facts, rebuild_index
from tests.scenarios.world import ListSource, World, ending, ignore, plaintext, request


async def fill(world: World) -> dict[bytes, bytes]:
    """Four sessions: bulk, live with a gap, interrupted with live frames, deleted."""
    manager = await world.boot()
    bulk = await manager.open_recording(request(live=False))
    await bulk.copy(ListSource(plaintext(200_000, seed=1)), ignore)
    await bulk.finish(ending())
    live = await manager.open_recording(request(live=True))
    await live.append(0, plaintext(100_000, seed=2))
    await live.append(100_007, b"after the gap")
    await live.finish(ending())
    deleted = await manager.open_recording(request(live=True))
    await deleted.append(0, b"to be deleted")
    await deleted.finish(ending())
    await manager.delete(deleted.session_id)
    open_ = await manager.open_recording(request(live=True))
    for start in range(0, 30_000, 3_000):
        await open_.append(start, plaintext(30_000, seed=3)[start : start + 3_000])
    await world.clock.advance(6)
    await world.kill(power=True)
    return {
        bulk.session_id: plaintext(200_000, seed=1),
        live.session_id: plaintext(100_000, seed=2) + b"after the gap",
        open_.session_id: plaintext(30_000, seed=3),
    }


async def lose_index(world: World) -> None:
    await world.records.commit(
        [Delete(table, key) for table in tables.TABLES for key, _ in world.records.scan(table, damaged=[])]
    )


def snapshot(world: World) -> dict[str, list[tuple[bytes, bytes]]]:
    return {table: world.records.scan(table) for table in tables.TABLES}


async def test_a_rebuilt_index_is_the_lost_one(world: World) -> None:
    sessions = await fill(world)
    await world.boot()
    before = snapshot(world)
    await lose_index(world)
    seen: list[tuple[int, int]] = []
    rebuilt = await rebuild_index(world.ports, lambda done, total: seen.append((done, total)))
    assert (rebuilt.sessions, rebuilt.tombstones, rebuilt.problems) == (3, 1, [])
    assert seen[-1] == (3, 3)
    assert snapshot(world) == before
    await world.kill()
    manager = await world.boot()
    for session_id, data in sessions.items():
        assert await world.read(session_id) == data
        assert (await world.verify(session_id)).valid
    assert len(await manager.list(state=session_pb2.STATE_DELETED)) == 1


async def test_a_session_without_facts_is_not_counted_as_remade(world: World) -> None:
    sessions = await fill(world)
    await world.boot()
    await world.kill()
    await lose_index(world)
    first = next(iter(sessions))
    world.files.remove(f"journal/{tables.facts_stream(first)}.log")
    await world.reopen()
    rebuilt = await rebuild_index(world.ports, lambda done, total: None)
    assert rebuilt.sessions == 2
    [problem] = rebuilt.problems
    assert first.hex() in problem


async def test_an_empty_index_is_remade_by_a_start_alone(world: World) -> None:
    sessions = await fill(world)
    await lose_index(world)
    manager = await world.boot()
    assert manager.problems == []
    for session_id, data in sessions.items():
        assert await world.read(session_id) == data


@pytest.mark.parametrize("table", [tables.SESSIONS, tables.CHUNKS, tables.CHECKPOINTS])
async def test_a_damaged_row_is_remade_from_the_journal(world: World, table: str) -> None:
    sessions = await fill(world)
    before = snapshot(world)
    for key, _ in before[table]:
        world.records.flip(table, key, 77)
    await world.boot()
    assert {key for key, _ in snapshot(world)[table]} >= {key for key, _ in before[table]}
    for session_id, data in sessions.items():
        assert await world.read(session_id) == data
        assert (await world.verify(session_id)).valid


@pytest.mark.parametrize("seed", range(120))
async def test_one_flipped_bit_anywhere_is_never_taken_for_right(seed: int) -> None:
    world, rng = World(seed), random.Random(seed)
    sessions = await fill(world)
    # The tail of the open session is the shortest file: each file gets its turn.
    paths = [path for path in world.files.paths() if world.files.size(path)]
    path = paths[seed % len(paths)]
    world.files.flip(path, rng.randrange(world.files.size(path) * 8))
    try:
        manager = await world.boot()
    except LucidError:
        return
    harmed = 0
    for session_id, data in sessions.items():
        listed = [info.session_id for info in (await manager.list())]
        assert session_id in listed, "a session has disappeared"
        result = await world.verify(session_id)
        try:
            kept = await world.read(session_id)
        except LucidError:
            assert not result.valid
            harmed += 1
            continue
        if kept != data:
            info = await manager.info(session_id)
            assert info.gaps > 0 or manager.problems or not result.valid, "bytes are missing without a word"
            harmed += 1
        assert kept == data or len(kept) < len(data)
    assert harmed <= 1, "one flip harmed several sessions"


async def test_a_damaged_index_and_a_lost_journal_are_reported(world: World) -> None:
    sessions = await fill(world)
    first = next(iter(sessions))
    world.records.flip(tables.CHUNKS, tables.chunk_key(first, 0), 9)
    for path in world.files.paths():
        if path.endswith("facts.log") and first.hex() in path:
            world.files.remove(path)
    manager = await world.boot()
    assert any(first.hex() in problem for problem in manager.problems)
    assert len(world.ports.blobs.ids()) >= 4, "blobs were swept although the index is not whole"


async def test_journals_that_are_whole_lack_nothing(world: World) -> None:
    await fill(world)
    await world.reopen()
    assert await find_lost_facts(world.ports) == []
    await world.boot()
    assert await find_lost_facts(world.ports) == []


@pytest.mark.parametrize("is_removed", [True, False])
@pytest.mark.parametrize("name", ["facts", "secret"])
async def test_what_only_the_index_knows_is_named_for_good(world: World, name: str, is_removed: bool) -> None:
    sessions = await fill(world)
    await world.boot()
    await world.kill()
    first = next(iter(sessions))
    stream = tables.facts_stream(first) if name == "facts" else tables.secret_stream(first)
    path = f"journal/{stream}.log"
    if is_removed:
        world.files.remove(path)
    else:
        world.files.flip(path, world.files.size(path) * 8 - 9)
    await world.reopen()
    [lost] = await find_lost_facts(world.ports)
    assert first.hex() in lost
    await world.boot()
    assert await world.read(first) == sessions[first]
    assert await find_lost_facts(world.ports) == [lost]
