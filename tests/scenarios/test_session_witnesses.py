"""A recording with witnesses: an old copy of a store, put back, never signs on."""

import copy
from collections.abc import Sequence

import pytest

from dht import tables as dht_tables
from dht.attesting import Attester
from dht.ports import PeerIdentity
from kernel.errors import Conflict, Unavailable
from lucid.v1 import identity_pb2, session_pb2
from node.own_checkpoints import OwnCheckpoints
from session.recovery import rebuild_session
from session.tables import tail_stream
from storage.faults import Faults
from storage.memory_records import MemoryRecords
from tests.scenarios.witness_world import NETWORK, WitnessPeers, make_witnesses
from tests.scenarios.world import KIB, SeededRng, World, plaintext, request

INTERRUPTED = session_pb2.STATE_INTERRUPTED


class Scene:
    """A machine that records, and five witnesses."""

    def __init__(self, world: World, peers: WitnessPeers) -> None:
        self.world = world
        self.peers = peers
        self.records = MemoryRecords(dht_tables.TABLES, Faults(SeededRng(1)))
        self.attester: Attester

    async def boot(self) -> None:
        world = self.world
        await world.boot()
        checkpoints = OwnCheckpoints(world.ports.records, world.ports.journal, world.keys)
        device = world.keys.device.public_key
        self.attester = Attester(
            world.clock,
            self.records,
            self.peers,
            checkpoints,
            device,
            NETWORK,
            lambda *_: None,
        )
        world.witnesses = self.attester
        await world.boot()

    def take_backup(self) -> tuple[object, ...]:
        return copy.deepcopy((self.world.files, self.world.records, self.world.faults))

    def put_back(self, backup: tuple[object, ...]) -> None:
        self.world.files, self.world.records, self.world.faults = backup  # type: ignore[assignment]

    async def record(self, session_id: bytes, size: int) -> None:
        """Goes on in a session, so much, and is interrupted again."""
        recording = await self.world.manager.continue_recording(session_id, None)
        await recording.append(recording.position, plaintext(size))
        await recording.interrupt("pause")
        assert await self.attester.attest(session_id)

    def count_signed(self, session_id: bytes) -> int:
        return self.row(session_id).checkpoint_count

    def row(self, session_id: bytes) -> session_pb2.SessionRow:
        value = self.world.records.get("sessions", session_id)
        assert value is not None
        return session_pb2.SessionRow.FromString(value)

    def incidents(self, session_id: bytes) -> Sequence[str]:
        return [one.what for one in self.row(session_id).incidents]


@pytest.fixture
async def scene(world: World) -> Scene:
    _, peers = await make_witnesses(
        5, PeerIdentity(world.keys.device.public_key, world.keys.owner, bytes(32))
    )
    scene = Scene(world, peers)
    await scene.boot()
    return scene


async def begin(scene: Scene) -> bytes:
    recording = await scene.world.manager.open_recording(request(live=True))
    await recording.append(0, plaintext(100 * KIB))
    await recording.interrupt("pause")
    assert await scene.attester.attest(recording.session_id)
    return recording.session_id


async def test_with_witnesses_that_agree_it_goes_on(scene: Scene) -> None:
    session_id = await begin(scene)
    await scene.record(session_id, 80 * KIB)
    info = await scene.world.manager.finalize(session_id)
    assert info.state == session_pb2.STATE_COMPLETE
    assert not info.behind
    assert await scene.attester.attest(session_id)
    assert (await scene.world.verify(session_id)).valid


async def test_an_old_copy_neither_resumes_nor_finalizes(scene: Scene) -> None:
    session_id = await begin(scene)
    backup = scene.take_backup()
    await scene.record(session_id, 200 * KIB)
    seen = scene.count_signed(session_id)

    scene.put_back(backup)
    await scene.boot()
    signed = scene.count_signed(session_id)
    assert signed < seen
    for attempt in (
        lambda: scene.world.manager.continue_recording(session_id, None),
        lambda: scene.world.manager.finalize(session_id),
    ):
        with pytest.raises(Conflict) as caught:
            await attempt()
        assert f"{seen} checkpoints" in str(caught.value)
        assert "session recover" in caught.value.hint
    assert scene.count_signed(session_id) == signed
    [info] = await scene.world.manager.list()
    assert info.behind
    assert info.state == INTERRUPTED
    assert "old copy" in scene.incidents(session_id)[-1]
    assert len(scene.incidents(session_id)) == 1


async def test_what_was_learnt_survives_without_witnesses(scene: Scene) -> None:
    session_id = await begin(scene)
    backup = scene.take_backup()
    await scene.record(session_id, 200 * KIB)
    scene.put_back(backup)
    await scene.boot()
    with pytest.raises(Conflict):
        await scene.world.manager.finalize(session_id)
    scene.peers.away.update(scene.peers.peers)
    await scene.boot()
    with pytest.raises(Conflict):
        await scene.world.manager.finalize(session_id)


async def test_an_old_copy_with_live_frames_signs_nothing_when_it_starts(scene: Scene) -> None:
    recording = await scene.world.manager.open_recording(request(live=True))
    session_id = recording.session_id
    await recording.append(0, plaintext(100 * KIB))
    await scene.world.clock.advance(6)
    await scene.world.kill()
    backup = scene.take_backup()
    await scene.boot()
    signed = scene.count_signed(session_id)
    await scene.world.manager.settle_frames()
    assert scene.count_signed(session_id) == signed + 1
    assert await scene.attester.attest(session_id)
    await scene.record(session_id, 100 * KIB)

    scene.put_back(backup)
    await scene.boot()
    await scene.world.manager.settle_frames()
    assert scene.count_signed(session_id) == signed
    assert (await scene.world.manager.info(session_id)).behind
    assert len(await scene.world.read(session_id)) == 100 * KIB


async def test_without_an_answer_it_goes_on_and_says_so(scene: Scene) -> None:
    session_id = await begin(scene)
    scene.peers.away.update(scene.peers.peers)
    info = await scene.world.manager.finalize(session_id)
    assert info.state == session_pb2.STATE_COMPLETE
    assert "without its witnesses" in info.incidents[-1].what
    assert not info.behind


async def test_witnesses_that_fail_are_no_answer(scene: Scene) -> None:
    session_id = await begin(scene)
    for peer in scene.peers.peers.values():
        peer.failure = Unavailable("gone")
    assert (await scene.world.manager.finalize(session_id)).incidents


async def test_a_stranger_cannot_stop_a_session(scene: Scene) -> None:
    """A witness that claims to have seen more shows what the device never signed."""
    session_id = await begin(scene)
    for peer in scene.peers.peers.values():
        peer.lie = lie
    assert (await scene.world.manager.finalize(session_id)).state == session_pb2.STATE_COMPLETE


def lie(answer: object) -> object:
    answer.checkpoint.CopyFrom(identity_pb2.Signed(payload=b"\x10\xff\x01", public_key=bytes(32)))  # type: ignore[attr-defined]
    return answer


async def test_a_rebuilt_index_remembers_that_it_is_behind(scene: Scene) -> None:
    session_id = await begin(scene)
    backup = scene.take_backup()
    await scene.record(session_id, 200 * KIB)
    scene.put_back(backup)
    await scene.boot()
    with pytest.raises(Conflict):
        await scene.world.manager.finalize(session_id)
    assert await rebuild_session(scene.world.ports, session_id) == []
    assert scene.row(session_id).witnessed_count > scene.count_signed(session_id)


async def test_witnesses_are_asked_once_per_process(scene: Scene) -> None:
    session_id = await begin(scene)
    await scene.record(session_id, 80 * KIB)
    asked = sum(peer.calls.count("get_attested") for peer in scene.peers.peers.values())
    assert asked == 5
    await scene.record(session_id, 80 * KIB)
    assert sum(peer.calls.count("get_attested") for peer in scene.peers.peers.values()) == asked


async def test_frames_of_a_killed_process_are_durable_before_witnesses_answer(scene: Scene) -> None:
    """Whoever died cannot sync them any more; until they are chunks, the power may go as well."""
    world = scene.world
    recording = await world.manager.open_recording(request(live=True))
    await recording.append(0, plaintext(9000))
    await world.kill()
    await scene.boot()
    tail = f"journal/{tail_stream(recording.session_id, 0)}.log"
    assert world.files.read_durable(tail) == world.files.read_now(tail)
    await world.kill(power=True)
    await scene.boot()
    assert await world.read(recording.session_id, partial=True) == plaintext(9000)
