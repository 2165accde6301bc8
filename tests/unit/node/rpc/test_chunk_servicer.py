"""Chunks and heads over real gRPC on loopback, through the gate."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from dht.heads import MAX_SEALED_BYTES, verify_head_receipt
from dht.lease import verify_receipt
from dht.transfer import FRAME_BYTES, get_chunk, put_chunk
from kernel.chunk_id import compute_blob_id, compute_chunk_leaves
from kernel.errors import Conflict, InvalidRecord, NotFound, Reason, StoreFull
from lucid.v1 import chunk_pb2
from node.rpc.chunk_servicer import ChunkServicer
from node.rpc.interceptor import get_caller
from tests.unit.dht.heads import LOCATOR, make_entry
from tests.unit.dht.holder import NETWORK, Holder, make_blob

BLOB = make_blob(5 * FRAME_BYTES + 9000)
BLOB_ID = compute_blob_id(BLOB)
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
async def holder() -> Holder:
    return await Holder(quota_bytes=4 << 20).boot()


@pytest.fixture
async def peer(holder: Holder, make_meeting: Any, eventually: Eventually) -> Any:
    """The holder, as a node that has met it sees it. Its receipts are signed by the key of `Holder`."""
    servicer = ChunkServicer(holder.holdings, holder.heads, get_caller)
    server = await make_meeting(1, chunks=servicer)
    client = await make_meeting(2, peers=[server.address])
    await eventually(lambda: client.peer(server) is not None)
    return Signing(client.peer(server), holder)


class Signing:
    """The peer of the meeting under the identity of the holder behind it."""

    def __init__(self, peer: Any, holder: Holder) -> None:
        self._peer = peer
        self.identity = holder.identity

    def __getattr__(self, name: str) -> Any:
        return getattr(self._peer, name)


async def test_chunks_go_there_and_come_back(peer: Any, holder: Holder) -> None:
    lease = holder.lease(BLOB)
    receipt = await put_chunk(peer, NETWORK, lease, BLOB)
    verify_receipt(receipt, NETWORK, lease, holder.identity.device)
    assert await get_chunk(peer, BLOB_ID) == BLOB
    assert list((await peer.has_chunks(chunk_pb2.HasChunksRequest(chunk_ids=[BLOB_ID]))).sizes) == [len(BLOB)]
    audit = await peer.audit_chunk(chunk_pb2.AuditChunkRequest(chunk_id=BLOB_ID, leaves=[1]))
    assert audit.leaves[0].data == BLOB[4096:8192]
    assert holder.quota.owner_bytes(peer.identity.owner) == 0  # it counts against who called
    assert holder.holdings.held_bytes == len(BLOB)


async def test_many_at_once(peer: Any, holder: Holder) -> None:
    blobs = [make_blob(300_000, seed) for seed in range(8)]
    await asyncio.gather(*(put_chunk(peer, NETWORK, holder.lease(blob), blob) for blob in blobs))
    assert await asyncio.gather(*(get_chunk(peer, compute_blob_id(blob)) for blob in blobs)) == blobs


async def test_refusals_arrive_as_what_they_are(peer: Any, holder: Holder) -> None:
    with pytest.raises(NotFound):
        await get_chunk(peer, bytes(32))
    with pytest.raises(InvalidRecord) as caught:
        await put_chunk(peer, NETWORK, holder.lease(BLOB, holder=b"x" * 32), BLOB)
    assert caught.value.reason is Reason.WRONG_HOLDER
    await put_chunk(peer, NETWORK, holder.lease(BLOB, sequence=2), BLOB)
    with pytest.raises(Conflict):
        await put_chunk(peer, NETWORK, holder.lease(BLOB), BLOB)
    big = make_blob(3 << 20, 3)
    with pytest.raises(StoreFull):
        await put_chunk(peer, NETWORK, holder.lease(big), big)


async def test_heads(peer: Any, holder: Holder) -> None:
    entry = make_entry(holder.now_s, sealed=bytes(MAX_SEALED_BYTES))
    response = await peer.put_head(chunk_pb2.PutHeadRequest(entry=entry))
    verify_head_receipt(response.receipt, NETWORK, entry.head, holder.identity.device)
    found = await peer.get_head(chunk_pb2.GetHeadRequest(locator=LOCATOR.public_key))
    assert list(found.entries) == [entry]
    with pytest.raises(InvalidRecord):
        await peer.put_head(chunk_pb2.PutHeadRequest(entry=make_entry(holder.now_s, days=300)))


async def messages(*requests: chunk_pb2.PutChunkRequest) -> AsyncIterator[chunk_pb2.PutChunkRequest]:
    for request in requests:
        yield request


@pytest.mark.parametrize("frame", [bytes(FRAME_BYTES), bytes(FRAME_BYTES + 4096), bytes(900_000), b"x", b""])
async def test_wrong_and_oversized_frames_end_the_call(peer: Any, holder: Holder, frame: bytes) -> None:
    leaves = b"".join(compute_chunk_leaves(BLOB))
    opening = chunk_pb2.PutChunkRequest(open=chunk_pb2.PutOpen(lease=holder.lease(BLOB), leaves=leaves))
    with pytest.raises(InvalidRecord):
        async for _ in peer.put_chunk(messages(opening, chunk_pb2.PutChunkRequest(frame=frame))):
            pass
    assert holder.ports.blobs.ids() == []


async def test_a_client_that_goes_away_leaves_what_it_sent(peer: Any, holder: Holder) -> None:
    leaves = b"".join(compute_chunk_leaves(BLOB))
    gone = asyncio.Event()

    async def requests() -> AsyncIterator[chunk_pb2.PutChunkRequest]:
        yield chunk_pb2.PutChunkRequest(open=chunk_pb2.PutOpen(lease=holder.lease(BLOB), leaves=leaves))
        yield chunk_pb2.PutChunkRequest(frame=BLOB[:FRAME_BYTES])
        gone.set()
        await asyncio.Event().wait()

    async def call() -> list[Any]:
        return [response async for response in peer.put_chunk(requests())]

    task = asyncio.create_task(call())
    await gone.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await put_chunk(peer, NETWORK, holder.lease(BLOB), BLOB)
    assert await get_chunk(peer, BLOB_ID) == BLOB
