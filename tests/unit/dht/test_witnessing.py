"""A witness co-signs what extends what it co-signed before, and nothing else."""

import asyncio

import pytest

from dht import tables
from dht.preset import WitnessPreset
from kernel.attestation import verify_attestation
from kernel.checkpoint import MAX_CHECKPOINT_BYTES, compute_checkpoint_hash
from kernel.domains import Domain
from kernel.errors import Conflict, InvalidRecord, LucidError, Reason, StoreDamaged, StoreError, StoreFull
from lucid.v1 import identity_pb2, session_pb2, witness_pb2
from storage.faults import Died
from tests.scenarios.witness_world import NETWORK, SESSION, Series, WitnessNode, make_identity

DEVICE, CALLER = make_identity("device")


@pytest.fixture
async def node() -> WitnessNode:
    node = WitnessNode()
    await node.boot()
    return node


@pytest.fixture
def series() -> Series:
    return Series(DEVICE)


async def attest(node: WitnessNode, series: Series, old_count: int = 0) -> identity_pb2.Signed:
    response = await node.witnesses.attest(series.request(old_count), CALLER)
    check(node, response.attestation, series.signed[-1])
    return response.attestation


def check(node: WitnessNode, attestation: identity_pb2.Signed, checkpoint: identity_pb2.Signed) -> None:
    verify_attestation(
        attestation,
        NETWORK,
        session_id=SESSION,
        checkpoint_hash=compute_checkpoint_hash(checkpoint.payload),
        witness=node.key.public_key,
    )


async def get(node: WitnessNode) -> witness_pb2.GetAttestedResponse:
    request = witness_pb2.GetAttestedRequest(session_id=SESSION, device=DEVICE.public_key)
    return await node.witnesses.get_attested(request)


async def refuse(node: WitnessNode, request: witness_pb2.AttestRequest) -> LucidError:
    """What is refused leaves no trace."""
    before = await get(node)
    with pytest.raises(LucidError) as caught:
        await node.witnesses.attest(request, CALLER)
    assert await get(node) == before
    return caught.value


def reason_of(error: LucidError) -> Reason:
    assert isinstance(error, InvalidRecord)
    return error.reason


async def test_a_growing_session_is_co_signed(node: WitnessNode, series: Series) -> None:
    assert await get(node) == witness_pb2.GetAttestedResponse()
    covered = 0
    for more in (0, 1, 0, 3, 4):
        series.grow(more)
        attestation = await attest(node, series, covered)
        covered = len(series.chunks)
        assert (await get(node)).attestation == attestation
        assert (await get(node)).checkpoint == series.signed[-1]


async def test_the_time_is_the_witness_own(node: WitnessNode, series: Series) -> None:
    series.grow()
    signed = await attest(node, series)
    assert witness_pb2.Attestation.FromString(signed.payload).time_ns == node.clock.wall_ns()


async def test_the_first_one_may_be_any(node: WitnessNode, series: Series) -> None:
    series.grow()
    series.grow(5)
    await attest(node, series)


async def test_some_may_be_left_out(node: WitnessNode, series: Series) -> None:
    series.grow()
    await attest(node, series)
    series.grow(2)
    series.grow(1)
    await attest(node, series, 1)


async def test_the_same_one_gets_the_same_attestation(node: WitnessNode, series: Series) -> None:
    series.grow()
    first = await attest(node, series)
    await node.clock.advance(60)
    assert await attest(node, series) == first
    assert await attest(node, series, 99) == first  # whatever the proof begins with


async def test_an_older_one_is_refused(node: WitnessNode, series: Series) -> None:
    series.grow()
    old = series.grow()
    series.grow()
    await attest(node, series)
    error = await refuse(node, series.request(2, old))
    assert isinstance(error, Conflict)
    assert "checkpoint 2 over 3 chunks" in str(error)


async def test_a_smaller_one_is_refused(node: WitnessNode, series: Series) -> None:
    series.grow(3)
    await attest(node, series)
    twin = series.copy()
    twin.chunks = twin.chunks[:2]
    twin.grow(0)
    error = await refuse(node, twin.request(2))
    assert isinstance(error, Conflict)
    assert "fewer" in str(error)


async def test_a_fork_with_other_chunks_is_refused(node: WitnessNode, series: Series) -> None:
    series.grow(3)
    await attest(node, series)
    twin = series.copy()
    twin.chunks[1] = b"x" * 32
    twin.grow(2)
    assert reason_of(await refuse(node, twin.request(3))) is Reason.NOT_CONSISTENT
    twin.chunks = series.chunks + twin.chunks[3:]
    assert reason_of(await refuse(node, twin.request(3))) is Reason.NOT_CONSISTENT


async def test_a_fork_at_the_same_place_is_refused(node: WitnessNode, series: Series) -> None:
    series.grow()
    twin = series.copy(b"twin")
    series.grow()
    await attest(node, series)
    twin.grow()
    assert isinstance(await refuse(node, twin.request(2)), Conflict)


async def test_the_next_one_must_name_the_last_one(node: WitnessNode, series: Series) -> None:
    series.grow()
    await attest(node, series)
    series.grow(previous=b"p" * 32)
    error = await refuse(node, series.request(1))
    assert isinstance(error, Conflict)
    assert "follows another" in str(error)


async def test_an_empty_session_cannot_claim_another_root(node: WitnessNode, series: Series) -> None:
    series.grow(0, root=b"r" * 32)
    await attest(node, series)
    series.grow()
    assert reason_of(await refuse(node, series.request(0))) is Reason.NOT_CONSISTENT


async def test_a_proof_from_elsewhere_is_refused(node: WitnessNode, series: Series) -> None:
    series.grow(2)
    await attest(node, series)
    series.grow(2)
    for begin in (0, 1, 3):
        assert isinstance(await refuse(node, series.request(begin)), Conflict)
    await attest(node, series, 2)


async def test_a_proof_from_nothing_is_empty(node: WitnessNode, series: Series) -> None:
    series.grow(2)
    assert isinstance(await refuse(node, series.request(1)), Conflict)
    request = series.request(0)
    request.consistency.append(bytes(32))
    assert isinstance(await refuse(node, request), Conflict)


async def test_every_flipped_proof_is_refused(node: WitnessNode, series: Series) -> None:
    series.grow(3)
    await attest(node, series)
    series.grow(4)
    honest = series.request(3)
    for position in range(len(honest.consistency)):
        request = witness_pb2.AttestRequest()
        request.CopyFrom(honest)
        request.consistency[position] = bytes(32)
        assert reason_of(await refuse(node, request)) is Reason.NOT_CONSISTENT
        del request.consistency[position]
        assert reason_of(await refuse(node, request)) is Reason.NOT_CONSISTENT
    honest.consistency.extend([bytes(32)] * 65)
    assert reason_of(await refuse(node, honest)) is Reason.TOO_LARGE


async def test_only_the_device_brings_its_checkpoints(node: WitnessNode, series: Series) -> None:
    series.grow()
    _, stranger = make_identity("stranger")
    with pytest.raises(InvalidRecord) as caught:
        await node.witnesses.attest(series.request(0), stranger)
    assert caught.value.reason is Reason.WRONG_SIGNER


async def test_malformed_checkpoints_are_refused(node: WitnessNode, series: Series) -> None:
    def ask(signed: identity_pb2.Signed) -> witness_pb2.AttestRequest:
        return witness_pb2.AttestRequest(checkpoint=signed)

    def sign(payload: bytes, domain: Domain = Domain.CHECKPOINT) -> identity_pb2.Signed:
        return DEVICE.sign(domain, NETWORK, payload)

    payload = series.grow().payload
    assert reason_of(await refuse(node, ask(identity_pb2.Signed()))) is Reason.MALFORMED
    assert reason_of(await refuse(node, ask(sign(payload, Domain.MANIFEST)))) is Reason.BAD_SIGNATURE
    assert reason_of(await refuse(node, ask(sign(bytes(MAX_CHECKPOINT_BYTES + 1))))) is Reason.TOO_LARGE
    assert reason_of(await refuse(node, ask(sign(b"\xff")))) is Reason.MALFORMED
    assert reason_of(await refuse(node, ask(series.grow(session_id=b"short")))) is Reason.MALFORMED
    assert reason_of(await refuse(node, ask(series.grow(root=b"short")))) is Reason.MALFORMED


async def test_malformed_questions_are_refused(node: WitnessNode) -> None:
    for session_id, device in ((b"", bytes(32)), (bytes(16), b""), (bytes(17), bytes(32))):
        with pytest.raises(InvalidRecord):
            await node.witnesses.get_attested(
                witness_pb2.GetAttestedRequest(session_id=session_id, device=device)
            )


async def test_devices_with_one_session_id_have_lines_of_their_own(node: WitnessNode, series: Series) -> None:
    other_key, other = make_identity("other")
    series.grow(3)
    await attest(node, series)
    squatter = Series(other_key)
    squatter.grow()
    await node.witnesses.attest(squatter.request(0), other)
    series.grow()
    await attest(node, series, 3)


async def test_an_owner_has_a_share_of_the_room(series: Series) -> None:
    node = WitnessNode(preset=WitnessPreset(lines_per_owner=2, lines=3))
    await node.boot()
    many = [Series(DEVICE, bytes([number]) * 16) for number in range(4)]
    for each in many:
        each.grow()
    for each in many[:2]:
        await node.witnesses.attest(each.request(0), CALLER)
    with pytest.raises(StoreFull):
        await node.witnesses.attest(many[2].request(0), CALLER)
    many[0].grow()  # a line that is there goes on
    await node.witnesses.attest(many[0].request(1), CALLER)
    await node.boot()  # and a restart makes no room
    with pytest.raises(StoreFull):
        await node.witnesses.attest(many[2].request(0), CALLER)
    other_key, other = make_identity("other")
    for number, full in ((5, False), (6, True)):
        theirs = Series(other_key, bytes([number]) * 16)
        theirs.grow()
        if full:
            with pytest.raises(StoreFull):
                await node.witnesses.attest(theirs.request(0), other)
        else:
            await node.witnesses.attest(theirs.request(0), other)


async def test_streams_stay_short(node: WitnessNode, series: Series) -> None:
    for _ in range(60):
        before = len(series.chunks)
        series.grow()
        await attest(node, series, before)
        assert node.journal.used_bytes() <= 2 * node.preset.stream_bytes
    assert len(node.journal.streams(tables.ATTESTED_STREAMS)) == 1
    node.lose_index()
    await node.boot()
    assert (await get(node)).checkpoint == series.signed[-1]


async def test_a_lost_index_is_remade(node: WitnessNode, series: Series) -> None:
    series.grow(3)
    await attest(node, series)
    node.lose_index()
    await node.boot()
    assert node.problems == []
    assert node.records.get(tables.ATTESTED, tables.attested_key(SESSION, DEVICE.public_key)) is not None
    twin = Series(DEVICE, salt=b"twin")
    twin.grow(4)
    assert isinstance(await refuse(node, twin.request(0)), Conflict)
    series.grow()
    await attest(node, series, 3)


async def test_one_whose_memory_is_damaged_signs_nothing(node: WitnessNode, series: Series) -> None:
    for _ in range(3):
        series.grow()
        await attest(node, series, len(series.chunks) - 1)
    stream = node.journal.streams(tables.ATTESTED_STREAMS)[0]
    path = f"journal/{stream}.log"
    data = bytearray(node.files.read(path))
    data[len(data) // 2] ^= 1
    node.files.create(path, [bytes(data)])
    node.lose_index()
    await node.boot()
    assert len(node.problems) == 1
    with pytest.raises(StoreDamaged):
        await node.witnesses.attest(series.request(0), CALLER)


@pytest.mark.parametrize("power", [False, True])
async def test_killed_at_any_step_it_never_signs_two_branches(power: bool) -> None:
    """At each operation of the disk the process dies; what was answered binds the next process."""
    step = 0
    while True:
        node = WitnessNode(preset=WitnessPreset(stream_bytes=300), seed=step)
        await node.boot()
        series = Series(DEVICE)
        answered: identity_pb2.Signed | None = None
        node.faults.operations, node.faults.die_at = 0, step
        died = False
        try:
            for _ in range(4):
                before = len(series.chunks)
                series.grow()
                await node.witnesses.attest(series.request(before), CALLER)
                answered = series.signed[-1]
        except Died:
            died = True
        if power:
            node.files.power_cut()
        else:
            node.files.process_kill()
        node.faults.revive()
        await node.boot()
        kept = await get(node)
        assert node.problems == []
        if answered is not None:
            known = session_pb2.Checkpoint.FromString(kept.checkpoint.payload)
            assert known.sequence >= session_pb2.Checkpoint.FromString(answered.payload).sequence
        if kept.HasField("checkpoint"):
            assert kept.checkpoint in series.signed
        series.grow()
        old = session_pb2.Checkpoint.FromString(kept.checkpoint.payload).chunk_count
        await attest(node, series, old)
        node.lose_index()
        await node.boot()
        assert (await get(node)).checkpoint == series.signed[-1]
        if not died:
            break
        step += 1
    assert step > 10


async def test_a_failing_disk_answers_nothing_that_it_forgets() -> None:
    """Each operation of the disk fails once; then the machine loses power."""
    step = 0
    while True:
        node = WitnessNode(preset=WitnessPreset(stream_bytes=300), seed=step)
        await node.boot()
        series = Series(DEVICE)
        answered = -1
        node.faults.operations, node.faults.fail_at = 0, step
        try:
            for number in range(4):
                before = len(series.chunks)
                series.grow()
                await node.witnesses.attest(series.request(before), CALLER)
                answered = number
        except StoreError:
            node.files.power_cut()
            node.faults.revive()
            await node.boot()
        else:
            break
        kept = await get(node)
        assert not kept.HasField("checkpoint") or kept.checkpoint in series.signed[answered:]
        assert kept.HasField("checkpoint") or answered < 0
        step += 1
    assert step > 10


async def test_two_at_once_get_one_line(node: WitnessNode, series: Series) -> None:
    series.grow()
    twin = series.copy(b"twin")
    series.grow()
    twin.grow()
    results = await asyncio.gather(
        node.witnesses.attest(series.request(0), CALLER),
        node.witnesses.attest(twin.request(0), CALLER),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["AttestResponse", "Conflict"]
