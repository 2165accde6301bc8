"""A blob that two need is removed when both have let it go."""

import pytest

from dht.lease import sign_release
from dht.pinned_blobs import PinnedBlobs
from dht.transfer import put_chunk
from kernel.chunk_id import compute_blob_id
from lucid.v1 import chunk_pb2
from tests.unit.dht.holder import LEASE_KEY, NETWORK, Holder, make_blob

BLOB = make_blob(20_000)
BLOB_ID = compute_blob_id(BLOB)


async def release(holder: Holder) -> None:
    signed = sign_release(LEASE_KEY, NETWORK, BLOB_ID, holder.identity.device, 1)
    await holder.holdings.release_chunk(chunk_pb2.ReleaseChunkRequest(release=signed))


@pytest.mark.parametrize("lease_ends_first", [True, False])
async def test_the_last_one_removes_it(lease_ends_first: bool) -> None:
    holder = await Holder().boot()
    blobs = PinnedBlobs(holder.ports.blobs, holder.holdings.is_held)
    await blobs.put(BLOB_ID, [BLOB])
    holder.own.needed.add(BLOB_ID)
    assert blobs.ids() == [BLOB_ID]
    await put_chunk(holder.peer(), NETWORK, holder.lease(BLOB), BLOB)
    assert blobs.ids() == []

    async def end_session() -> None:
        holder.own.needed.discard(BLOB_ID)
        await blobs.remove([BLOB_ID])

    for step, end in enumerate(
        [release(holder), end_session()] if lease_ends_first else [end_session(), release(holder)]
    ):
        assert await blobs.read(BLOB_ID) == BLOB
        await end
        assert (blobs.size(BLOB_ID) is None) is (step == 1)
    assert (blobs.ids(), blobs.used_bytes()) == ([], 0)
