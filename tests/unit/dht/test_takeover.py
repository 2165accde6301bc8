"""A node whose chunks are not here, as after a restore, takes over what holders keep, and renews it."""

from dht.lease import derive_lease_key
from dht.replicas import get_lease
from lucid.v1 import chunk_pb2
from tests.unit.dht.holder import DAY_S
from tests.unit.dht.owner import Owner, make_holders

ONE = b"1" * 16


async def lose_everything(owner: Owner, count: int = 3, size_bytes: int = 20_000) -> Owner:
    """Spreads a session, then stands for a new device on an empty disk that has adopted it."""
    await owner.boot()
    await owner.record(ONE, count, size_bytes)
    await owner.until_complete(ONE)
    await owner.kill()
    new = Owner(owner.holders)
    new.clock.now_ns = owner.clock.now_ns + 10**9
    new.recordings = owner.recordings
    return new


def count_puts(owner: Owner) -> int:
    return sum(peer.faults.calls.count("put_chunk") for peer in owner.peers.peers)


async def test_holders_get_new_leases_without_the_bytes() -> None:
    owner = Owner(await make_holders(6))
    new = await lose_everything(owner)
    old = {key: get_lease(row) for key, row in owner.rows().items()}
    await new.boot()
    await new.until_complete(ONE)
    for index in range(3):
        assert sorted(new.holders_of(ONE, index)) == sorted(owner.holders_of(ONE, index)), "it stays in place"
    highest = max(lease.sequence for lease in old.values())
    assert all(get_lease(row).sequence > highest for row in new.rows().values())
    assert (new.blobs.read_count, count_puts(new)) == (0, 9)
    outcome = await new.auditor.audit(ONE, 100, lambda done, total: None)
    assert not outcome.findings and len(outcome.holders) == 3
    await new.kill()


async def test_leases_of_chunks_that_are_not_here_are_renewed() -> None:
    new = await lose_everything(Owner(await make_holders(3)))
    await new.boot()
    await new.until_complete(ONE)
    before = {key: get_lease(row).until_s for key, row in new.rows().items()}
    await new.advance(16 * DAY_S, step_s=DAY_S / 4)
    await new.until_complete(ONE)
    assert all(get_lease(row).until_s > before[key] for key, row in new.rows().items())
    await new.kill()


async def test_what_holders_lost_is_made_again_from_the_others() -> None:
    owner = Owner(await make_holders(4))
    new = await lose_everything(owner)
    lost = owner.holder(owner.holders_of(ONE, 0)[0])
    for chunk in owner.recordings.made[ONE]:
        await lost.ports.blobs.remove([chunk.chunk_id])
    await new.boot()
    await new.until_complete(ONE, within_s=30)
    for index, chunk in enumerate(new.recordings.made[ONE]):
        for device in new.holders_of(ONE, index):
            assert new.holder(device).ports.blobs.size(chunk.chunk_id) == chunk.size_bytes
    await new.kill()


async def test_whoever_says_that_it_holds_what_it_does_not_is_given_it() -> None:
    owner = Owner(await make_holders(3))
    new = await lose_everything(owner, count=1)
    false = owner.holder(owner.holders_of(ONE, 0)[0])
    chunk = owner.recordings.made[ONE][0]
    blob = await false.ports.blobs.read(chunk.chunk_id)
    await false.ports.blobs.remove([chunk.chunk_id])
    await false.ports.blobs.put(chunk.chunk_id, [bytes(len(blob))])
    await new.boot()
    await new.until_complete(ONE, within_s=30)
    assert await false.ports.blobs.read(chunk.chunk_id) == blob
    await new.kill()


async def test_a_session_is_taken_over_when_its_holders_come() -> None:
    new = await lose_everything(Owner(await make_holders(3)))
    await new.boot(run=False)
    for peer in new.peers.peers:
        peer.faults.unreachable = True
    new.start()
    await new.advance(60)
    assert new.replicator.count(ONE).held == 0
    for peer in new.peers.peers:
        peer.faults.unreachable = False
    new.peers.tell_changed()
    await new.until_complete(ONE)
    await new.kill()


async def test_the_lease_key_is_the_sessions() -> None:
    new = await lose_everything(Owner(await make_holders(3)), count=1)
    await new.boot()
    await new.until_complete(ONE)
    key = derive_lease_key(b"s" * 32, ONE).public_key
    for holder in new.holders:
        chunk = new.recordings.made[ONE][0]
        held = holder.records.get("holdings", chunk.chunk_id)
        assert held is not None
        leases = chunk_pb2.Holding.FromString(held).leases
        assert [lease.lease.public_key for lease in leases] == [key], "no lease is left over"
    await new.kill()
