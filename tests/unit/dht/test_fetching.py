"""A chunk comes back from whoever holds it, whatever some of them do."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from dht.chunk_fetch import FetchedChunk
from dht.preset import SpreadPreset
from dht.transfer import FRAME_BYTES
from kernel.chunk_id import compute_blob_id
from kernel.errors import Unavailable
from kernel.ports import Clock
from lucid.v1 import chunk_pb2
from tests.scenarios.world import settle
from tests.unit.dht.memory_peer import MemoryPeer, PeerFaults
from tests.unit.dht.owner import Owner, make_holders

ONE = b"1" * 16
SIZE = 6 * FRAME_BYTES + 5000


async def spread(holders: int = 4, size_bytes: int = SIZE, preset: SpreadPreset | None = None) -> Owner:
    owner = Owner(await make_holders(holders), preset or SpreadPreset())
    await owner.boot()
    await owner.record(ONE, 1, size_bytes)
    await owner.until_complete(ONE)
    return owner


async def fetch(owner: Owner) -> FetchedChunk | None:
    chunk = owner.recordings.made[ONE][0]
    task = asyncio.ensure_future(owner.fetcher.fetch(ONE, 0, chunk.chunk_id, chunk.size_bytes))
    for _ in range(300):
        if task.done():
            break
        await owner.advance(1, step_s=1)
    assert task.done(), "it goes on for ever"
    found = task.result()
    if found is not None:
        assert compute_blob_id(found.blob) == chunk.chunk_id
    return found


def held_by(owner: Owner) -> list[MemoryPeer]:
    return [owner.peer(device) for device in owner.holders_of(ONE, 0)]


def lie(_: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
    edited = chunk_pb2.GetChunkResponse.FromString(response.SerializeToString())
    if edited.WhichOneof("kind") == "frame":
        edited.frame = bytes([edited.frame[0] ^ 1]) + edited.frame[1:]
    return edited


def lie_about_leaves(_: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
    edited = chunk_pb2.GetChunkResponse.FromString(response.SerializeToString())
    if edited.HasField("open") and edited.open.leaves:
        edited.open.leaves = bytes(32) + edited.open.leaves[32:]
    return edited


def lie_about_size(_: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
    edited = chunk_pb2.GetChunkResponse.FromString(response.SerializeToString())
    if edited.HasField("open"):
        edited.open.size_bytes += 1 << 40
    return edited


def frames_first(_: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
    return chunk_pb2.GetChunkResponse(frame=bytes(4096))


@pytest.mark.parametrize("size_bytes", [1, 4096, 4097, FRAME_BYTES, SIZE])
async def test_a_chunk_comes_back(size_bytes: int) -> None:
    owner = await spread(size_bytes=size_bytes)
    found = await fetch(owner)
    assert found is not None and set(found.sources) <= set(owner.holders_of(ONE, 0))
    await owner.kill()


@pytest.mark.parametrize("edit", [lie, lie_about_leaves, lie_about_size, frames_first])
async def test_two_liars_of_three_do_not_matter_and_are_not_asked_again(edit: object) -> None:
    owner = await spread(holders=3)
    first, second, honest = held_by(owner)
    for liar in (first, second):
        liar.faults.edit_get = edit  # type: ignore[assignment]
    found = await fetch(owner)
    assert found is not None and found.sources == (honest.identity.device,)
    asked = [len(liar.faults.calls) for liar in (first, second)]
    assert await fetch(owner) is not None
    for liar, before in zip((first, second), asked, strict=True):
        assert before == 1 or len(liar.faults.calls) == before
    await owner.kill()


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_silence_in_any_place_is_overtaken(after: int) -> None:
    owner = await spread(holders=3)
    first, second, honest = held_by(owner)
    for silent in (first, second):
        silent.faults.silent_get_after = after
    found = await fetch(owner)
    assert found is not None and honest.identity.device in found.sources
    await owner.kill()


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_broken_connections_are_taken_over(after: int) -> None:
    owner = await spread(holders=3)
    for broken in held_by(owner)[:2]:
        broken.faults.break_get_after = after
    assert await fetch(owner) is not None
    await owner.kill()


async def test_an_endless_stream_ends() -> None:
    owner = await spread(holders=3)
    for endless in held_by(owner):
        endless.faults.endless_get = True
    assert await fetch(owner) is not None
    await owner.kill()


async def test_without_rows_placement_and_everybody_is_asked() -> None:
    owner = await spread(holders=6)
    rows = list(owner.rows())
    owner.records = type(owner.records)(("replicas",), owner.faults)
    owner.fetcher._records = owner.records
    assert rows and not owner.rows()
    assert await fetch(owner) is not None
    await owner.kill()


async def test_a_copy_that_is_found_wrong_or_gone_is_made_again_elsewhere() -> None:
    owner = await spread(holders=5)
    chunk = owner.recordings.made[ONE][0]
    wrong, gone, _ = held_by(owner)
    wrong.faults.edit_get = lie
    await owner.holder(gone.identity.device).ports.blobs.remove([chunk.chunk_id])
    assert await fetch(owner) is not None
    await owner.until_complete(ONE)
    holders = owner.holders_of(ONE, 0)
    assert len(holders) == 3
    assert not {wrong.identity.device, gone.identity.device} & set(holders)
    assert await fetch(owner) is not None
    await owner.kill()


async def test_nobody_gives_it() -> None:
    owner = await spread(holders=3)
    for peer in held_by(owner):
        peer.faults.edit_get = lie
    assert await fetch(owner) is None
    for peer in owner.peers.peers:
        peer.faults.unreachable = True
    assert await fetch(owner) is None
    await owner.kill()


async def test_sources_that_all_break_off_go_on_where_they_were() -> None:
    owner = await spread(holders=3)
    for peer in held_by(owner):
        peer.faults.break_get_after = 2  # the opening, and one frame
    assert await fetch(owner) is not None
    calls = sum(peer.faults.calls.count("get_chunk") for peer in held_by(owner))
    assert calls <= 2 * (SIZE // FRAME_BYTES + 1) + 3, "what had come is fetched again"
    await owner.kill()


@pytest.mark.parametrize("away_s", [5, 60])
async def test_a_fetch_waits_a_moment_for_sources_that_are_all_lost_at_once(away_s: int) -> None:
    owner = await spread(holders=3)
    assert await fetch(owner) is not None
    await owner.advance(owner.preset.meet_s + 1)  # no start is to wait for any more
    for peer in held_by(owner):
        peer.faults.break_get_after = 2
        peer.faults.edit_get = go_away(peer)
    chunk = owner.recordings.made[ONE][0]
    task = asyncio.ensure_future(owner.fetcher.fetch(ONE, 0, chunk.chunk_id, chunk.size_bytes))
    await owner.advance(away_s)
    for peer in owner.peers.peers:
        peer.faults = PeerFaults()
    await owner.advance(1)
    assert task.done()
    if away_s < owner.preset.meet_s:
        assert task.result() is not None
    else:
        with pytest.raises(Unavailable, match="3 broke off or were silent"):
            task.result()
    assert all(row.trouble == "" for row in owner.rows().values()), "nobody is accused"
    await owner.kill()


def go_away(peer: MemoryPeer) -> Callable[[int, chunk_pb2.GetChunkResponse], chunk_pb2.GetChunkResponse]:
    """The peer is gone with its first frame."""

    def edit(_: int, response: chunk_pb2.GetChunkResponse) -> chunk_pb2.GetChunkResponse:
        peer.faults.unreachable |= response.WhichOneof("kind") == "frame"
        return response

    return edit


@pytest.mark.parametrize("after", [0, 1])
async def test_who_breaks_off_before_anything_came_may_have_it_all_the_same(after: int) -> None:
    owner = await spread(holders=3)
    gone, *breaking = held_by(owner)
    chunk = owner.recordings.made[ONE][0]
    await owner.holder(gone.identity.device).ports.blobs.remove([chunk.chunk_id])
    for peer in breaking:
        peer.faults.break_get_after = after
    with pytest.raises(Unavailable, match="2 broke off or were silent"):
        await fetch(owner)
    await owner.kill()


class TimedPeer:
    """A peer whose frames take time."""

    def __init__(self, peer: MemoryPeer, clock: Clock, seconds: float) -> None:
        self._peer = peer
        self._clock = clock
        self._seconds = seconds
        self.identity = peer.identity
        self.faults = peer.faults

    async def get_chunk(
        self, request: chunk_pb2.GetChunkRequest
    ) -> AsyncIterator[chunk_pb2.GetChunkResponse]:
        async for response in self._peer.get_chunk(request):
            if response.WhichOneof("kind") == "frame":
                await self._clock.sleep(self._seconds * len(response.frame) / FRAME_BYTES)
            yield response


async def test_several_bring_it_at_the_same_time() -> None:
    owner = await spread(holders=3)
    owner.peers.peers = [TimedPeer(peer, owner.clock, 1.0) for peer in owner.peers.peers]  # type: ignore[misc]
    begin_ns = owner.clock.now_ns
    found = await fetch(owner)
    assert found is not None and len(found.sources) == 3
    assert owner.clock.now_ns - begin_ns <= 4 * 10**9, "seven frames do not come side by side"
    await owner.kill()


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
async def test_one_liar_and_one_slow_of_three_cost_at_most_a_fifth(order: tuple[int, ...]) -> None:
    """The honest holder alone would take 0.1 s a frame; the slow one takes a hundred times as long."""
    owner = await spread(holders=3, size_bytes=32 * FRAME_BYTES)
    liar, slow, honest = (owner.peers.peers[place] for place in order)
    liar.faults.edit_get = lie
    owner.peers.peers = [
        liar,
        TimedPeer(slow, owner.clock, 10.0),  # type: ignore[list-item]
        TimedPeer(honest, owner.clock, 0.1),  # type: ignore[list-item]
    ]
    chunk = owner.recordings.made[ONE][0]
    chunks, begin_ns = 8, owner.clock.now_ns

    async def fetch_all() -> None:
        for _ in range(chunks):
            assert await owner.fetcher.fetch(ONE, 0, chunk.chunk_id, chunk.size_bytes) is not None

    task = asyncio.ensure_future(fetch_all())
    while not task.done():
        await owner.clock.advance(0.05, step_s=0.05)
        await settle()
    task.result()
    alone_s = chunks * 32 * 0.1
    assert (owner.clock.now_ns - begin_ns) / 1e9 <= alone_s / 0.8
    await owner.kill()


async def test_memory_is_bounded() -> None:
    preset = SpreadPreset(fetches_in_flight=2)
    owner = await spread(holders=3, preset=preset)
    chunk = owner.recordings.made[ONE][0]
    for peer in owner.peers.peers:
        peer.faults.silent_get_after = 1
    tasks = [
        asyncio.ensure_future(owner.fetcher.fetch(ONE, 0, chunk.chunk_id, chunk.size_bytes))
        for _ in range(10)
    ]
    await settle()
    streams = sum(peer.faults.calls.count("get_chunk") for peer in owner.peers.peers)
    assert streams <= 2 * (1 + preset.sources)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await owner.kill()


async def test_a_fetch_waits_for_the_first_peer_to_connect() -> None:
    owner = await spread()
    for peer in owner.peers.peers:
        peer.faults.unreachable = True
    chunk = owner.recordings.made[ONE][0]
    task = asyncio.ensure_future(owner.fetcher.fetch(ONE, 0, chunk.chunk_id, chunk.size_bytes))
    await owner.advance(5)
    assert not task.done()
    for peer in owner.peers.peers:
        peer.faults.unreachable = False
    await owner.advance(1)
    assert task.done() and task.result() is not None
    await owner.kill()


async def test_only_the_first_fetch_of_a_lonely_node_waits() -> None:
    owner = await spread()
    for peer in owner.peers.peers:
        peer.faults.unreachable = True
    chunk = owner.recordings.made[ONE][0]
    started_ns = owner.clock.now_ns
    assert await fetch(owner) is None
    assert (owner.clock.now_ns - started_ns) / 1e9 <= owner.preset.meet_s + 2
    assert await owner.fetcher.fetch(ONE, 0, chunk.chunk_id, chunk.size_bytes) is None
    await owner.kill()


async def test_after_a_start_a_fetch_waits_for_a_peer_that_has_the_chunk() -> None:
    owner = await spread()
    holding = held_by(owner)
    await owner.kill()
    await owner.boot(run=False)
    holding = [owner.peer(peer.identity.device) for peer in holding]
    for peer in holding:
        peer.faults.unreachable = True
    assert any(peer not in holding for peer in owner.peers.peers)
    chunk = owner.recordings.made[ONE][0]
    task = asyncio.ensure_future(owner.fetcher.fetch(ONE, 0, chunk.chunk_id, chunk.size_bytes))
    await owner.advance(5)
    assert not task.done()
    for peer in holding:
        peer.faults.unreachable = False
    await owner.advance(1)
    assert task.done() and task.result() is not None
    await owner.kill()
