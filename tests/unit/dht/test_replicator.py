"""Every chunk gets its replicas, whatever peers and disks do."""

import pytest

from dht.lease import verify_receipt
from dht.preset import SpreadPreset
from dht.transfer import FRAME_BYTES
from kernel.chunk_id import LEAF_BYTES
from lucid.v1 import chunk_pb2
from tests.scenarios.world import settle
from tests.unit.dht.holder import DAY_S, NETWORK, Holder
from tests.unit.dht.owner import Owner, make_holders

ONE, TWO = b"1" * 16, b"2" * 16


async def test_every_chunk_gets_its_replicas_while_it_is_recorded() -> None:
    owner = await Owner(await make_holders(5)).boot()
    await owner.record(ONE, 1)
    await owner.until_complete(ONE)
    await owner.record(ONE, 9)
    await owner.record(TWO, 3)
    await owner.until_complete(ONE)
    await owner.until_complete(TWO)
    for session_id, count in ((ONE, 10), (TWO, 3)):
        assert owner.replicator.count(session_id).replicas == 3
        for index in range(count):
            holders = owner.holders_of(session_id, index)
            assert len(set(holders)) == 3
            chunk = owner.recordings.made[session_id][index]
            assert all(owner.holder(device).holdings.is_held(chunk.chunk_id) for device in holders)
    for (_, _, replica), row in owner.rows().items():
        verify_receipt(row.receipt, NETWORK, row.lease, row.holder)
        assert chunk_pb2.Lease.FromString(row.lease.payload).replica == replica
    assert len({tuple(owner.holders_of(ONE, index)) for index in range(10)}) == 1, "one group, one place"
    await owner.kill()


async def test_no_two_replicas_with_one_owner_and_none_with_our_own() -> None:
    holders = await make_holders(4)
    siblings = [await Holder(name).boot() for name in ("a", "b", "mine")]
    for holder, of in zip(siblings, (holders[0], holders[0], None), strict=True):
        owner_key = of.identity.owner if of else Owner([]).identity.owner
        holder.identity = type(holder.identity)(holder.identity.device, owner_key, b"b" * 32)
    owner = await Owner([*holders[:3], *siblings]).boot()
    await owner.record(ONE, 130)
    for _ in range(60):
        await settle()
    await owner.until_complete(ONE)
    for index in range(130):
        owners = [owner.holder(device).identity.owner for device in owner.holders_of(ONE, index)]
        assert len(owners) == len(set(owners)) == 3
        assert owner.identity.owner not in owners
    await owner.kill()


async def test_too_few_owners_leave_replicas_pending_until_there_are_more() -> None:
    holders = await make_holders(3)
    owner = await Owner(holders[:2]).boot()
    await owner.record(ONE, 2)
    await owner.advance(30)
    count = owner.replicator.count(ONE)
    assert (count.replicas, count.held, count.pending) == (2, 4, 2)
    calls = sum(len(peer.faults.calls) for peer in owner.peers.peers)
    await owner.advance(3600, step_s=60)
    assert sum(len(peer.faults.calls) for peer in owner.peers.peers) == calls, "it asks in vain"
    owner.holders = holders
    owner.peers.peers.append(holders[2].peer("owner"))
    owner.peers.tell_changed()
    await owner.until_complete(ONE)
    await owner.kill()


async def test_whoever_refuses_is_passed_over() -> None:
    holders = await make_holders(5)
    full = await Holder("full", quota_bytes=1).boot()
    owner = await Owner([*holders[:3], full]).boot()
    for number in range(6):
        await owner.record(bytes([number]) * 16, 2)
    for number in range(6):
        await owner.until_complete(bytes([number]) * 16)
    assert all(row.holder != full.identity.device for row in owner.rows().values())
    asked = owner.peer(full.identity.device).faults.calls
    assert 1 <= len(asked) <= 4, "a full peer is left alone for a while"
    await owner.kill()


async def test_the_row_says_why_nobody_holds_a_replica() -> None:
    holders = [*(await make_holders(2)), await Holder("full", quota_bytes=1).boot()]
    owner = await Owner(holders).boot()
    await owner.record(ONE, 1)
    await owner.advance(1)
    troubles = [row.trouble for row in owner.rows().values() if row.trouble]
    assert len(troubles) == 1
    assert owner.replicator.count(ONE).replicas == 2
    await owner.kill()


@pytest.mark.parametrize("fault", ["silent", "false receipt", "early end", "broken", "away"])
async def test_peers_that_fail_are_passed_over(fault: str) -> None:
    owner = await Owner(await make_holders(4)).boot()
    bad = owner.peers.peers[0]
    match fault:
        case "silent":
            bad.faults.silent_put_after = 1
        case "false receipt":
            bad.faults.edit_put = lambda number, response: owner_receipt(response) if number else response
        case "early end":
            bad.faults.edit_put = lambda number, response: None if number else response
        case "broken":
            bad.faults.break_put_after = 1
        case "away":
            bad.faults.unreachable = True
    for number in range(6):
        await owner.record(bytes([number]) * 16, 2)
    await owner.advance(200, step_s=10)
    for number in range(6):
        session_id = bytes([number]) * 16
        assert owner.replicator.count(session_id).pending == 0
        assert all(bad.identity.device not in owner.holders_of(session_id, index) for index in range(2))
    await owner.kill()


def owner_receipt(response: chunk_pb2.PutChunkResponse) -> chunk_pb2.PutChunkResponse:
    """A receipt over something else."""
    edited = chunk_pb2.PutChunkResponse.FromString(response.SerializeToString())
    edited.receipt.signature = bytes(64)
    return edited


async def test_a_peer_that_is_silent_for_a_moment_gets_its_replicas_later() -> None:
    owner = await Owner(await make_holders(3)).boot()
    late = owner.peers.peers[1]
    late.faults.unreachable = True
    await owner.record(ONE, 5)
    await owner.advance(1)
    assert owner.replicator.count(ONE).replicas == 2
    late.faults.unreachable = False
    owner.peers.tell_changed()
    await owner.until_complete(ONE)
    await owner.kill()


async def test_memory_is_bounded_whatever_the_peers_speed() -> None:
    preset = SpreadPreset(chunks_in_flight=4, chunks_per_peer=4)
    owner = await Owner(await make_holders(3), preset).boot()
    for peer in owner.peers.peers:
        peer.faults.silent_put_after = 1
    await owner.record(ONE, 20)
    await owner.advance(5)
    assert owner.blobs.read_count == 4
    await owner.kill()


async def test_a_slow_peer_leaves_room_for_others() -> None:
    owner = await Owner(await make_holders(6)).boot()
    slow = owner.peers.peers[0]
    slow.faults.silent_put_after = 1
    for number in range(20):
        await owner.record(bytes([number]) * 16, 3)
    await owner.advance(5)
    held = sum(owner.replicator.count(bytes([number]) * 16).held for number in range(20))
    assert held >= 0.6 * 20 * 3 * 3
    assert slow.faults.calls.count("put_chunk") <= 2
    await owner.kill()


async def test_what_is_complete_is_not_looked_at_again() -> None:
    owner = await Owner(await make_holders(4)).boot()
    for number in range(50):
        await owner.record(bytes([number]) * 16, 2)
    for number in range(50):
        await owner.until_complete(bytes([number]) * 16)
    await settle()
    before = owner.recordings.asked
    await owner.record(ONE, 1)
    owner.peers.tell_changed()
    await settle()
    await owner.until_complete(ONE)
    assert owner.recordings.asked - before <= 10
    await owner.kill()


async def test_a_broken_transfer_that_goes_forward_does_not_wait_longer_each_time() -> None:
    owner = await Owner(await make_holders(3)).boot()
    breaking = owner.peers.peers[0].faults
    breaking.break_put_after = 2  # the opening, and one frame
    await owner.record(ONE, 1, 10 * FRAME_BYTES)
    await owner.advance(12 * owner.preset.first_backoff_s)
    assert owner.replicator.count(ONE).replicas == 3
    assert breaking.calls.count("put_chunk") >= 10
    await owner.kill()


async def test_who_says_that_it_has_more_and_more_is_asked_as_often_as_there_are_frames() -> None:
    owner = await Owner(await make_holders(3)).boot()
    told = iter(range(0, 10**9, LEAF_BYTES))
    liar = owner.peers.peers[0].faults
    liar.break_put_after = 1
    liar.edit_put = lambda _, response: chunk_pb2.PutChunkResponse(offset=next(told))
    await owner.record(ONE, 1, 2 * FRAME_BYTES)
    await owner.advance(3600, step_s=5)
    assert liar.calls.count("put_chunk") <= 2 + 14
    await owner.kill()


async def test_leases_are_renewed_before_they_end() -> None:
    owner = await Owner(await make_holders(3)).boot()
    await owner.record(ONE, 3)
    await owner.until_complete(ONE)
    first = owner.rows()
    await owner.advance(14 * DAY_S, step_s=6 * 3600)
    assert owner.rows() == first
    await owner.advance(2 * DAY_S, step_s=6 * 3600)
    for key, row in owner.rows().items():
        old, new = (chunk_pb2.Lease.FromString(each.lease.payload) for each in (first[key], row))
        assert (new.holder, new.until_s > old.until_s, new.sequence > old.sequence) == (
            old.holder,
            True,
            True,
        )
    sent = [peer.faults.calls.count("put_chunk") for peer in owner.peers.peers]
    assert sent == [6, 6, 6]
    await owner.kill()


async def test_a_holder_that_disappears_is_replaced() -> None:
    owner = await Owner(await make_holders(4)).boot()
    await owner.record(ONE, 2)
    await owner.until_complete(ONE)
    gone = owner.holders_of(ONE, 0)[0]
    owner.peer(gone).faults.unreachable = True
    owner.peers.tell_changed()
    await owner.advance(DAY_S / 2, step_s=3600)
    assert gone in owner.holders_of(ONE, 0), "not at once"
    await owner.advance(DAY_S, step_s=3600)
    for index in range(2):
        assert gone not in owner.holders_of(ONE, index)
        assert len(owner.holders_of(ONE, index)) == 3
    await owner.kill()


async def test_a_holder_that_was_connected_for_long_is_not_given_up_when_it_goes_for_a_moment() -> None:
    owner = await Owner(await make_holders(4)).boot()
    await owner.record(ONE, 2)
    await owner.until_complete(ONE)
    await owner.advance(2 * DAY_S, step_s=3600)
    gone = owner.holders_of(ONE, 0)[0]
    owner.peer(gone).faults.unreachable = True
    owner.peers.tell_changed()
    await owner.advance(DAY_S / 2, step_s=3600)
    assert gone in owner.holders_of(ONE, 0)
    await owner.kill()


async def test_a_deleted_session_is_released_also_after_a_restart() -> None:
    owner = await Owner(await make_holders(3)).boot()
    await owner.record(ONE, 3)
    await owner.record(TWO, 1)
    await owner.until_complete(ONE)
    await owner.until_complete(TWO)
    away = owner.peers.peers[2]
    away.faults.unreachable = True
    held = [holder.holdings.held_bytes for holder in owner.holders]
    await owner.delete(ONE)
    assert all(key[0] == TWO or row.holder == away.identity.device for key, row in owner.rows().items())
    await owner.kill()
    await owner.boot()
    for holder, before in zip(owner.holders, held, strict=True):
        assert 0 < holder.holdings.held_bytes < before
    assert {key[0] for key in owner.rows()} == {TWO}
    await owner.kill()


async def test_what_is_damaged_here_is_given_to_nobody() -> None:
    owner = await Owner(await make_holders(3)).boot(run=False)
    await owner.record(ONE, 2)
    path = next(path for path in owner.files.paths() if owner.recordings.made[ONE][0].chunk_id.hex() in path)
    owner.files.flip(path, 77)
    await owner.boot()
    await owner.advance(10)
    assert owner.holders_of(ONE, 0) == []
    assert len(owner.holders_of(ONE, 1)) == 3
    await owner.kill()


async def run_until_death(die_at: int | None) -> tuple[Owner, int]:
    """Spreads three chunks; the process dies in the disk operation `die_at`."""
    owner = await Owner(await make_holders(4)).boot(run=False)
    await owner.record(ONE, 3)
    owner.faults.revive()
    owner.faults.die_at = die_at
    owner.start()
    await owner.advance(3)
    operations = owner.faults.operations
    await owner.kill()
    owner.faults.revive()
    return owner, operations


async def test_a_kill_at_any_step_loses_no_replica_and_makes_none_twice() -> None:
    _, operations = await run_until_death(None)
    assert operations >= 9
    for step in range(operations):
        owner, _ = await run_until_death(step)
        acknowledged = {key: row.holder for key, row in owner.rows().items() if row.HasField("receipt")}
        await owner.boot()
        await owner.until_complete(ONE)
        assert acknowledged.items() <= {key: row.holder for key, row in owner.rows().items()}.items()
        for chunk in owner.recordings.made[ONE]:
            assert sum(holder.holdings.is_held(chunk.chunk_id) for holder in owner.holders) == 3
        await owner.kill()


async def test_a_kill_of_a_holder_at_any_step_costs_no_replica() -> None:
    step = 0
    while True:
        owner = await Owner(await make_holders(3)).boot(run=False)
        await owner.record(ONE, 1)
        dying = owner.holders[0]
        dying.faults.revive()
        dying.faults.die_at = step
        owner.start()
        await owner.advance(3)
        died = dying.faults.dead
        await owner.kill()
        dying.faults.revive()
        dying.files.process_kill()
        await dying.boot()
        for key, row in owner.rows().items():
            if row.HasField("receipt"):
                chunk_id = owner.recordings.made[key[0]][key[1]].chunk_id
                assert owner.holder(row.holder).holdings.is_held(chunk_id), f"step {step}"
        await owner.boot()
        await owner.until_complete(ONE, within_s=1500)
        await owner.kill()
        if not died:
            break
        step += 1
    assert step > 3
