"""Facts of another device: taken whole or not at all."""

import pytest

from kernel.errors import Conflict, InvalidRecord
from lucid.v1 import session_pb2
from session import tables
from session.adoption import Copy
from tests.scenarios.owner_world import OwnerWorld
from tests.scenarios.world import request


async def record(world: OwnerWorld) -> tuple[bytes, list[bytes]]:
    session_id = await world.record(200_000)
    contents = await world.ports.journal.read(tables.facts_stream(session_id))
    return session_id, [payload for _, payload in contents.records]


def copy(session_id: bytes, payloads: list[bytes]) -> Copy:
    return Copy(session_id, payloads, session_pb2.Adopted())


async def make_worlds() -> tuple[OwnerWorld, OwnerWorld]:
    old, new = OwnerWorld(), OwnerWorld(device=b"n", seed=2)
    await old.boot()
    await new.boot()
    return old, new


async def test_a_device_that_nobody_proved_is_a_stranger() -> None:
    old, new = await make_worlds()
    session_id, payloads = await record(old)
    with pytest.raises(InvalidRecord, match="not signed by a device of the owner"):
        await new.manager.adopt(copy(session_id, payloads))
    new.keys.others.add(old.identity.device)
    assert await new.manager.adopt(copy(session_id, payloads))
    assert not await new.manager.adopt(copy(session_id, payloads))


async def test_reordered_missing_foreign_and_flipped_facts_are_refused() -> None:
    old, new = await make_worlds()
    new.keys.others.add(old.identity.device)
    session_id, payloads = await record(old)
    other_id, others = await record(old)
    assert len(payloads) >= 4
    cases = [
        payloads[::-1],
        [payloads[1], payloads[0], *payloads[2:]],
        [payloads[0], *payloads[2:]],
        [*payloads, payloads[0]],
        [*payloads, payloads[1]],
        [payloads[0], *others[1:]],
        others,
        [],
        [payloads[0], b"\xff", *payloads[1:]],
    ]
    for facts in cases:
        with pytest.raises(InvalidRecord):
            await new.manager.adopt(copy(session_id, facts))
    with pytest.raises(InvalidRecord):
        await new.manager.adopt(copy(b"short", payloads))
    assert await new.manager.list() == []
    assert new.ports.journal.streams() == []
    assert await new.manager.adopt(copy(session_id, payloads))
    assert await new.manager.adopt(copy(other_id, others))


async def test_no_flipped_bit_of_what_was_signed_goes_unseen() -> None:
    old, new = await make_worlds()
    new.keys.others.add(old.identity.device)
    session_id, payloads = await record(old)
    fact = session_pb2.Fact.FromString(payloads[-1])
    assert fact.HasField("closed")
    edits = []
    for number, payload in enumerate(payloads):
        fact = session_pb2.Fact.FromString(payload)
        for signed in (fact.opened.policy, fact.sealed.checkpoint, fact.checkpoint, fact.closed.manifest):
            if not signed.payload:
                continue
            for field in ("payload", "signature", "public_key"):
                value = bytearray(getattr(signed, field))
                value[len(value) // 2] ^= 4
                before = getattr(signed, field)
                setattr(signed, field, bytes(value))
                edits.append((number, fact.SerializeToString()))
                setattr(signed, field, before)
        if fact.sealed.chunks:
            fact.sealed.chunks[0].chunk_id = b"c" * 32
            edits.append((number, fact.SerializeToString()))
    assert len(edits) > 10
    for number, changed in edits:
        facts = [*payloads[:number], changed, *payloads[number + 1 :]]
        with pytest.raises(InvalidRecord):
            await new.manager.adopt(copy(session_id, facts))


async def test_a_session_that_is_here_or_was_deleted_here_is_never_touched() -> None:
    old, _ = await make_worlds()
    session_id, payloads = await record(old)
    before = await old.manager.info(session_id)
    assert not await old.manager.adopt(copy(session_id, payloads))
    assert await old.manager.info(session_id) == before
    await old.manager.delete(session_id)
    assert not await old.manager.adopt(copy(session_id, payloads))
    assert (await old.manager.info(session_id)).state == session_pb2.STATE_DELETED
    running = await old.manager.open_recording(request(live=True))
    assert not await old.manager.adopt(copy(running.session_id, payloads))
    await old.manager.adopt_deletion(running.session_id)
    assert (await old.manager.info(running.session_id)).state == session_pb2.STATE_RECORDING
    await running.interrupt("end of test")


async def test_a_deletion_elsewhere_is_remembered_durably() -> None:
    old, new = await make_worlds()
    new.keys.others.add(old.identity.device)
    session_id, payloads = await record(old)
    await new.manager.adopt_deletion(session_id)
    await new.kill(power=True)
    await new.boot()
    new.keys.others.add(old.identity.device)
    assert not await new.manager.adopt(copy(session_id, payloads))


async def test_facts_that_no_index_knows_are_not_replaced() -> None:
    old, new = await make_worlds()
    new.keys.others.add(old.identity.device)
    session_id, payloads = await record(old)
    await new.ports.journal.append(tables.facts_stream(session_id), payloads[:1])
    with pytest.raises(Conflict, match="start the node again"):
        await new.manager.adopt(copy(session_id, payloads))


async def test_a_damaged_half_adoption_is_told_of_and_begun_again() -> None:
    old, new = await make_worlds()
    new.keys.others.add(old.identity.device)
    session_id, payloads = await record(old)
    stream = tables.adopting_stream(session_id)
    adopted = session_pb2.Fact(adopted=session_pb2.Adopted(time_ns=1)).SerializeToString()
    await new.ports.journal.append(stream, [*payloads, adopted])
    await new.ports.journal.sync(stream)
    path = next(path for path in new.files.paths() if path.endswith("adopting.log"))
    new.files.flip(path, 8 * 500)
    await new.kill()
    await new.boot()
    assert any("restore it again" in problem for problem in new.manager.problems)
    new.keys.others.add(old.identity.device)
    assert await new.manager.adopt(copy(session_id, payloads))
