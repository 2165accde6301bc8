"""An old copy of a store is brought up from what peers keep, and only then signs and publishes again."""

import asyncio
import copy

import pytest

from dht.attesting import Attester
from dht.publishing import MEET_S
from kernel.errors import Conflict, InvalidRecord, LucidError, Unavailable
from lucid.v1 import session_pb2
from node.own_checkpoints import OwnCheckpoints
from session import tables
from session.adoption import Copy
from storage.faults import Died
from tests.scenarios.owner_world import DEV, OwnerWorld, make_holders
from tests.scenarios.test_heads import copy_blobs
from tests.scenarios.witness_world import WitnessPeers, make_witnesses
from tests.scenarios.world import KIB, plaintext, request
from tests.unit.dht.holder import Holder


class OldWorld(OwnerWorld):
    """A device with witnesses and keepers, whose store can be put back."""

    witness_peers: WitnessPeers
    attester: Attester

    async def boot(self) -> None:  # type: ignore[override]
        await super().boot()
        checkpoints = OwnCheckpoints(self.ports.records, self.ports.journal, self.keys)
        self.attester = Attester(
            self.clock,
            self.records,
            self.witness_peers,
            checkpoints,
            self.identity.device,
            DEV,
            lambda *_: None,
        )
        self.witnesses = self.attester
        await super().boot()

    def take_backup(self) -> tuple[object, ...]:
        return copy.deepcopy((self.files, self.records, self.faults))

    def put_back(self, backup: tuple[object, ...]) -> None:
        self.files, self.records, self.faults = copy.deepcopy(backup)  # type: ignore[assignment]

    async def append(self, session_id: bytes, size: int, seed: int = 5) -> None:
        """Goes on in a session, and is interrupted again."""
        recording = await self.manager.continue_recording(session_id, None)
        await recording.append(recording.position, plaintext(size, seed))
        await recording.interrupt("pause")
        assert await self.attester.attest(session_id)

    async def finalize(self, session_id: bytes) -> session_pb2.SessionRow:
        """As a node does it."""
        with pytest.raises(Conflict):
            await self.manager.finalize(session_id)
        await self.heads.catch_up()
        if self.row(session_id).state != session_pb2.STATE_COMPLETE:
            await self.manager.finalize(session_id)
        return self.row(session_id)

    def row(self, session_id: bytes) -> session_pb2.SessionRow:
        value = self.records.get(tables.SESSIONS, session_id)
        assert value is not None
        return session_pb2.SessionRow.FromString(value)


async def make_world(holders: list[Holder]) -> OldWorld:
    world = OldWorld()
    _, world.witness_peers = await make_witnesses(5, world.identity)
    await world.boot()
    world.meet(holders)
    return world


async def begin(world: OldWorld) -> bytes:
    recording = await world.manager.open_recording(request(live=True))
    await recording.append(0, plaintext(100 * KIB))
    await recording.interrupt("pause")
    assert await world.attester.attest(recording.session_id)
    assert await world.publish()
    return recording.session_id


async def make_old_copy(holders: list[Holder]) -> tuple[OldWorld, OldWorld, bytes]:
    """A world whose store is an old copy, the newest store for comparison, and an open session."""
    world = await make_world(holders)
    session_id = await begin(world)
    backup = world.take_backup()
    await world.append(session_id, 200 * KIB)
    assert await world.publish()
    newest = copy.copy(world)
    world.put_back(backup)
    await world.boot()
    return world, newest, session_id


async def test_an_old_copy_is_brought_up_and_closed() -> None:
    world, newest, session_id = await make_old_copy(await make_holders())
    before = newest.row(session_id)
    row = await world.finalize(session_id)
    assert row.state == session_pb2.STATE_COMPLETE
    assert not row.HasField("adopted")
    last = session_pb2.Checkpoint.FromString(row.last_checkpoint.payload)
    assert last.sequence >= before.checkpoint_count
    assert await world.attester.attest(session_id)
    await copy_blobs(newest, world)
    assert (await world.read(session_id))[: 300 * KIB] == await newest.read(session_id)
    result = await world.verify(session_id)
    assert result.valid, result.findings


async def test_a_session_that_ended_since_is_complete_then() -> None:
    world = await make_world(await make_holders())
    session_id = await begin(world)
    backup = world.take_backup()
    await world.append(session_id, 200 * KIB)
    await world.manager.finalize(session_id)
    assert await world.attester.attest(session_id)
    assert await world.publish()
    closed = world.row(session_id).closed
    world.put_back(backup)
    await world.boot()
    assert (await world.finalize(session_id)).closed == closed


async def test_left_over_frames_that_newer_chunks_cover_are_dropped() -> None:
    world = await make_world(await make_holders())
    recording = await world.manager.open_recording(request(live=True))
    session_id = recording.session_id
    await recording.append(0, plaintext(30 * KIB))
    await world.clock.advance(6)
    backup = world.take_backup()
    await recording.append(30 * KIB, plaintext(200 * KIB, 6))
    await recording.interrupt("pause")
    assert await world.attester.attest(session_id)
    assert await world.publish()
    newest = copy.copy(world)
    world.put_back(backup)
    await world.boot()
    assert world.ports.journal.size(tables.tail_stream(session_id, 0))
    assert (await world.finalize(session_id)).state == session_pb2.STATE_COMPLETE
    assert not world.ports.journal.size(tables.tail_stream(session_id, 0))
    await copy_blobs(newest, world)
    assert await world.read(session_id) == plaintext(30 * KIB) + plaintext(200 * KIB, 6)


async def test_heads_that_do_not_reach_what_was_witnessed_leave_it_refused() -> None:
    holders = await make_holders()
    world = await make_world(holders)
    session_id = await begin(world)
    backup = world.take_backup()
    await world.append(session_id, 100 * KIB)
    assert await world.publish()
    known = world.row(session_id).checkpoint_count
    await world.append(session_id, 100 * KIB)
    world.put_back(backup)
    await world.boot()
    with pytest.raises(Conflict, match="old copy"):
        await world.finalize(session_id)
    row = world.row(session_id)
    assert row.state == session_pb2.STATE_INTERRUPTED
    assert row.checkpoint_count == known < row.witnessed_count


async def test_no_head_replaces_a_newer_one_that_was_not_read_yet() -> None:
    """The next head would take its place with all keepers, and what it leads to would be lost."""
    world, newest, session_id = await make_old_copy(await make_holders())
    later = await newest_session(newest)
    world.witness_peers = newest.witness_peers
    blind = world.peers.peers
    for peer in blind:
        peer.faults.edit_get = lambda _number, _response: None
    with pytest.raises(Unavailable):
        await world.publish()
    for peer in blind:
        peer.faults.edit_get = lambda _number, response: response
    assert await world.publish()
    assert world.row(session_id).checkpoint_count == newest.row(session_id).checkpoint_count
    assert world.row(later).HasField("adopted")


async def newest_session(newest: OldWorld) -> bytes:
    """Something else was recorded after the backup."""
    session_id = await newest.record(5000)
    assert await newest.publish()
    return session_id


async def test_keepers_that_may_still_come_are_waited_for() -> None:
    world, _, _ = await make_old_copy(await make_holders())
    world.peers.peers[0].faults.unreachable = True
    assert not await world.publish()
    await world.clock.advance(MEET_S)
    assert await world.publish()


async def test_two_histories_are_not_joined() -> None:
    """Without witnesses it went on from the old copy: what is here contradicts the newer head."""
    world, newest, session_id = await make_old_copy(await make_holders())
    world.witness_peers.away.update(world.witness_peers.peers)
    recording = await world.manager.continue_recording(session_id, None)
    await recording.append(recording.position, plaintext(100 * KIB, 9))
    await recording.interrupt("pause")
    before = world.row(session_id)
    facts = await world.ports.journal.read(tables.facts_stream(session_id))
    await world.heads.catch_up()
    assert world.row(session_id) == before
    assert (await world.ports.journal.read(tables.facts_stream(session_id))).records == facts.records
    copied = await newest.ports.journal.read(tables.facts_stream(session_id))
    with pytest.raises(InvalidRecord):
        await world.manager.catch_up(make_copy(session_id, copied.records))
    assert await world.publish()


def make_copy(session_id: bytes, records: list[tuple[int, bytes]]) -> Copy:
    return Copy(session_id, [payload for _, payload in records], session_pb2.Adopted())


@pytest.mark.parametrize("power", [False, True])
async def test_killed_at_every_step(power: bool) -> None:
    world, newest, session_id = await make_old_copy(await make_holders())
    with pytest.raises(Conflict):
        await world.manager.finalize(session_id)
    start = world.take_backup()
    world.faults.operations = 0
    await world.finalize(session_id)
    operations = world.faults.operations
    assert operations > 10
    for operation in range(operations):
        world.put_back(start)
        await world.boot()
        world.faults.die_at = world.faults.operations + operation
        with pytest.raises((Died, LucidError)):
            await world.finalize(session_id)
        await world.kill(power=power)
        world.faults.revive()
        await world.boot()
        await world.heads.catch_up()
        if world.row(session_id).state != session_pb2.STATE_COMPLETE:
            await world.manager.finalize(session_id)
        await copy_blobs(newest, world)
        assert (await world.read(session_id))[: 300 * KIB] == await newest.read(session_id)
        assert (await world.verify(session_id)).valid


async def test_one_peer_that_stays_away_delays_the_first_head_by_seconds() -> None:
    world, _, _ = await make_old_copy(await make_holders())
    away, *others = world.peers.peers
    away.faults.unreachable = True
    publisher = world.heads.publisher
    assert publisher is not None
    running = asyncio.ensure_future(publisher.run())
    for peer in others:
        peer.faults.calls.clear()
    await world.clock.advance(1)
    assert not any("put_head" in peer.faults.calls for peer in others)
    await world.clock.advance(2 * MEET_S + 2)
    assert all("put_head" in peer.faults.calls for peer in others)
    running.cancel()
