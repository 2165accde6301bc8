"""A session counts as replicated only when a head that others keep leads to it as it is."""

import asyncio
from weakref import WeakSet

import pytest

from dht.publishing import MEET_S, HeadPublisher
from dht.replicator import Replicator
from tests.scenarios.owner_world import OwnerWorld, make_holders
from tests.scenarios.world import settle
from tests.unit.dht.holder import Holder
from tests.unit.dht.memory_peer import MemoryPeer, MemoryPeers
from tests.unit.dht.owner import Owner
from tests.unit.dht.owner import make_holders as make_chunk_holders


async def make_owner(holders: list[Holder]) -> tuple[OwnerWorld, HeadPublisher]:
    owner = OwnerWorld()
    await owner.boot()
    owner.meet(holders)
    assert owner.heads.publisher is not None
    return owner, owner.heads.publisher


async def test_only_a_head_that_names_the_present_facts_counts() -> None:
    owner, publisher = await make_owner(await make_holders(4))
    session_id = await owner.record()
    assert publisher.count_keepers(session_id) == 0
    assert await publisher.publish()
    assert publisher.count_keepers(session_id) >= 3
    await owner.manager.set_hold(session_id, held=True)
    assert publisher.count_keepers(session_id) == 0, "the head does not know of the hold"
    assert await publisher.publish()
    assert publisher.count_keepers(session_id) >= 3
    assert publisher.count_keepers(b"?" * 16) == 0


async def test_a_restart_knows_who_keeps_the_head() -> None:
    holders = await make_holders(4)
    owner, publisher = await make_owner(holders)
    session_id = await owner.record()
    await publisher.publish()
    await owner.kill()
    await owner.boot()
    assert owner.heads.publisher is not None
    owner.meet(holders)
    assert owner.heads.publisher.count_keepers(session_id) == 0, "nobody was asked yet"
    await owner.heads.publisher.publish()
    assert owner.heads.publisher.count_keepers(session_id) >= 3


@pytest.mark.parametrize("fault", ["no head", "no copies"])
async def test_a_head_at_too_few_nodes_or_that_leads_to_too_few_copies_does_not_count(fault: str) -> None:
    quota_bytes = 1 if fault == "no copies" else 1 << 30
    full = [await Holder(name, quota_bytes=quota_bytes).boot() for name in ("one", "two")]
    owner, publisher = await make_owner([*await make_holders(1), *full])
    if fault == "no head":
        for peer in owner.peers.peers[1:]:
            peer.faults.unreachable = True
    session_id = await owner.record()
    await publisher.publish()  # peers may still come
    await owner.clock.advance(MEET_S)
    await publisher.publish()
    assert publisher.count_keepers(session_id) == 1


async def test_a_holder_whose_receipt_was_lost_takes_the_next_lease() -> None:
    owner, publisher = await make_owner(await make_holders(3))
    session_id = await owner.record()
    for peer in owner.peers.peers:  # it takes the object, and its answer does not come
        peer.faults.edit_put = lambda number, response: None if number else response
    await publisher.publish()
    assert publisher.count_keepers(session_id) == 0
    for peer in owner.peers.peers:
        peer.faults.edit_put = lambda _, response: response
    await owner.clock.advance(1)
    await publisher.publish()
    assert publisher.count_keepers(session_id) == 3


async def test_a_head_follows_the_end_of_a_session_at_once() -> None:
    owner, publisher = await make_owner(await make_holders(4))
    running = asyncio.create_task(publisher.run())
    told = asyncio.Event()
    publisher.on_kept = told.set
    await settle()
    session_id = await owner.record()
    for _ in range(20):
        await settle()
    await owner.clock.advance(0.2, step_s=0.1)
    for _ in range(20):
        await settle()
    assert publisher.count_keepers(session_id) >= 3 and told.is_set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class TaskwisePeers(MemoryPeers):
    """Something has changed once: every task is told of that when it asks for the first time."""

    def __init__(self, peers: list[MemoryPeer]) -> None:
        super().__init__(peers)
        self._told: WeakSet[asyncio.Task[object]] = WeakSet()

    async def wait_changed(self) -> None:
        task = asyncio.current_task()
        if task is not None and task not in self._told:
            self._told.add(task)
            return
        await asyncio.Event().wait()


async def test_a_publisher_that_has_nothing_to_do_rests() -> None:
    owner = OwnerWorld()
    owner.peers = TaskwisePeers([])
    await owner.boot()
    owner.meet(await make_holders(4))
    publisher = owner.heads.publisher
    assert publisher is not None
    running = asyncio.create_task(publisher.run())
    rounds: list[None] = []
    publisher.on_kept = lambda: rounds.append(None)
    await owner.record()
    await owner.clock.advance(120, step_s=0.5)
    assert 3 <= len(rounds) <= 8, len(rounds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_replicas_wait_for_heads() -> None:
    owner = await Owner(await make_chunk_holders(4)).boot()
    owner.recordings.heads = 0
    await owner.record(b"1" * 16, 2)
    await settle()
    replicator: Replicator = owner.replicator
    count = replicator.count(b"1" * 16)
    assert (count.replicas, count.held, count.pending, count.pending_chunks) == (0, 6, 3, 0)
    owner.recordings.heads = 2
    assert replicator.count(b"1" * 16).replicas == 2
    owner.recordings.heads = 9
    count = replicator.count(b"1" * 16)
    assert (count.replicas, count.pending, count.heads) == (3, 0, 3)
    await owner.kill()
