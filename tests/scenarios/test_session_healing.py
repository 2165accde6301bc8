"""Chunks that are damaged or lost here come back from peers; nothing wrong is ever taken for right."""

from dataclasses import dataclass, field, replace

import pytest

from dht.pinned_blobs import PinnedBlobs
from kernel.errors import InvalidRecord, LucidError, StoreDamaged, Unavailable
from session.ports import Fetched
from session.session_manager import SessionManager
from storage.faults import Died
from tests.scenarios.world import ListSource, World, ending, ignore, plaintext, request

DATA = plaintext(200_000)


@dataclass
class KeptCopies:
    """`session.ports.Fetch` from copies that were made."""

    copies: dict[bytes, bytes] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    failure: LucidError | None = None

    async def fetch(self, session_id: bytes, index: int, chunk_id: bytes, size_bytes: int) -> Fetched | None:
        self.asked.append(index)
        if self.failure is not None:
            raise self.failure
        blob = self.copies.get(chunk_id)
        return None if blob is None else Fetched(blob, "12D3friend")


async def record(world: World) -> tuple[bytes, KeptCopies, list[bytes]]:
    copies = KeptCopies()
    world.fetch = copies
    manager = await world.boot()
    recording = await manager.open_recording(request(live=False))
    await recording.copy(ListSource(DATA), ignore)
    await recording.finish(ending())
    for blob_id in world.ports.blobs.ids():
        copies.copies[blob_id] = await world.ports.blobs.read(blob_id)
    row_ids = [entry.chunk_id for entry in world.manager._catalog.chunks(recording.session_id, 4)]
    return recording.session_id, copies, row_ids


def harm(world: World, chunk_id: bytes, *, lose: bool) -> None:
    path = next(path for path in world.files.paths() if path.endswith(chunk_id.hex()))
    if lose:
        world.files.remove(path)
    else:
        world.files.flip(path, 8 * 5000)


@pytest.mark.parametrize("lose", [False, True])
@pytest.mark.parametrize("by", ["get", "verify"])
async def test_a_harmed_chunk_comes_back_and_is_reported(world: World, by: str, lose: bool) -> None:
    session_id, copies, chunk_ids = await record(world)
    await world.kill()
    harm(world, chunk_ids[2], lose=lose)
    await world.boot()
    what = f"it was {'missing' if lose else 'damaged'} here and was brought back from 12D3friend"
    if by == "get":
        assert await world.read(session_id) == DATA
    else:
        result = await world.verify(session_id)
        assert result.valid
        assert [(one.index, one.healed, one.what) for one in result.findings] == [(2, True, what)]
    info = await world.manager.info(session_id)
    assert [incident.what for incident in info.incidents] == [f"chunk 2: {what}"]
    assert copies.asked == [2]
    assert await world.ports.blobs.read(chunk_ids[2]) == copies.copies[chunk_ids[2]]
    result = await world.verify(session_id)
    assert result.valid and not result.findings
    assert copies.asked == [2]


@pytest.mark.parametrize("given", ["nothing", "another chunk", "a longer one", "a flipped one"])
async def test_what_is_not_the_chunk_heals_nothing(world: World, given: str) -> None:
    session_id, copies, chunk_ids = await record(world)
    right = copies.copies[chunk_ids[1]]
    match given:
        case "nothing":
            copies.copies.clear()
        case "another chunk":
            copies.copies[chunk_ids[1]] = copies.copies[chunk_ids[0]]
        case "a longer one":
            copies.copies[chunk_ids[1]] = right + b"x"
        case "a flipped one":
            copies.copies[chunk_ids[1]] = bytes([right[0] ^ 1]) + right[1:]
    harm(world, chunk_ids[1], lose=False)
    damaged = await world.ports.blobs.read(chunk_ids[1])
    with pytest.raises(InvalidRecord):
        await world.read(session_id)
    assert not (await world.verify(session_id)).valid
    assert await world.ports.blobs.read(chunk_ids[1]) == damaged, "the bad blob is all there is, and is gone"


async def test_a_lost_chunk_that_nobody_has_is_missing(world: World) -> None:
    session_id, copies, chunk_ids = await record(world)
    copies.copies.clear()
    harm(world, chunk_ids[1], lose=True)
    with pytest.raises(StoreDamaged, match="chunk 1 is missing"):
        await world.read(session_id)


@pytest.mark.parametrize("lose", [False, True])
async def test_a_chunk_that_nobody_gives_just_now_is_unavailable_and_not_missing(
    world: World, lose: bool
) -> None:
    session_id, copies, chunk_ids = await record(world)
    copies.failure = Unavailable("all broke off", hint="Try again.")
    harm(world, chunk_ids[1], lose=lose)
    state = "missing" if lose else "damaged"
    what = f"chunk 1 is {state} here and cannot be fetched just now: all broke off"
    with pytest.raises(Unavailable, match=what) as raised:
        await world.read(session_id)
    assert raised.value.hint == "Try again."
    result = await world.verify(session_id)
    assert not result.valid and [finding.what for finding in result.findings] == [what]
    copies.failure = None
    assert await world.read(session_id) == DATA


async def test_a_full_disk_keeps_nobody_from_reading(world: World) -> None:
    session_id, _, chunk_ids = await record(world)
    harm(world, chunk_ids[0], lose=True)
    world.faults.capacity_bytes = world.faults.used_bytes
    assert await world.read(session_id) == DATA


async def test_a_bad_blob_that_cannot_be_removed_is_not_called_mended(world: World) -> None:
    session_id, copies, chunk_ids = await record(world)
    harm(world, chunk_ids[0], lose=False)
    pinned = PinnedBlobs(world.ports.blobs, lambda _: True)
    world.manager = SessionManager(replace(world.ports, blobs=pinned), world.keys, world.preset)
    assert await world.read(session_id) == DATA
    (incident,) = (await world.manager.info(session_id)).incidents
    assert "could not be stored" in incident.what
    assert copies.asked == [0]


async def test_a_kill_at_any_step_of_healing_heals_later() -> None:
    step, died = 0, True
    while died:
        world = World()
        session_id, _, chunk_ids = await record(world)
        harm(world, chunk_ids[1], lose=False)
        world.faults.revive()
        world.faults.die_at = step
        died = False
        try:
            assert await world.read(session_id) == DATA
        except (Died, BaseExceptionGroup):
            died = True
        await world.kill(power=step % 2 == 0)
        world.faults.revive()
        await world.boot()
        assert await world.read(session_id) == DATA
        assert (await world.verify(session_id)).valid
        step += 1
    assert step > 5


async def test_whoever_spreads_is_told_of_every_change(world: World) -> None:
    session_id, _, _ = await record(world)
    assert set(world.changed) == {session_id}
    world.changed.clear()
    await world.manager.delete(session_id)
    assert world.changed == [session_id]
