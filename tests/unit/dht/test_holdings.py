"""Chunks that a node keeps: accepted, resumed, shared, released, expired."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dht.holding_store import HoldingStore
from dht.holdings import MAX_LEASES
from dht.hosting_quota import OVERHEAD_BYTES
from dht.incoming import IncomingLimits
from dht.lease import sign_release, verify_receipt
from dht.transfer import FRAME_BYTES, PartialChunk, get_chunk, put_chunk
from kernel.chunk_id import compute_blob_id, compute_chunk_leaves
from kernel.errors import (
    Conflict,
    InvalidRecord,
    NotFound,
    PeerFault,
    Reason,
    StoreDamaged,
    StoreFull,
    Unavailable,
)
from lucid.v1 import chunk_pb2, identity_pb2
from tests.scenarios.world import settle
from tests.unit.dht.holder import LEASE_KEY, NETWORK, Holder, make_blob, make_identity, make_key

BLOB = make_blob(3 * FRAME_BYTES + 5000)
BLOB_ID = compute_blob_id(BLOB)
OTHER_KEY = make_key("another session")


@pytest.fixture
async def holder() -> Holder:
    return await Holder().boot()


async def put(
    holder: Holder, lease: identity_pb2.Signed, blob: bytes = BLOB, caller: str = "owner"
) -> identity_pb2.Signed:
    return await put_chunk(holder.peer(caller), NETWORK, lease, blob)


def release(holder: Holder, sequence: int = 1, chunk_id: bytes = BLOB_ID) -> chunk_pb2.ReleaseChunkRequest:
    signed = sign_release(LEASE_KEY, NETWORK, chunk_id, holder.identity.device, sequence)
    return chunk_pb2.ReleaseChunkRequest(release=signed)


async def test_what_was_put_comes_back_and_counts(holder: Holder) -> None:
    lease = holder.lease(BLOB)
    receipt = await put(holder, lease)
    assert verify_receipt(receipt, NETWORK, lease, holder.identity.device).stored_ns == holder.clock.wall_ns()
    assert await get_chunk(holder.peer("reader"), BLOB_ID) == BLOB
    assert holder.holdings.is_held(BLOB_ID)
    assert holder.holdings.held_bytes == len(BLOB) == holder.ports.blobs.used_bytes()
    assert holder.quota.owner_bytes(make_identity("owner")[0].owner) == len(BLOB)


async def test_the_same_lease_again_gives_the_same_receipt_and_moves_nothing(holder: Holder) -> None:
    lease = holder.lease(BLOB)
    first = await put(holder, lease)
    await holder.clock.advance(10)
    peer = holder.peer()
    peer.faults.break_put_after = 1  # no frame gets through
    assert await put_chunk(peer, NETWORK, lease, BLOB) == first
    assert holder.holdings.held_bytes == len(BLOB)


async def test_a_renewal_replaces_and_an_older_lease_is_refused(holder: Holder) -> None:
    old, new = holder.lease(BLOB), holder.lease(BLOB, sequence=2, days=60)
    await put(holder, old)
    await put(holder, new)
    with pytest.raises(Conflict):
        await put(holder, old)
    with pytest.raises(InvalidRecord) as caught:
        await put(holder, holder.lease(BLOB, sequence=2, days=61))
    assert caught.value.reason is Reason.NOT_CONSISTENT
    assert await holder.holdings.sweep(holder.now_s + 31 * 86_400) == 0
    assert await holder.holdings.sweep(holder.now_s + 60 * 86_400) == len(BLOB)
    assert (holder.holdings.held_bytes, holder.ports.blobs.used_bytes()) == (0, 0)
    assert holder.ports.journal.streams("held/") == []


async def test_a_chunk_stays_while_another_owner_leases_it(holder: Holder) -> None:
    await put(holder, holder.lease(BLOB))
    await put(holder, holder.lease(BLOB, key=OTHER_KEY), caller="other")
    assert holder.holdings.held_bytes == len(BLOB)
    assert holder.quota.owner_bytes(make_identity("other")[0].owner) == len(BLOB)
    assert (await holder.holdings.release_chunk(release(holder))).freed_bytes == 0
    assert holder.quota.owner_bytes(make_identity("owner")[0].owner) == 0
    assert await get_chunk(holder.peer(), BLOB_ID) == BLOB
    last = sign_release(OTHER_KEY, NETWORK, BLOB_ID, holder.identity.device, 1)
    request = chunk_pb2.ReleaseChunkRequest(release=last)
    assert (await holder.holdings.release_chunk(request)).freed_bytes == len(BLOB)
    assert not holder.holdings.is_held(BLOB_ID)
    with pytest.raises(NotFound):
        await get_chunk(holder.peer(), BLOB_ID)


async def test_releases_end_only_what_their_key_leased_up_to_their_sequence(holder: Holder) -> None:
    await put(holder, holder.lease(BLOB, sequence=5))
    await holder.holdings.release_chunk(release(holder, sequence=4))
    other = sign_release(OTHER_KEY, NETWORK, BLOB_ID, holder.identity.device, 9)
    await holder.holdings.release_chunk(chunk_pb2.ReleaseChunkRequest(release=other))
    assert holder.holdings.is_held(BLOB_ID)
    with pytest.raises(InvalidRecord):
        elsewhere = sign_release(LEASE_KEY, NETWORK, BLOB_ID, b"x" * 32, 9)
        await holder.holdings.release_chunk(chunk_pb2.ReleaseChunkRequest(release=elsewhere))
    assert (await holder.holdings.release_chunk(release(holder, sequence=5))).freed_bytes == len(BLOB)
    assert (await holder.holdings.release_chunk(release(holder, sequence=5))).freed_bytes == 0


async def test_a_chunk_that_the_node_needs_itself_outlives_its_leases(holder: Holder) -> None:
    holder.own.needed.add(BLOB_ID)
    await put(holder, holder.lease(BLOB))
    assert (await holder.holdings.release_chunk(release(holder))).freed_bytes == 0
    assert holder.ports.blobs.size(BLOB_ID) == len(BLOB)
    assert holder.holdings.held_bytes == 0


@pytest.mark.parametrize("sent", range(1, 6))
async def test_a_broken_put_goes_on_where_it_broke(holder: Holder, sent: int) -> None:
    """`sent` messages get through: the opening and some frames."""
    peer, lease = holder.peer(), holder.lease(BLOB)
    peer.faults.break_put_after = sent
    if sent < 5:
        with pytest.raises(Unavailable):
            await put_chunk(peer, NETWORK, lease, BLOB)
    peer.faults.break_put_after = None
    offsets = []

    def note(_: int, response: chunk_pb2.PutChunkResponse) -> chunk_pb2.PutChunkResponse:
        offsets.append(response.offset if response.WhichOneof("kind") == "offset" else -1)
        return response

    peer.faults.edit_put = note
    await put_chunk(peer, NETWORK, lease, BLOB)
    assert offsets == [(sent - 1) * FRAME_BYTES if sent < 5 else 0, -1]
    assert await get_chunk(peer, BLOB_ID) == BLOB


@pytest.mark.parametrize("received", range(6))
async def test_a_broken_get_goes_on_where_it_broke(holder: Holder, received: int) -> None:
    await put(holder, holder.lease(BLOB))
    peer, partial = holder.peer(), PartialChunk()
    peer.faults.break_get_after = received
    if received < 5:
        with pytest.raises(Unavailable):
            await get_chunk(peer, BLOB_ID, partial=partial)
    peer.faults.break_get_after = None
    kept = partial.receiver.position if partial.receiver else 0
    assert kept == max(received - 1, 0) * FRAME_BYTES if received < 5 else True
    assert await get_chunk(holder.peer("another"), BLOB_ID, partial=partial) == BLOB


async def test_the_latest_of_several_calls_goes_on(holder: Holder) -> None:
    lease, blocked, go = holder.lease(BLOB), asyncio.Event(), asyncio.Event()

    async def stuck() -> AsyncIterator[chunk_pb2.PutChunkRequest]:
        leaves = b"".join(compute_chunk_leaves(BLOB))
        yield chunk_pb2.PutChunkRequest(open=chunk_pb2.PutOpen(lease=lease, leaves=leaves))
        yield chunk_pb2.PutChunkRequest(frame=BLOB[:FRAME_BYTES])
        blocked.set()
        await go.wait()
        yield chunk_pb2.PutChunkRequest(frame=BLOB[FRAME_BYTES : 2 * FRAME_BYTES])

    async def run() -> None:
        async for _ in holder.holdings.put_chunk(make_identity("owner")[0], stuck()):
            pass

    old = asyncio.create_task(run())
    await blocked.wait()
    await put(holder, lease)
    go.set()
    with pytest.raises(Conflict):
        await old
    assert await get_chunk(holder.peer(), BLOB_ID) == BLOB


async def test_two_owners_put_the_same_chunk_at_once(holder: Holder) -> None:
    leases = holder.lease(BLOB), holder.lease(BLOB, key=OTHER_KEY)
    await asyncio.gather(put(holder, leases[0]), put(holder, leases[1], caller="other"))
    assert holder.holdings.held_bytes == len(BLOB)
    await holder.boot()
    assert holder.holdings.held_bytes == len(BLOB)
    assert holder.quota.owner_bytes(make_identity("other")[0].owner) == len(BLOB)


async def test_quotas_in_all_and_for_one_owner_are_exact() -> None:
    one = len(BLOB) + len(BLOB) // 128 + OVERHEAD_BYTES
    blobs = [make_blob(len(BLOB), seed) for seed in range(4)]
    holder = await Holder(quota_bytes=3 * one - 1, owner_quota_bytes=one).boot()
    await put(holder, holder.lease(blobs[0]), blobs[0])
    with pytest.raises(StoreFull):
        await put(holder, holder.lease(blobs[1]), blobs[1])
    await put(holder, holder.lease(blobs[1]), blobs[1], "second")
    with pytest.raises(StoreFull):
        await put(holder, holder.lease(blobs[2]), blobs[2], "third")
    # A chunk that is there already costs the third owner its own quota, and nothing in all.
    await put(holder, holder.lease(blobs[0], key=OTHER_KEY), blobs[0], "third")
    assert holder.holdings.held_bytes == 2 * len(BLOB)
    await holder.holdings.release_chunk(release(holder, chunk_id=compute_blob_id(blobs[1])))
    await put(holder, holder.lease(blobs[2]), blobs[2], "second")
    assert holder.quota.free_bytes() == one - 1


async def test_a_full_disk_refuses_and_leaves_nothing() -> None:
    holder = await Holder(disk_quota_bytes=len(BLOB) - 1).boot()
    with pytest.raises(StoreFull):
        await put(holder, holder.lease(BLOB))
    assert holder.ports.blobs.ids() == []
    assert holder.ports.journal.streams() == []
    assert holder.holdings.held_bytes == 0
    assert not holder.holdings.is_held(BLOB_ID)


async def test_a_chunk_has_a_bounded_number_of_leases(holder: Holder) -> None:
    for number in range(MAX_LEASES):
        await put(holder, holder.lease(BLOB, key=make_key(f"session {number}")))
    with pytest.raises(StoreFull):
        await put(holder, holder.lease(BLOB, key=make_key("one more")))


async def test_a_damaged_chunk_is_found_out_and_can_be_brought_again(holder: Holder) -> None:
    lease = holder.lease(BLOB)
    receipt = await put(holder, lease)
    path = next(path for path in holder.files.paths() if BLOB_ID.hex() in path and "blobs" in path)
    holder.files.flip(path, 8 * 300_000)
    with pytest.raises(PeerFault):
        await get_chunk(holder.peer(), BLOB_ID)
    request = chunk_pb2.AuditChunkRequest(chunk_id=BLOB_ID, leaves=[300_000 // 4096])
    with pytest.raises(StoreDamaged):
        await holder.peer().audit_chunk(request)
    assert await put(holder, lease) == receipt
    assert await get_chunk(holder.peer(), BLOB_ID) == BLOB
    assert holder.holdings.held_bytes == len(BLOB)


async def test_a_long_stream_begins_again_with_its_leaf_hashes(holder: Holder) -> None:
    small = make_blob(20_000)
    stream = None
    for sequence in range(1, 1000):
        await put(holder, holder.lease(small, sequence=sequence), small)
        stream = holder.ports.journal.streams("held/")[0]
    assert stream is not None and holder.ports.journal.size(stream) < 257 << 10
    store = HoldingStore(holder.ports)
    assert await store.get_leaves(compute_blob_id(small)) == b"".join(compute_chunk_leaves(small))
    assert await get_chunk(holder.peer(), compute_blob_id(small)) == small
    row = store.get(compute_blob_id(small))
    assert row is not None and (row.leaves, len(row.leases)) == (b"", 1)


async def test_broken_transfers_are_bounded_and_forgotten() -> None:
    room = 2 * len(BLOB)
    holder = await Holder(limits=IncomingLimits(total_bytes=room, owner_bytes=room, keep_s=60)).boot()
    blobs = [make_blob(len(BLOB), seed) for seed in range(3)]

    async def begin(number: int) -> None:
        peer = holder.peer()
        peer.faults.break_put_after = 2
        with pytest.raises(Unavailable):
            await put_chunk(peer, NETWORK, holder.lease(blobs[number]), blobs[number])

    async def offset(number: int) -> int:
        peer, found = holder.peer(), []

        def note(_: int, response: chunk_pb2.PutChunkResponse) -> None:
            found.append(response.offset)

        peer.faults.edit_put = note
        with pytest.raises(Exception, match="no receipt"):
            await put_chunk(peer, NETWORK, holder.lease(blobs[number]), blobs[number])
        return found[0]

    await begin(0)
    await holder.clock.advance(1)
    await begin(1)
    await begin(2)  # takes the place of the first
    assert await offset(2) == FRAME_BYTES
    assert await offset(0) == 0
    await begin(2)
    await holder.clock.advance(61)
    await holder.holdings.forget_broken_transfers()
    assert await offset(2) == 0


async def test_who_finds_no_room_waits_and_is_told() -> None:
    limits = IncomingLimits(total_bytes=len(BLOB), owner_bytes=len(BLOB), wait_s=5)
    holder = await Holder(limits=limits).boot()
    go = asyncio.Event()

    async def slow() -> AsyncIterator[chunk_pb2.PutChunkRequest]:
        leaves = b"".join(compute_chunk_leaves(BLOB))
        yield chunk_pb2.PutChunkRequest(open=chunk_pb2.PutOpen(lease=holder.lease(BLOB), leaves=leaves))
        await go.wait()
        for start in range(0, len(BLOB), FRAME_BYTES):
            yield chunk_pb2.PutChunkRequest(frame=BLOB[start : start + FRAME_BYTES])

    async def run() -> None:
        async for _ in holder.holdings.put_chunk(make_identity("owner")[0], slow()):
            pass

    first = asyncio.create_task(run())
    await settle()
    other = make_blob(len(BLOB), 9)
    second = asyncio.create_task(put(holder, holder.lease(other), other, "second"))
    await holder.clock.advance(6)
    with pytest.raises(Unavailable):
        await second
    third = asyncio.create_task(put(holder, holder.lease(other), other, "second"))
    await settle()
    go.set()
    await asyncio.gather(first, third)
    assert holder.holdings.held_bytes == 2 * len(BLOB)


async def test_a_put_that_falls_silent_ends(holder: Holder) -> None:
    async def silent(messages: int) -> AsyncIterator[chunk_pb2.PutChunkRequest]:
        leaves = b"".join(compute_chunk_leaves(BLOB))
        if messages:
            yield chunk_pb2.PutChunkRequest(open=chunk_pb2.PutOpen(lease=holder.lease(BLOB), leaves=leaves))
        await asyncio.Event().wait()

    async def run(messages: int) -> None:
        async for _ in holder.holdings.put_chunk(make_identity("owner")[0], silent(messages)):
            pass

    for messages in (0, 1):
        task = asyncio.create_task(run(messages))
        await holder.clock.advance(61)
        with pytest.raises(Unavailable, match="moved nothing"):
            await task
