"""What a whole node keeps for others, beside its own sessions."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dht.lease import sign_lease, sign_release
from dht.transfer import FRAME_BYTES, get_chunk, put_chunk
from kernel.chunk_id import compute_blob_id
from kernel.domains import NETWORKS
from kernel.errors import StoreFull
from lucid.v1 import chunk_pb2, identity_pb2, session_pb2
from node.compose import Node
from node.own_blobs import NodeOwnBlobs
from session import tables
from session.encryptor import HEADER_BYTES
from tests.unit.dht.holder import LEASE_KEY, make_blob, make_identity
from tests.unit.dht.memory_peer import MemoryPeer

NETWORK = NETWORKS["dev"]
DAY_S = 86_400


def peer_of(node: Node) -> MemoryPeer:
    identity = make_identity("holder")[0]
    own = type(identity)(node.keys.device.public_key, node.keys.owner, b"b" * 32)
    return MemoryPeer(own, node.hosting.holdings, node.hosting.heads, make_identity("owner")[0])


def lease_at(node: Node, blob: bytes, sequence: int = 1) -> identity_pb2.Signed:
    lease = chunk_pb2.Lease(
        chunk_id=compute_blob_id(blob),
        size_bytes=len(blob),
        holder=node.keys.device.public_key,
        sequence=sequence,
        until_s=node.ports.clock.wall_ns() // 10**9 + DAY_S,
    )
    return sign_lease(LEASE_KEY, NETWORK, lease)


async def release(node: Node, blob: bytes) -> None:
    signed = sign_release(LEASE_KEY, NETWORK, compute_blob_id(blob), node.keys.device.public_key, 9)
    await node.hosting.holdings.release_chunk(chunk_pb2.ReleaseChunkRequest(release=signed))


async def record(node: Node) -> tuple[bytes, bytes]:
    """A small recording: its ID, and the blob of its first chunk."""
    from session.recording_request import RecordingRequest

    kind = session_pb2.SOURCE_KIND_STREAM
    request = RecordingRequest(kind, session_pb2.Metadata(kind=kind), live=True)
    recording = await node.manager.open_recording(request)
    await recording.append(0, b"text " * 1000)
    await recording.finish(session_pb2.Ending())
    value = node.ports.records.get(tables.CHUNKS, tables.chunk_key(recording.session_id, 0))
    assert value is not None
    chunk_id = session_pb2.ChunkEntry.FromString(value).chunk_id
    return recording.session_id, await node.ports.blobs.read(chunk_id)


async def test_a_chunk_of_an_own_session_that_is_leased_too_outlives_either(bench: Any) -> None:
    for session_ends_first in (True, False):
        session_id, blob = await record(bench.node)
        chunk_id = compute_blob_id(blob)
        await put_chunk(peer_of(bench.node), NETWORK, lease_at(bench.node, blob), blob)
        steps: list[Callable[[], Awaitable[Any]]] = [
            lambda session_id=session_id: bench.node.manager.delete(session_id),  # type: ignore[misc]
            lambda blob=blob: release(bench.node, blob),  # type: ignore[misc]
        ]
        first, second = steps if session_ends_first else reversed(steps)
        await first()
        assert await bench.node.ports.blobs.read(chunk_id) == blob
        await second()
        assert bench.node.ports.blobs.size(chunk_id) is None


async def test_a_deletion_tells_what_it_freed(bench: Any) -> None:
    session_id, blob = await record(bench.node)
    await put_chunk(peer_of(bench.node), NETWORK, lease_at(bench.node, blob), blob)
    used = bench.node.ports.blobs.used_bytes() + bench.node.ports.journal.used_bytes()
    freed = await bench.node.manager.delete(session_id)
    usage = bench.node.ports.measure()
    tombstone_bytes = bench.node.ports.journal.size(tables.TOMBSTONE_STREAM)
    assert used - freed == usage.blob_bytes + usage.journal_bytes - tombstone_bytes


async def test_a_start_sweeps_no_held_chunk_of_a_session_it_knows(bench: Any) -> None:
    session_id, blob = await record(bench.node)
    await put_chunk(peer_of(bench.node), NETWORK, lease_at(bench.node, blob), blob)
    await bench.node.manager.delete(session_id)
    await bench.node.stop()
    await bench.node.manager.start()
    assert await get_chunk(peer_of(bench.node), compute_blob_id(blob)) == blob


async def test_status_counts_what_is_held_and_quotas_are_those_of_the_settings(make_bench: Any) -> None:
    bench = await make_bench(hosting_quota="2M", hosting_quota_per_owner="1M")
    blob, other = make_blob(3 * FRAME_BYTES), make_blob(3 * FRAME_BYTES, 2)
    await put_chunk(peer_of(bench.node), NETWORK, lease_at(bench.node, blob), blob)
    status = await bench.node.status()
    assert (status.held_bytes, status.blob_bytes) == (len(blob), len(blob))
    with pytest.raises(StoreFull):
        await put_chunk(peer_of(bench.node), NETWORK, lease_at(bench.node, other), other)
    assert 0 < bench.node.hosting.count_free() < 2_000_000


@pytest.mark.parametrize(("up", "down"), [("1M", "0"), ("0", "1M"), ("0", "0")])
async def test_limits_on_speed_are_those_of_the_settings(make_bench: Any, up: str, down: str) -> None:
    pace = (await make_bench(limit_up=up, limit_down=down)).node.hosting.pace
    assert (pace.up.is_limited, pace.down.is_limited) == (up != "0", down != "0")


async def test_the_last_room_is_not_for_others(make_bench: Any) -> None:
    bench = await make_bench()
    bench.usage["free"] = (64 << 20) + (16 << 20) + 10_000
    blob = make_blob(20_000)
    with pytest.raises(StoreFull, match="no room left for others"):
        await put_chunk(peer_of(bench.node), NETWORK, lease_at(bench.node, blob), blob)


async def test_what_heads_refer_to_is_needed(bench: Any) -> None:
    ports = bench.node.ports
    own = NodeOwnBlobs(ports.records, ports.blobs, ports.offload_io)
    blob = make_blob(20_000)
    assert not await own.needs(compute_blob_id(blob))
    await ports.blobs.put(compute_blob_id(blob), [blob])
    assert not await own.needs(compute_blob_id(blob))
    from dht import tables as dht_tables
    from kernel.ports import Put

    part = chunk_pb2.ObjectPart(chunk_id=compute_blob_id(blob), size_bytes=len(blob))
    value = chunk_pb2.ObjectRef(key=b"k" * 32, parts=[part]).SerializeToString()
    await ports.records.commit([Put(dht_tables.OBJECTS, b"head", value)])
    assert await own.needs(compute_blob_id(blob))
    bench.node.ports.records.flip(dht_tables.OBJECTS, b"head", 3)
    assert await own.needs(compute_blob_id(blob))


async def test_a_damaged_own_chunk_is_still_needed(bench: Any) -> None:
    _, blob = await record(bench.node)
    ports = bench.node.ports
    path = next(path for path in bench.files.paths() if compute_blob_id(blob).hex() in path)
    bench.files.flip(path, 1)
    assert len(await ports.blobs.read(compute_blob_id(blob), 0, HEADER_BYTES)) == HEADER_BYTES
    assert await NodeOwnBlobs(ports.records, ports.blobs, ports.offload_io).needs(compute_blob_id(blob))
