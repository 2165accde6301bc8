"""Bundles of real recordings: made from a store, checked without it."""

from dataclasses import replace

import pytest

from kernel.attestation import sign_attestation
from kernel.checkpoint import compute_checkpoint_hash
from kernel.errors import Conflict, Locked, NotFound, StoreDamaged, UsageError
from lucid.v1 import identity_pb2
from session.bundle_builder import Prover, Shown
from session.bundle_verifier import verify_bundle
from session.encryptor import ChunkFlag
from session.ports import NoWitnesses
from tests.scenarios.owner_world import OwnerWorld, make_holders
from tests.scenarios.witness_world import NETWORK, make_identity
from tests.scenarios.world import KIB, ListSource, World, ending, ignore, plaintext, request


class FixedWitnesses(NoWitnesses):
    """Witnesses that have seen some checkpoints."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, identity_pb2.Signed]] = []

    def see(self, name: str, sequence: int, checkpoint: identity_pb2.Signed, session_id: bytes) -> None:
        witness = make_identity(name)[0]
        self.seen.append((sequence, sign_attestation(witness, NETWORK, checkpoint, session_id, 5)))

    def attestations(self, session_id: bytes) -> list[tuple[int, identity_pb2.Signed]]:
        return self.seen


def get_prover(world: World) -> Prover:
    return Prover(world.ports, world.keys)


async def record(world: World, size: int) -> bytes:
    await world.boot()
    recording = await world.manager.open_recording(request(live=False))
    await recording.copy(ListSource(plaintext(size)), ignore)
    await recording.finish(ending())
    return recording.session_id


async def test_a_complete_session_is_proven(world: World) -> None:
    session_id = await record(world, 300 * KIB)
    report = verify_bundle(await get_prover(world).prove(session_id))
    info = await world.manager.info(session_id)
    assert report.manifest_hash == info.manifest_hash
    assert report.checkpoint.root == info.root
    assert report.owner == world.keys.owner
    assert report.chunk is None


async def test_each_chunk_opens_with_its_own_key(world: World) -> None:
    session_id = await record(world, 300 * KIB)
    pieces = []
    for index in range((await world.manager.info(session_id)).chunks):
        data = await get_prover(world).prove(session_id, Shown(index, reveal=True))
        chunk = verify_bundle(data).chunk
        assert chunk is not None
        assert chunk.plaintext is not None
        pieces.append(chunk.plaintext)
    assert b"".join(pieces) == plaintext(300 * KIB)


async def test_a_stretch_is_widened_to_leaves(world: World) -> None:
    session_id = await record(world, 300 * KIB)
    chunk = verify_bundle(await get_prover(world).prove(session_id, Shown(1, 5000, 8193))).chunk
    assert chunk is not None
    assert (chunk.first_byte, chunk.end_byte) == (4096, 12288)
    assert chunk.plaintext is None
    size = chunk.size_bytes
    chunk = verify_bundle(await get_prover(world).prove(session_id, Shown(1, size - 1, size))).chunk
    assert chunk is not None
    assert chunk.end_byte == size


async def test_what_is_not_there_cannot_be_shown(world: World) -> None:
    session_id = await record(world, 100 * KIB)
    prover = get_prover(world)
    for shown in (Shown(2), Shown(0, 0, 1 << 40), Shown(0, 10, 10), Shown(0, 11, 10)):
        with pytest.raises(UsageError):
            await prover.prove(session_id, shown)
    with pytest.raises(NotFound):
        await prover.prove(bytes(16))


async def test_a_running_session_stands_on_what_witnesses_have_seen(world: World) -> None:
    world.witnesses = witnesses = FixedWitnesses()
    await world.boot()
    recording = await world.manager.open_recording(request(live=True))
    prover, session_id = get_prover(world), recording.session_id
    with pytest.raises(Conflict):
        await prover.prove(session_id)
    for _ in range(3):
        await recording.append(recording.position, plaintext(70 * KIB))
        await world.clock.advance(6)
    info = await world.manager.info(session_id)
    assert info.checkpoints > 2
    newest = verify_bundle(await prover.prove(session_id))
    assert newest.checkpoint.sequence == info.checkpoints - 1
    assert newest.attested == ()

    signed = prover._get_checkpoint(session_id, 1)
    witnesses.see("b", 1, signed, session_id)
    witnesses.see("a", 1, signed, session_id)
    seen = verify_bundle(await prover.prove(session_id))
    assert seen.checkpoint.sequence == 1
    assert len(seen.attested) == 2
    assert seen.manifest is None
    beyond = verify_bundle(await prover.prove(session_id, Shown(newest.checkpoint.chunk_count - 1)))
    assert beyond.checkpoint.sequence == info.checkpoints - 1

    await recording.finish(ending())
    done = verify_bundle(await prover.prove(session_id))
    assert done.manifest is not None
    assert done.attested == ()
    last = world.manager._catalog.row(session_id).last_checkpoint
    assert done.manifest.checkpoint_hash == compute_checkpoint_hash(last.payload)
    witnesses.see("a", done.checkpoint.sequence, last, session_id)
    assert len(verify_bundle(await prover.prove(session_id)).attested) == 1


async def test_the_final_chunk_of_a_live_session_is_empty(world: World) -> None:
    await world.boot()
    recording = await world.manager.open_recording(request(live=True))
    await recording.append(0, b"hello")
    await recording.finish(ending())
    chunk = verify_bundle(await get_prover(world).prove(recording.session_id, Shown(1, reveal=True))).chunk
    assert chunk is not None
    assert chunk.plaintext == b""
    assert chunk.flags & ChunkFlag.FINAL


async def test_damage_is_told_and_not_proven(world: World) -> None:
    session_id = await record(world, 100 * KIB)
    chunk_id = world.manager._catalog.chunk(session_id, 0).chunk_id
    path = next(name for name in list_blobs(world) if chunk_id.hex() in name)
    data = bytearray(world.files.read(path))
    data[5000] ^= 1
    world.files.create(path, [bytes(data)])
    with pytest.raises(StoreDamaged):
        await get_prover(world).prove(session_id, Shown(0))


def list_blobs(world: World, directory: str = "blobs") -> list[str]:
    found: list[str] = []
    for name in world.files.list_dir(directory):
        path = f"{directory}/{name.rstrip('/')}"
        found += list_blobs(world, path) if name.endswith("/") else [path]
    return found


async def test_who_cannot_read_cannot_reveal(world: World) -> None:
    session_id = await record(world, 100 * KIB)
    blind = Prover(world.ports, replace(world.keys, reading={}))
    assert verify_bundle(await blind.prove(session_id, Shown(0))).chunk is not None
    with pytest.raises(Locked):
        await blind.prove(session_id, Shown(0, reveal=True))


async def test_without_a_grant_list_there_is_no_bundle(world: World) -> None:
    session_id = await record(world, 100 * KIB)
    with pytest.raises(Conflict):
        await Prover(world.ports, replace(world.keys, grants=None)).prove(session_id)


async def test_no_bundle_is_made_that_would_be_refused() -> None:
    """The grant list of the new device does not name the lost one."""
    holders = await make_holders()
    old, new = OwnerWorld(), OwnerWorld(device=b"n", seed=2)
    for world in (old, new):
        await world.boot()
        world.meet(holders)
    session_id = await old.record()
    assert await old.publish()
    await new.restore()
    keys = replace(new.keys, grants=new.peer_keys.grants)
    with pytest.raises(Conflict, match="another device recorded"):
        await Prover(new.ports, keys).prove(session_id)
