"""Transfers with peers that lie, break off, or say nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from dht import transfer
from dht.bandwidth import Pace
from dht.lease import MAX_BLOB_BYTES, sign_receipt
from dht.transfer import (
    FRAME_BYTES,
    ChunkReceiver,
    PartialChunk,
    check_leaves,
    get_chunk,
    is_range,
    put_chunk,
)
from kernel.chunk_id import LEAF_BYTES, compute_blob_id, compute_chunk_id, compute_chunk_leaves
from kernel.errors import InvalidRecord, NotFound, PeerFault, Reason, Unavailable, UsageError
from lucid.v1 import chunk_pb2
from session import encryptor
from tests.unit.dht.holder import NETWORK, Holder, make_blob, make_key

BLOB = make_blob(3 * FRAME_BYTES + 5000)
BLOB_ID = compute_blob_id(BLOB)
LEAVES = b"".join(compute_chunk_leaves(BLOB))

GetEdit = Callable[[int, chunk_pb2.GetChunkResponse], chunk_pb2.GetChunkResponse | None]


@pytest.fixture
async def holder() -> Holder:
    holder = await Holder().boot()
    await put_chunk(holder.peer(), NETWORK, holder.lease(BLOB), BLOB)
    return holder


def test_the_greatest_blob_is_the_greatest_chunk_of_a_session() -> None:
    assert MAX_BLOB_BYTES == encryptor.MAX_BLOB_BYTES


@pytest.mark.parametrize(
    ("size_bytes", "leaves", "reason"),
    [
        (0, b"", Reason.TOO_LARGE),
        (MAX_BLOB_BYTES + 1, LEAVES, Reason.TOO_LARGE),
        (len(BLOB), LEAVES[:-1], Reason.MALFORMED),
        (len(BLOB), LEAVES + bytes(32), Reason.MALFORMED),
        (len(BLOB) - 1, LEAVES, Reason.WRONG_HASH),
        (len(BLOB), LEAVES[32:] + LEAVES[:32], Reason.WRONG_HASH),
    ],
)
def test_leaf_hashes_and_length_must_give_the_chunk_id(
    size_bytes: int, leaves: bytes, reason: Reason
) -> None:
    with pytest.raises(InvalidRecord) as caught:
        check_leaves(BLOB_ID, size_bytes, leaves)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", Reason.MALFORMED),
        (BLOB[: LEAF_BYTES - 1], Reason.MALFORMED),
        (BLOB[: FRAME_BYTES + LEAF_BYTES], Reason.TOO_LARGE),
        (BLOB[LEAF_BYTES : 2 * LEAF_BYTES], Reason.WRONG_HASH),
        (bytes((BLOB[0] ^ 1,)) + BLOB[1:FRAME_BYTES], Reason.WRONG_HASH),
        (BLOB[: FRAME_BYTES - 1] + bytes((BLOB[FRAME_BYTES - 1] ^ 1,)), Reason.WRONG_HASH),
    ],
)
def test_a_bad_frame_is_not_taken(frame: bytes, reason: Reason) -> None:
    receiver = ChunkReceiver(BLOB_ID, len(BLOB), LEAVES)
    with pytest.raises(InvalidRecord) as caught:
        receiver.take(frame)
    assert caught.value.reason is reason
    assert receiver.position == 0
    receiver.take(BLOB[:FRAME_BYTES])
    assert receiver.position == FRAME_BYTES


def test_nothing_is_taken_behind_the_end() -> None:
    blob = make_blob(5000)
    receiver = ChunkReceiver(compute_blob_id(blob), 5000, b"".join(compute_chunk_leaves(blob)))
    receiver.take(blob)
    assert receiver.is_complete
    with pytest.raises(InvalidRecord):
        receiver.take(b"x")


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 10_000, True),
        (4096, 8192, True),
        (10_000, 10_000, True),
        (1, 10_000, False),
        (0, 5000, False),
        (8192, 4096, False),
        (0, 12_288, False),
        (-4096, 4096, False),
    ],
)
def test_ranges_are_whole_leaves(start: int, end: int, expected: bool) -> None:
    assert is_range(10_000, start, end) is expected


async def test_a_range_comes_alone(holder: Holder) -> None:
    partial = PartialChunk(LEAF_BYTES, 3 * LEAF_BYTES)
    assert await get_chunk(holder.peer(), BLOB_ID, partial=partial) == BLOB[LEAF_BYTES : 3 * LEAF_BYTES]
    with pytest.raises(UsageError):
        ChunkReceiver(BLOB_ID, len(BLOB), LEAVES, end=len(BLOB) + LEAF_BYTES)


def change_leaves(number: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
    if number == 0:
        response.open.leaves = bytes(32) + response.open.leaves[32:]
    return response


def other_blob(number: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
    """Consistent in itself: another blob of the same length."""
    if number == 0:
        response.open.leaves = b"".join(compute_chunk_leaves(bytes(len(BLOB))))
    else:
        response.frame = bytes(len(response.frame))
    return response


def change_size(number: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
    if number == 0:
        response.open.size_bytes -= 1
    return response


def huge(number: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
    if number == 0:
        response.open.size_bytes = 1 << 60
    return response


def change_frame(number: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
    if number == 2:
        response.frame = response.frame[:-1] + bytes((response.frame[-1] ^ 1,))
    return response


def cut(number: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse | None:
    return None if number == 3 else response


def say_nothing(number: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse | None:
    return None


def open_twice(number: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
    if number == 1:
        return chunk_pb2.GetChunkResponse(open=chunk_pb2.GetOpen(size_bytes=len(BLOB), leaves=LEAVES))
    return response


def frame_first(number: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
    return chunk_pb2.GetChunkResponse(frame=BLOB[:FRAME_BYTES]) if number == 0 else response


def empty(number: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
    return chunk_pb2.GetChunkResponse() if number == 1 else response


@pytest.mark.parametrize(
    ("edit", "kept"),
    [
        (change_leaves, None),
        (other_blob, None),
        (change_size, None),
        (huge, None),
        (frame_first, None),
        (say_nothing, None),
        (empty, 0),
        (open_twice, 0),
        (change_frame, FRAME_BYTES),
        (cut, 2 * FRAME_BYTES),
    ],
)
async def test_a_liar_is_caught_at_the_first_bad_message(
    holder: Holder, edit: GetEdit, kept: int | None
) -> None:
    liar, partial = holder.peer(), PartialChunk()
    liar.faults.edit_get = edit
    with pytest.raises(PeerFault, match=holder.identity.device.hex()):
        await get_chunk(liar, BLOB_ID, partial=partial)
    assert (partial.receiver.position if partial.receiver else None) == kept
    # What was good goes on from an honest peer.
    assert await get_chunk(holder.peer(), BLOB_ID, partial=partial) == BLOB


async def test_an_endless_stream_is_ended(holder: Holder) -> None:
    liar = holder.peer()
    liar.faults.endless_get = True
    with pytest.raises(PeerFault):
        await get_chunk(liar, BLOB_ID)


async def test_a_chunk_that_is_too_long_is_not_fetched(holder: Holder) -> None:
    with pytest.raises(PeerFault):
        await get_chunk(holder.peer(), BLOB_ID, max_bytes=len(BLOB) - 1)


async def test_a_size_that_changes_between_two_calls_is_a_lie(holder: Holder) -> None:
    peer, partial = holder.peer(), PartialChunk()
    peer.faults.break_get_after = 2
    with pytest.raises(Unavailable):
        await get_chunk(peer, BLOB_ID, partial=partial)
    peer.faults.break_get_after = None
    peer.faults.edit_get = change_size
    with pytest.raises(PeerFault):
        await get_chunk(peer, BLOB_ID, partial=partial)


@pytest.mark.parametrize("messages", range(4))
async def test_silence_in_mid_transfer_has_an_end(holder: Holder, messages: int) -> None:
    peer = holder.peer()
    peer.faults.silent_get_after = messages
    task = asyncio.create_task(get_chunk(peer, BLOB_ID, pace=Pace(holder.clock, patience_s=20)))
    await holder.clock.advance(19)
    assert not task.done()
    await holder.clock.advance(2)
    with pytest.raises(Unavailable, match="20 s"):
        await task


async def test_drops_do_not_keep_a_transfer_alive(holder: Holder) -> None:
    """A leaf every 10 s is progress for nobody."""
    fed = 0

    class Dropper:
        identity = holder.identity

        async def get_chunk(self, request: chunk_pb2.GetChunkRequest):  # type: ignore[no-untyped-def]
            nonlocal fed
            yield chunk_pb2.GetChunkResponse(open=chunk_pb2.GetOpen(size_bytes=len(BLOB), leaves=LEAVES))
            for start in range(0, len(BLOB), LEAF_BYTES):
                await holder.clock.sleep(10)
                fed += 1
                yield chunk_pb2.GetChunkResponse(frame=BLOB[start : start + LEAF_BYTES])

    pace = Pace(holder.clock, patience_s=60)
    task = asyncio.create_task(get_chunk(Dropper(), BLOB_ID, pace=pace))  # type: ignore[arg-type]
    await holder.clock.advance(120)
    with pytest.raises(Unavailable):
        await task
    assert fed < 7


PutEdit = Callable[[int, chunk_pb2.PutChunkResponse], chunk_pb2.PutChunkResponse | None]
NEW = make_blob(2 * FRAME_BYTES, 7)


def no_receipt(number: int, response: chunk_pb2.PutChunkResponse) -> chunk_pb2.PutChunkResponse | None:
    return None if number == 1 else response


def receipt_by_another(number: int, response: chunk_pb2.PutChunkResponse) -> chunk_pb2.PutChunkResponse:
    if number == 1:
        lease = Holder().lease(NEW)
        response.receipt.CopyFrom(sign_receipt(make_key("somebody"), NETWORK, lease, 1))
    return response


def receipt_for_another(number: int, response: chunk_pb2.PutChunkResponse) -> chunk_pb2.PutChunkResponse:
    if number == 1:
        response.receipt.CopyFrom(sign_receipt(make_key("holder"), NETWORK, Holder().lease(BLOB), 1))
    return response


def receipt_changed(number: int, response: chunk_pb2.PutChunkResponse) -> chunk_pb2.PutChunkResponse:
    if number == 1:
        payload = chunk_pb2.Receipt.FromString(response.receipt.payload)
        payload.stored_ns += 1
        response.receipt.payload = payload.SerializeToString()
    return response


def receipt_at_once(number: int, response: chunk_pb2.PutChunkResponse) -> chunk_pb2.PutChunkResponse:
    receipt = sign_receipt(make_key("holder"), NETWORK, Holder().lease(NEW), 1)
    return chunk_pb2.PutChunkResponse(receipt=receipt) if number == 0 else response


def offset_between_leaves(number: int, response: chunk_pb2.PutChunkResponse) -> chunk_pb2.PutChunkResponse:
    return chunk_pb2.PutChunkResponse(offset=1) if number == 0 else response


def offset_behind_the_end(number: int, response: chunk_pb2.PutChunkResponse) -> chunk_pb2.PutChunkResponse:
    return chunk_pb2.PutChunkResponse(offset=len(NEW) + LEAF_BYTES) if number == 0 else response


def offset_twice(number: int, response: chunk_pb2.PutChunkResponse) -> chunk_pb2.PutChunkResponse:
    return chunk_pb2.PutChunkResponse(offset=0) if number == 1 else response


def empty_answer(number: int, response: chunk_pb2.PutChunkResponse) -> chunk_pb2.PutChunkResponse:
    return chunk_pb2.PutChunkResponse()


@pytest.mark.parametrize(
    "edit",
    [
        no_receipt,
        receipt_by_another,
        receipt_for_another,
        receipt_changed,
        receipt_at_once,
        offset_between_leaves,
        offset_behind_the_end,
        offset_twice,
        empty_answer,
    ],
)
async def test_a_holder_that_lies_gives_no_replica(holder: Holder, edit: PutEdit) -> None:
    peer = holder.peer()
    peer.faults.edit_put = edit
    with pytest.raises(PeerFault, match=holder.identity.device.hex()):
        await put_chunk(peer, NETWORK, holder.lease(NEW), NEW)


async def test_frames_cut_beforehand_go_on_in_the_middle_of_one(holder: Holder) -> None:
    begin = FRAME_BYTES + 3 * LEAF_BYTES
    frames: list[bytes] = []

    async def answer(
        requests: AsyncIterator[chunk_pb2.PutChunkRequest],
    ) -> AsyncIterator[chunk_pb2.PutChunkResponse]:
        await anext(requests)
        yield chunk_pb2.PutChunkResponse(offset=begin)
        frames.extend([request.frame async for request in requests])
        yield chunk_pb2.PutChunkResponse(receipt=sign_receipt(holder.key, NETWORK, lease, 1))

    peer, lease = holder.peer(), holder.lease(NEW)
    peer.put_chunk = answer  # type: ignore[method-assign]
    await put_chunk(peer, NETWORK, lease, transfer.cut(NEW))
    assert b"".join(frames) == NEW[begin:]


async def test_a_receipt_before_the_bytes_were_sent_is_a_lie(holder: Holder) -> None:
    class Hasty:
        identity = holder.identity

        async def put_chunk(self, requests):  # type: ignore[no-untyped-def]
            yield chunk_pb2.PutChunkResponse(offset=0)
            yield chunk_pb2.PutChunkResponse(receipt=sign_receipt(holder.key, NETWORK, lease, 1))

    lease = holder.lease(NEW)
    with pytest.raises(PeerFault, match="not sent yet"):
        await put_chunk(Hasty(), NETWORK, lease, NEW)  # type: ignore[arg-type]


@pytest.mark.parametrize("answers", [0, 1])
async def test_a_holder_that_falls_silent_is_left(holder: Holder, answers: int) -> None:
    peer = holder.peer()
    peer.faults.silent_put_after = answers
    pace = Pace(holder.clock, patience_s=20)
    task = asyncio.create_task(put_chunk(peer, NETWORK, holder.lease(NEW), NEW, pace=pace))
    await holder.clock.advance(21)
    with pytest.raises(Unavailable):
        await task


async def test_what_a_holder_refuses_is_no_fault(holder: Holder) -> None:
    with pytest.raises(NotFound):
        await get_chunk(holder.peer(), bytes(32))
    for request in (
        chunk_pb2.GetChunkRequest(chunk_id=b"short"),
        chunk_pb2.GetChunkRequest(chunk_id=BLOB_ID, offset=1),
        chunk_pb2.GetChunkRequest(chunk_id=BLOB_ID, offset=0, length=1),
        chunk_pb2.GetChunkRequest(chunk_id=BLOB_ID, offset=1 << 63),
        chunk_pb2.GetChunkRequest(chunk_id=BLOB_ID, length=1 << 63),
    ):
        with pytest.raises(InvalidRecord):
            async for _ in holder.peer().get_chunk(request):
                pass


async def say(*messages: chunk_pb2.PutChunkRequest) -> AsyncIterator[chunk_pb2.PutChunkRequest]:
    for message in messages:
        yield message


async def test_puts_that_break_the_protocol_are_refused(holder: Holder) -> None:
    leaves = b"".join(compute_chunk_leaves(NEW))
    good = chunk_pb2.PutChunkRequest(open=chunk_pb2.PutOpen(lease=holder.lease(NEW), leaves=leaves))
    frames = [chunk_pb2.PutChunkRequest(frame=NEW[at : at + FRAME_BYTES]) for at in (0, FRAME_BYTES)]
    wrong = chunk_pb2.PutChunkRequest(frame=bytes(FRAME_BYTES))
    for messages in (
        [],
        [frames[0]],
        [chunk_pb2.PutChunkRequest()],
        [chunk_pb2.PutChunkRequest(open=chunk_pb2.PutOpen(lease=holder.lease(NEW)))],
        [chunk_pb2.PutChunkRequest(open=chunk_pb2.PutOpen(lease=holder.lease(BLOB), leaves=leaves))],
        [chunk_pb2.PutChunkRequest(open=chunk_pb2.PutOpen(lease=holder.lease(NEW), leaves=bytes(1 << 20)))],
        [good],
        [good, good],
        [good, frames[1]],
        [good, wrong],
        [good, frames[0]],
        [good, wrong],
    ):
        with pytest.raises(InvalidRecord):
            async for _ in holder.holdings.put_chunk(holder.peer().caller, say(*messages)):
                pass
    assert holder.ports.blobs.size(compute_blob_id(NEW)) is None
    # Only good frames were kept of all this: the first one.
    offsets = []
    async for response in holder.holdings.put_chunk(holder.peer().caller, say(good, frames[1])):
        offsets.append(response.offset)
    assert offsets[0] == FRAME_BYTES


async def test_audits_show_leaves_with_their_paths(holder: Holder) -> None:
    from kernel.merkle import compute_leaf, compute_root, is_included

    count = len(LEAVES) // 32
    request = chunk_pb2.AuditChunkRequest(chunk_id=BLOB_ID, leaves=[0, 5, count - 1])
    response = await holder.peer().audit_chunk(request)
    root = compute_root(compute_chunk_leaves(BLOB))
    assert compute_chunk_id(compute_chunk_leaves(BLOB), response.size_bytes) == BLOB_ID
    for leaf in response.leaves:
        assert leaf.data == BLOB[leaf.index * LEAF_BYTES :][:LEAF_BYTES]
        assert is_included(compute_leaf(leaf.data), leaf.index, count, list(leaf.path), root)
    for leaves in ([], [count], list(range(17))):
        with pytest.raises(InvalidRecord):
            await holder.peer().audit_chunk(chunk_pb2.AuditChunkRequest(chunk_id=BLOB_ID, leaves=leaves))


async def test_has_chunks_tells_sizes_and_is_bounded(holder: Holder) -> None:
    request = chunk_pb2.HasChunksRequest(chunk_ids=[bytes(32), BLOB_ID])
    assert list((await holder.peer().has_chunks(request)).sizes) == [0, len(BLOB)]
    for chunk_ids in ([b"short"], [bytes(32)] * 1025):
        with pytest.raises(InvalidRecord):
            await holder.peer().has_chunks(chunk_pb2.HasChunksRequest(chunk_ids=chunk_ids))
