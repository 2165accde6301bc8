"""Heads are published, kept, rolled back by liars; sessions come back from them onto an empty disk."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dht import tables as dht_tables
from dht.bandwidth import Pace, Throttle
from dht.publishing import KEEPERS
from kernel.errors import Conflict, LucidError, Unavailable
from lucid.v1 import chunk_pb2, session_pb2
from session import tables
from storage.faults import Died
from tests.scenarios.owner_world import OwnerWorld, make_holders
from tests.scenarios.world import request
from tests.unit.dht.holder import Holder
from tests.unit.dht.memory_peer import MemoryPeer


async def copy_blobs(old: OwnerWorld, new: OwnerWorld) -> None:
    """Stands for fetching chunks from their holders."""
    for blob_id in old.ports.blobs.ids():
        await new.ports.blobs.put(blob_id, [await old.ports.blobs.read(blob_id)])


async def make_old(holders: list[Holder]) -> OwnerWorld:
    old = OwnerWorld()
    await old.boot()
    old.meet(holders)
    return old


async def make_new(holders: list[Holder], device: bytes = b"n", seed: int = 2) -> OwnerWorld:
    new = OwnerWorld(device=device, seed=seed)
    await new.boot()
    new.meet(holders)
    return new


async def test_sessions_come_back_onto_an_empty_disk() -> None:
    holders = await make_holders()
    old = await make_old(holders)
    first, second = await old.record(200_000), await old.record(10, seed=6)
    await old.manager.set_hold(second, held=True)
    assert await old.publish()
    new = await make_new(holders)
    restored = await new.restore()
    assert (restored.peers, restored.heads, restored.sessions) == (4, 1, 2)
    assert (restored.restored, restored.known, restored.problems) == (2, 0, [])
    await copy_blobs(old, new)
    for session_id in (first, second):
        assert await new.read(session_id) == await old.read(session_id)
        result = await new.verify(session_id)
        assert result.valid, result.findings
        before, after = await old.manager.info(session_id), await new.manager.info(session_id)
        assert after.adopted and not after.owner and not after.unreadable
        after.adopted = False
        assert after == before
    with pytest.raises(Conflict, match="legal hold"):
        await new.manager.delete(second)
    again = await new.restore()
    assert (again.restored, again.known, again.problems) == (0, 2, [])


async def test_they_survive_the_new_node_s_restart_and_go_on_to_a_third_one() -> None:
    holders = await make_holders()
    old = await make_old(holders)
    session_id = await old.record()
    await old.publish()
    new = await make_new(holders)
    await new.restore()
    own = await new.record(seed=9)
    assert await new.publish()
    await new.kill(power=True)
    await new.boot()
    new.meet(holders)
    await copy_blobs(old, new)
    assert (await new.verify(session_id)).valid
    third = await make_new(holders, b"t", 3)
    restored = await third.restore()
    assert (restored.heads, restored.sessions, restored.restored, restored.problems) == (2, 2, 2, [])
    await copy_blobs(new, third)
    assert (await third.verify(session_id)).valid
    assert (await third.verify(own)).valid


async def test_a_session_that_was_being_recorded_is_interrupted_and_stays_so() -> None:
    holders = await make_holders()
    old = await make_old(holders)
    recording = await old.manager.open_recording(request(live=True))
    await recording.append(0, bytes(100_000))
    await old.clock.advance(40)
    await recording.append(100_000, bytes(10))
    await old.clock.advance(6)
    assert await old.publish()
    new = await make_new(holders)
    assert (await new.restore()).restored == 1
    await copy_blobs(old, new)
    info = await new.manager.info(recording.session_id)
    assert (info.state, info.gaps) == (session_pb2.STATE_INTERRUPTED, 1)
    assert "brought back" in info.reason
    result = await new.verify(recording.session_id)
    assert result.valid, result.findings
    assert await new.read(recording.session_id) == bytes(100_000)
    for forbidden in (
        new.manager.finalize(recording.session_id),
        new.manager.continue_recording(recording.session_id, recording.resume_token),
        new.manager.continue_recording(recording.session_id, None),
    ):
        with pytest.raises(Conflict, match="another device"):
            await forbidden
    assert new.manager.interrupted() == []
    await new.kill()
    await new.boot()
    assert (await new.verify(recording.session_id)).valid
    await recording.interrupt("end of test")


async def test_deleted_sessions_do_not_come_back() -> None:
    holders = await make_holders()
    old = await make_old(holders)
    kept, gone, later = [await old.record(seed=seed) for seed in (1, 2, 3)]
    await old.publish()
    await old.manager.delete(gone)
    assert await old.publish()
    new = await make_new(holders)
    restored = await new.restore()
    assert (restored.sessions, restored.restored) == (2, 2)
    await new.manager.delete(later)
    assert (await new.restore()).known == 2
    assert await new.publish()
    third = await make_new(holders, b"t", 3)
    assert (await third.restore()).sessions == 1
    states = [(await third.manager.info(one)).state for one in (kept, gone, later)]
    expected = (session_pb2.STATE_COMPLETE, session_pb2.STATE_DELETED, session_pb2.STATE_DELETED)
    assert tuple(states) == expected


async def test_what_is_replaced_is_released_and_nothing_is_sent_twice() -> None:
    holders = await make_holders()
    old = await make_old(holders)
    recording = await old.manager.open_recording(request(live=True))
    await recording.append(0, b"x" * 1000)
    await old.clock.advance(6)
    await old.publish()
    for _ in range(5):
        await old.clock.advance(6)
        await old.manager.set_hold(recording.session_id, held=True)
        assert await old.publish()
    assert await old.publish()
    held = {chunk_id for holder in holders for chunk_id in holder.ports.blobs.ids()}
    row = old.records.get(dht_tables.OBJECTS, b"s" + recording.session_id)
    assert row is not None
    assert len(held) == 2, "one stretch and one index"
    own = [blob for blob in old.ports.blobs.ids() if blob in held]
    assert sorted(own) == sorted(held)
    calls = [peer.faults.calls for peer in old.peers.peers]
    for one in calls:
        one.clear()
    assert await old.publish()
    assert not any(calls)
    await recording.interrupt("end of test")


async def test_finished_stretches_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dht.fact_copies.STRETCH_BYTES", 2000)
    holders = await make_holders()
    old = await make_old(holders)
    session_id = await old.record(600_000)
    await old.publish()
    before = _stretches(old, session_id)
    assert len(before) > 1
    await old.manager.set_hold(session_id, held=True)
    await old.publish()
    after = _stretches(old, session_id)
    assert after[: len(before) - 1] == before[:-1]
    assert after[-1] != before[-1]
    new = await make_new(holders)
    assert (await new.restore()).restored == 1


def _stretches(world: OwnerWorld, session_id: bytes) -> list[bytes]:
    publisher = world.heads.publisher
    assert publisher is not None
    count = next(count for one, count in publisher._sessions.list() if one == session_id)
    return [one.SerializeToString() for one in publisher.list_stretches(session_id, count)]


async def test_heads_rolled_back_by_some_peers_do_not_hide_the_newest() -> None:
    holders = await make_holders(3)
    old = await make_old(holders)
    await old.record(seed=1)
    await old.publish()
    stale = await holders[0].heads.get_head(
        chunk_pb2.GetHeadRequest(locator=old.owner_keys.head_locator.public_key)
    )
    await old.clock.advance(60)
    await old.record(seed=2)
    assert await old.publish()

    new = await make_new(holders)
    for peer in new.peers.peers[:2]:
        _answer(peer, stale)
    restored = await new.restore()
    assert restored.restored == 2
    assert len(restored.problems) == 2
    assert all("serves an old head" in problem for problem in restored.problems)
    # The node that has its receipt knows that it lies.
    _answer(old.peers.peers[0], stale)
    assert any("acknowledged head" in problem for problem in (await old.restore()).problems)


async def test_forged_and_foreign_heads_are_told_of_and_ignored() -> None:
    holders = await make_holders(3)
    old, stranger = await make_old(holders), OwnerWorld(b"x", b"y")
    await stranger.boot()
    stranger.meet(holders)
    await stranger.record()
    await stranger.publish()
    locator = stranger.owner_keys.head_locator.public_key
    foreign = await holders[0].heads.get_head(chunk_pb2.GetHeadRequest(locator=locator))
    await old.record()
    await old.publish()
    own = await holders[0].heads.get_head(
        chunk_pb2.GetHeadRequest(locator=old.owner_keys.head_locator.public_key)
    )
    forged = chunk_pb2.GetHeadResponse()
    forged.CopyFrom(own)
    forged.entries[0].head.payload += b"\x08"
    new = await make_new(holders)
    for peer, answer in zip(new.peers.peers[:2], (foreign, forged), strict=True):
        _answer(peer, answer)
    restored = await new.restore()
    assert (restored.restored, restored.heads) == (1, 1)
    assert sum("does not hold" in problem for problem in restored.problems) == 2


def _answer(peer: MemoryPeer, answer: chunk_pb2.GetHeadResponse) -> None:
    async def get_head(request: chunk_pb2.GetHeadRequest) -> chunk_pb2.GetHeadResponse:
        return answer

    peer.get_head = get_head  # type: ignore[method-assign]


async def test_other_words_find_nothing_and_nobody_answers_is_told_apart() -> None:
    holders = await make_holders(2)
    old = await make_old(holders)
    await old.record()
    await old.publish()
    other = OwnerWorld(b"z", b"n")
    await other.boot()
    other.meet(holders)
    restored = await other.restore()
    assert (restored.peers, restored.heads, restored.sessions) == (2, 0, 0)
    other.meet([])
    assert (await other.restore()).peers == 0


async def test_peers_that_are_gone_get_the_head_when_they_come() -> None:
    holders = await make_holders(KEEPERS)
    old = await make_old(holders)
    await old.record()
    for peer in old.peers.peers:
        peer.faults.unreachable = True
    assert not await old.publish()
    assert "not kept" in old.heads.publisher.problem  # type: ignore[union-attr]
    for peer in old.peers.peers:
        peer.faults.unreachable = False
    assert await old.publish()
    new = await make_new(holders)
    for peer in new.peers.peers[1:]:
        peer.faults.unreachable = True
    restored = await new.restore()
    assert restored.heads == 1


async def test_a_session_whose_copies_nobody_has_is_told_of_and_comes_later() -> None:
    holders = await make_holders(4)
    old = await make_old(holders)
    session_id = await old.record()
    await old.publish()
    [reference] = old.heads.publisher.list_stretches(session_id, _count(old, session_id))  # type: ignore[union-attr]
    new = await make_new(holders)
    part = reference.parts[0].chunk_id
    blobs = {}
    for holder in holders:
        if holder.ports.blobs.size(part) is not None:
            blobs[holder.identity.device] = await holder.ports.blobs.read(part)
            await holder.ports.blobs.remove([part])
    restored = await new.restore()
    assert restored.restored == 0
    assert any("no peer gives chunk" in problem for problem in restored.problems)
    await holders[0].ports.blobs.put(part, [next(iter(blobs.values()))])
    assert (await new.restore()).restored == 1


def _count(world: OwnerWorld, session_id: bytes) -> int:
    row = session_pb2.SessionRow.FromString(world.records.get(tables.SESSIONS, session_id) or b"")
    return row.fact_count


async def test_a_node_without_a_head_grant_publishes_nothing() -> None:
    world = OwnerWorld(has_head_grant=False)
    await world.boot()
    assert world.heads.publisher is None
    with pytest.raises(Conflict, match="older than heads"):
        await world.restore()


async def test_the_loop_publishes_by_itself_and_a_recording_never_waits() -> None:

    holders = await make_holders(3)
    old = await make_old(holders)
    publishing = asyncio.create_task(old.heads.run())
    try:
        session_id = await old.record()
        await old.clock.advance(3)
        new = await make_new(holders)
        assert (await new.restore()).restored == 1
        await old.manager.delete(session_id)
        await old.clock.advance(3)
        third = await make_new(holders, b"t", 3)
        assert (await third.restore()).sessions == 0
    finally:
        publishing.cancel()


async def publish_story(world: OwnerWorld) -> None:
    await world.record(seed=1)
    await world.publish()
    gone = await world.record(seed=2)
    await world.publish()
    await world.manager.delete(gone)
    await world.record(seed=3)
    await world.publish()


async def _count_operations(story: "object", holders: list[Holder]) -> int:
    world = await make_old(holders)
    before = world.faults.operations
    await story(world)  # type: ignore[operator]
    return world.faults.operations - before


@pytest.mark.parametrize("power", [False, True])
async def test_publishing_killed_at_every_step(power: bool) -> None:
    total = await _count_operations(publish_story, await make_holders(3))
    for operation in range(0, total, 3):
        holders = await make_holders(3)
        world = await make_old(holders)
        world.faults.die_at = world.faults.operations + operation
        with pytest.raises((Died, LucidError)):
            await publish_story(world)
        await world.kill(power=power)
        world.faults.revive()
        await world.boot()
        world.meet(holders)
        assert await world.publish()
        assert await world.publish(), "what was retired is released in the end"
        sessions = [info.session_id for info in await world.manager.list()]
        new = await make_new(holders)
        restored = await new.restore()
        assert (restored.problems, restored.restored) == ([], len(sessions)), operation
        objects = len(sessions) + 1
        assert len({blob for holder in holders for blob in holder.ports.blobs.ids()}) >= objects
        retired = world.records.scan(dht_tables.OBJECTS, prefix=dht_tables.RETIRED_PREFIX)
        assert not retired


@pytest.mark.parametrize("power", [False, True])
async def test_restoring_killed_at_every_step(power: bool) -> None:
    holders = await make_holders(3)
    old = await make_old(holders)
    sessions = [await old.record(size, seed=size) for size in (10, 100_000)]
    await old.publish()
    probe = await make_new(holders)
    before = probe.faults.operations
    await probe.restore()
    total = probe.faults.operations - before
    assert total > 20
    for operation in range(total):
        new = await make_new(holders)
        new.faults.die_at = new.faults.operations + operation
        with pytest.raises((Died, LucidError)):
            await new.restore()
        await new.kill(power=power)
        new.faults.revive()
        await new.boot()
        new.meet(holders)
        assert new.manager.problems == [], operation
        restored = await new.restore()
        assert (restored.problems, restored.restored + restored.known) == ([], 2), operation
        await copy_blobs(old, new)
        for session_id in sessions:
            assert (await new.verify(session_id)).valid, operation
        assert not [name for name in new.ports.journal.streams() if name.endswith("adopting")]


class Meter(Throttle):
    """Counts what passes and stops nothing."""

    passed_bytes = 0
    is_limited = True

    async def wait(self, size_bytes: int) -> None:
        self.passed_bytes += size_bytes


async def test_heads_and_what_they_lead_to_count_against_the_limits_on_speed() -> None:
    holders = await make_holders()
    old = OwnerWorld()
    up, down = Meter(old.clock), Meter(old.clock)
    old.pace = Pace(old.clock, up=up, down=down)
    await old.boot()
    old.meet(holders)
    await old.record(10)
    assert await old.publish()
    assert (up.passed_bytes > 1000, down.passed_bytes) == (True, 0)
    new = OwnerWorld(device=b"n", seed=2)
    new.pace = old.pace
    await new.boot()
    new.meet(holders)
    assert (await new.restore()).restored == 1
    assert down.passed_bytes > 1000


async def test_a_peer_that_falls_silent_does_not_keep_what_heads_lead_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    holders = await make_holders()
    old = await make_old(holders)
    await old.record(10)
    assert await old.publish()
    new = await make_new(holders)
    silent = new.peers.peers[0]

    async def say_nothing(request: chunk_pb2.GetChunkRequest) -> AsyncIterator[chunk_pb2.GetChunkResponse]:
        await asyncio.Event().wait()
        yield chunk_pb2.GetChunkResponse()

    monkeypatch.setattr(silent, "get_chunk", say_nothing)
    restoring = asyncio.create_task(new.restore())
    while not restoring.done():
        await new.clock.advance(10)
    assert (await restoring).restored == 1


async def test_a_blob_that_no_peer_gives_is_unavailable() -> None:
    world = await make_old([])
    with pytest.raises(Unavailable):
        await world.heads.taker._fetch(b"c" * 32, 10)
