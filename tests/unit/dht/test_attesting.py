"""An owner's node has its checkpoints co-signed, and asks how far witnesses have seen a session."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from dht import tables
from dht.attesting import Attester, choose_witnesses, compute_witness_place
from dht.placement import compute_node_place
from dht.preset import WitnessPreset
from kernel.domains import Domain
from kernel.errors import Conflict, LucidError, PeerFault, StoreFull, Unavailable
from lucid.v1 import identity_pb2, witness_pb2
from storage.faults import Faults
from storage.memory_records import MemoryRecords
from tests.scenarios.witness_world import (
    NETWORK,
    SESSION,
    Series,
    WitnessNode,
    WitnessPeers,
    make_identity,
    make_witnesses,
)
from tests.scenarios.world import ManualClock, SeededRng, settle

DEVICE, CALLER = make_identity("device")


class Owner:
    """An owner's node with one session."""

    def __init__(self, peers: WitnessPeers, nodes: list[WitnessNode], series: Series | None = None) -> None:
        self.nodes = nodes
        self.peers = peers
        self.series = series or Series(DEVICE)
        self.clock = ManualClock()
        self.faults = Faults(SeededRng(1))
        self.records = MemoryRecords(tables.TABLES, self.faults)
        self.troubles: list[tuple[bytes, LucidError]] = []
        self.restart()

    def restart(self) -> None:
        self.attester = Attester(
            self.clock,
            self.records,
            self.peers,
            self.series,
            DEVICE.public_key,
            NETWORK,
            lambda _, witness, error: self.troubles.append((witness, error)),
            WitnessPreset(),
        )

    async def attest(self) -> bool:
        return await self.attester.attest(SESSION)

    def attested(self) -> dict[bytes, int]:
        return {signed.public_key: sequence for sequence, signed in self.attester.attestations(SESSION)}

    def calls(self) -> list[str]:
        return [call for peer in self.peers.peers.values() for call in peer.calls]


@pytest.fixture
async def owner() -> Owner:
    """With seven known nodes."""
    nodes, peers = await make_witnesses(7, CALLER)
    return Owner(peers, nodes)


@pytest.fixture
async def running(owner: Owner) -> AsyncIterator[Owner]:
    """The same, at work."""
    task = asyncio.create_task(owner.attester.run())
    await settle()
    yield owner
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def chosen(owner: Owner) -> list[bytes]:
    return [peer.device for peer in choose_witnesses(owner.peers.known(), SESSION, 5)]


def test_the_nearest_are_chosen() -> None:
    peers = [make_identity(f"node {number}")[1] for number in range(40)]
    found = choose_witnesses(peers, SESSION, 5)
    target = compute_witness_place(SESSION)

    def distance(device: bytes) -> bytes:
        return bytes(a ^ b for a, b in zip(compute_node_place(device), target, strict=True))

    assert [peer.device for peer in found] == sorted((peer.device for peer in peers), key=distance)[:5]
    assert choose_witnesses(reversed(peers), SESSION, 5) == found
    assert choose_witnesses(peers, bytes(16), 5) != found


async def test_five_co_sign_the_newest(owner: Owner) -> None:
    owner.series.grow(3)
    assert await owner.attest()
    assert owner.attested() == dict.fromkeys(chosen(owner), 0)
    owner.series.grow(2)
    owner.series.grow(2)
    assert await owner.attest()
    assert owner.attested() == dict.fromkeys(chosen(owner), 2)
    assert owner.calls() == ["attest"] * 10
    assert owner.troubles == []


async def test_nothing_is_asked_twice(owner: Owner) -> None:
    owner.series.grow()
    assert await owner.attest()
    assert await owner.attest()
    assert len(owner.calls()) == 5


async def test_nothing_is_to_do_without_a_checkpoint_or_for_one_of_another_device(owner: Owner) -> None:
    assert await owner.attest()
    owner.series.device = make_identity("another")[0]
    owner.series.grow()
    assert await owner.attest()
    assert owner.calls() == []


async def test_witnesses_that_are_away_are_asked_later(owner: Owner) -> None:
    owner.series.grow()
    away = chosen(owner)[:2]
    owner.peers.away.update(away)
    assert not await owner.attest()
    assert set(owner.attested()) == set(chosen(owner)[2:])
    owner.series.grow(4)
    assert not await owner.attest()
    owner.peers.away.clear()
    assert await owner.attest()
    assert owner.attested() == dict.fromkeys(chosen(owner), 1)


async def test_what_was_forgotten_here_is_learnt_from_the_witness(owner: Owner) -> None:
    owner.series.grow(3)
    await owner.attest()
    owner.series.grow(2)
    owner.records = MemoryRecords(tables.TABLES, owner.faults)
    owner.restart()
    assert await owner.attest()
    assert owner.calls().count("get_attested") == 5
    assert owner.attested() == dict.fromkeys(chosen(owner), 1)


async def test_a_witness_that_forgot_is_asked_anew(owner: Owner) -> None:
    owner.series.grow(3)
    await owner.attest()
    for node in owner.nodes:
        fresh = WitnessNode()
        node.files, node.records, node.faults = fresh.files, fresh.records, fresh.faults
        await node.boot()
    owner.series.grow(2)
    assert await owner.attest()
    assert owner.attested() == dict.fromkeys(chosen(owner), 1)


@pytest.mark.parametrize("failure", [Unavailable("gone"), StoreFull("full"), PeerFault("liar")])
async def test_one_that_fails_hinders_nobody(owner: Owner, failure: LucidError) -> None:
    owner.series.grow()
    first, *others = chosen(owner)
    owner.peers.peers[first].failure = failure
    assert not await owner.attest()
    assert set(owner.attested()) == set(others)
    assert owner.troubles == [(first, failure)]


async def test_what_is_no_attestation_is_a_fault(owner: Owner) -> None:
    owner.series.grow()
    first, second, third, *others = chosen(owner)
    stranger = make_identity("stranger")[0]

    def forge(answer: object) -> witness_pb2.AttestResponse:
        assert isinstance(answer, witness_pb2.AttestResponse)
        signed = stranger.sign(Domain.ATTESTATION, NETWORK, answer.attestation.payload)
        return witness_pb2.AttestResponse(attestation=signed)

    owner.peers.peers[first].lie = forge
    owner.peers.peers[second].lie = lambda _: witness_pb2.AttestResponse()
    owner.peers.peers[third].lie = lambda _: witness_pb2.AttestResponse(
        attestation=identity_pb2.Signed(payload=bytes(1000))
    )
    assert not await owner.attest()
    assert set(owner.attested()) == set(others)
    assert {witness for witness, error in owner.troubles if isinstance(error, PeerFault)} == {
        first,
        second,
        third,
    }


async def test_a_fork_is_reported_and_signed_by_nobody(owner: Owner) -> None:
    owner.series.grow()
    twin = owner.series.copy(b"twin")
    owner.series.grow()
    await owner.attest()
    twin.grow()
    old_copy = Owner(owner.peers, owner.nodes, twin)
    assert not await old_copy.attest()
    assert old_copy.attested() == {}
    assert [type(error) for _, error in old_copy.troubles] == [Conflict] * 5
    assert "old copy" in old_copy.troubles[0][1].hint


async def test_a_checkpoint_that_was_outrun_keeps_what_is_newer(owner: Owner) -> None:
    owner.series.grow()
    old = owner.series.copy()
    owner.series.grow()
    await owner.attest()
    owner.records = MemoryRecords(tables.TABLES, owner.faults)
    owner.restart()
    newest, owner.series.newest = owner.series.newest, old.newest  # type: ignore[method-assign]
    await owner.attest()
    owner.series.newest = newest  # type: ignore[method-assign]
    assert owner.attested() == dict.fromkeys(chosen(owner), 1)


async def test_it_goes_at_its_own_pace(running: Owner) -> None:
    running.series.grow()
    running.attester.on_changed(SESSION)
    await running.clock.advance(5)
    assert set(running.attested().values()) == {0}
    for _ in range(10):
        running.series.grow()
        running.attester.on_changed(SESSION)
        await running.clock.advance(0.4)
    await running.clock.advance(5)
    assert set(running.attested().values()) == {10}
    assert len(running.calls()) <= 15


async def test_a_restart_catches_up(owner: Owner) -> None:
    owner.series.grow()
    task = asyncio.create_task(owner.attester.run())
    await settle()
    assert set(owner.attested().values()) == {0}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_who_comes_back_is_asked_at_once_others_after_a_minute(running: Owner) -> None:
    first, second, *_ = chosen(running)
    running.peers.away.add(first)
    running.peers.peers[second].failure = Unavailable("busy")
    running.series.grow()
    running.attester.on_changed(SESSION)
    await running.clock.advance(5)
    assert len(running.attested()) == 3
    await running.clock.advance(20)
    assert len(running.peers.peers[second].calls) == 1
    running.peers.peers[second].failure = None
    await running.clock.advance(45)
    assert len(running.attested()) == 4
    running.peers.away.clear()
    await running.clock.advance(5)
    assert len(running.attested()) == 5


async def test_without_anybody_nothing_is_forgotten(running: Owner) -> None:
    running.peers.away.update(running.peers.peers)
    running.series.grow()
    running.attester.on_changed(SESSION)
    await running.clock.advance(100)
    assert running.calls() == []
    running.peers.away.clear()
    await running.clock.advance(5)
    assert len(running.attested()) == 5


async def test_attestations_of_deleted_sessions_go(owner: Owner) -> None:
    owner.series.grow()
    await owner.attest()
    gone, owner.series.session_id = SESSION, bytes(16)
    owner.series.signed = []
    task = asyncio.create_task(owner.attester.run())
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert owner.attester.attestations(gone) == []


async def test_a_full_disk_does_not_end_it(owner: Owner) -> None:
    owner.series.grow()
    await owner.attest()
    owner.series.session_id = bytes(16)
    owner.faults.operations, owner.faults.fail_at = 0, 0
    task = asyncio.create_task(owner.attester.run())
    await settle()
    assert not task.done()
    assert any(not witness for witness, _ in owner.troubles)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# Asking before a session goes on.


async def find_ahead(owner: Owner, count: int) -> identity_pb2.Signed | None:
    return await owner.attester.find_ahead(SESSION, DEVICE.public_key, count)


async def test_witnesses_tell_who_is_behind(owner: Owner) -> None:
    for _ in range(3):
        owner.series.grow()
    await owner.attest()
    assert await find_ahead(owner, 3) is None
    assert await find_ahead(owner, 2) == owner.series.signed[2]
    assert await find_ahead(owner, 0) == owner.series.signed[2]


async def test_the_one_that_saw_most_counts(owner: Owner) -> None:
    owner.series.grow()
    await owner.attest()
    owner.peers.away.update(chosen(owner)[1:])
    owner.series.grow()
    await owner.attest()
    owner.peers.away.clear()
    assert await find_ahead(owner, 1) == owner.series.signed[1]


async def test_one_that_signed_before_is_asked_though_others_are_nearer(owner: Owner) -> None:
    witness = chosen(owner)[4]
    owner.peers.away.update(set(owner.peers.peers) - {witness})
    owner.series.grow()
    owner.series.grow()
    await owner.attest()
    others = owner.peers.peers
    assert await find_ahead(owner, 1) == owner.series.signed[1]
    assert others[witness].calls == ["attest", "get_attested"]


async def test_nobody_known_is_nobody_to_ask() -> None:
    owner = Owner(WitnessPeers([]), [])
    assert await find_ahead(owner, 0) is None
    assert not owner.attester.exist


async def test_no_answer_is_told(owner: Owner) -> None:
    assert owner.attester.exist
    owner.peers.away.update(chosen(owner)[:3])
    for peer in owner.peers.peers.values():
        peer.failure = Unavailable("gone")
    with pytest.raises(Unavailable):
        await find_ahead(owner, 0)


async def test_a_lie_about_what_was_signed_is_no_answer(owner: Owner) -> None:
    owner.series.grow()
    await owner.attest()
    forged = Series(make_identity("stranger")[0])
    forged.grow()
    forged.grow()
    other_session = Series(DEVICE, bytes(16))
    other_session.grow()
    other_session.grow()

    def claim(signed: identity_pb2.Signed) -> Callable[[object], object]:
        def lie(answer: object) -> object:
            assert isinstance(answer, witness_pb2.GetAttestedResponse)
            return witness_pb2.GetAttestedResponse(checkpoint=signed, attestation=answer.attestation)

        return lie

    for signed in (forged.signed[1], other_session.signed[1], identity_pb2.Signed()):
        for peer in owner.peers.peers.values():
            peer.lie = claim(signed)
        with pytest.raises(Unavailable):
            await find_ahead(owner, 1)
    assert all(isinstance(error, PeerFault) for _, error in owner.troubles)


async def test_one_that_hangs_is_not_waited_for_forever(owner: Owner) -> None:
    owner.series.grow()
    owner.series.grow()
    await owner.attest()
    first = owner.peers.peers[chosen(owner)[0]]

    async def hang(request: object) -> witness_pb2.GetAttestedResponse:
        await asyncio.Event().wait()
        raise Unavailable("never")

    first.get_attested = hang  # type: ignore[method-assign]
    owner.attester = Attester(
        owner.clock,
        owner.records,
        owner.peers,
        owner.series,
        DEVICE.public_key,
        NETWORK,
        lambda *_: None,
        WitnessPreset(answer_s=0.01),
    )
    assert await find_ahead(owner, 1) == owner.series.signed[1]


async def test_peers_get_a_moment_to_come_after_a_start(owner: Owner) -> None:
    owner.series.grow()
    owner.series.grow()
    await owner.attest()
    owner.peers.away.update(owner.peers.peers)
    owner.attester.begin()
    asking = asyncio.create_task(find_ahead(owner, 1))
    await owner.clock.advance(1)
    assert not asking.done()
    owner.peers.away.clear()
    await owner.clock.advance(1)
    assert await asking == owner.series.signed[1]
    owner.peers.away.update(owner.peers.peers)
    await owner.clock.advance(2)
    with pytest.raises(Unavailable):
        await find_ahead(owner, 1)


async def test_peers_that_were_never_met_are_no_answer() -> None:
    owner = Owner(WitnessPeers([]), [])
    owner.attester = Attester(
        owner.clock,
        owner.records,
        owner.peers,
        owner.series,
        DEVICE.public_key,
        NETWORK,
        lambda *_: None,
        expects_peers=True,
    )
    assert owner.attester.exist
    with pytest.raises(Unavailable):
        await find_ahead(owner, 0)
