"""Holders show random leaves of what they hold; who cannot is replaced."""

from collections.abc import Callable

import pytest

from dht.auditing import check_audit, draw_sample
from kernel.errors import PeerFault
from lucid.v1 import chunk_pb2
from tests.scenarios.world import SeededRng
from tests.unit.dht.holder import Holder
from tests.unit.dht.owner import Owner, make_holders

ONE = b"1" * 16


async def spread(chunks: int = 4) -> Owner:
    owner = await Owner(await make_holders(5)).boot()
    await owner.record(ONE, chunks)
    await owner.until_complete(ONE)
    return owner


def ignore(_done: int, _total: int) -> None:
    pass


async def test_holders_that_hold_pass() -> None:
    owner = await spread()
    seen: list[tuple[int, int]] = []
    outcome = await owner.auditor.audit(ONE, 100, lambda done, total: seen.append((done, total)))
    assert (outcome.findings, len(outcome.holders), outcome.leaves) == ([], 3, 4 * 3 * 4)
    assert seen[-1] == (4, 4)
    assert all(row.audited_ns for row in owner.rows().values())
    await owner.kill()


async def test_a_percentage_is_of_chunks_and_at_least_one() -> None:
    owner = await spread(10)
    assert (await owner.auditor.audit(ONE, 1, ignore)).leaves == 1 * 3 * 4
    assert (await owner.auditor.audit(ONE, 25, ignore)).leaves == 3 * 3 * 4
    await owner.kill()


def find_blob(holder: Holder, chunk_id: bytes) -> str:
    return next(path for path in holder.files.paths() if path.endswith(chunk_id.hex()))


@pytest.mark.parametrize("harm", ["flipped", "lost"])
async def test_one_harmed_replica_is_caught_marked_and_replaced(harm: str) -> None:
    owner = await spread()
    chunk = owner.recordings.made[ONE][2]
    bad = owner.holders_of(ONE, 2)[1]
    holder = owner.holder(bad)
    if harm == "flipped":
        holder.files.flip(find_blob(holder, chunk.chunk_id), 8 * 9000)
    else:
        await holder.ports.blobs.remove([chunk.chunk_id])
    outcome = await owner.auditor.audit(ONE, 100, ignore)
    assert [(finding.index, finding.silent) for finding in outcome.findings] == [(2, False)]
    await owner.until_complete(ONE)
    assert bad not in owner.holders_of(ONE, 2)
    assert len(owner.holders_of(ONE, 2)) == 3
    assert bad in owner.holders_of(ONE, 1)
    assert (await owner.auditor.audit(ONE, 100, ignore)).findings == []
    await owner.kill()


async def test_silence_is_reported_and_marks_nothing() -> None:
    owner = await spread(1)
    before = owner.rows()
    owner.peer(owner.holders_of(ONE, 0)[0]).faults.unreachable = True
    outcome = await owner.auditor.audit(ONE, 100, ignore)
    assert [(finding.index, finding.silent) for finding in outcome.findings] == [(0, True)]
    assert len(owner.holders_of(ONE, 0)) == 3
    assert before.keys() == owner.rows().keys()
    await owner.kill()


Edit = Callable[[chunk_pb2.AuditChunkResponse], None]


def other_size(response: chunk_pb2.AuditChunkResponse) -> None:
    response.size_bytes += 1


def other_index(response: chunk_pb2.AuditChunkResponse) -> None:
    response.leaves[0].index += 1


def fewer(response: chunk_pb2.AuditChunkResponse) -> None:
    del response.leaves[-1]


def flipped(response: chunk_pb2.AuditChunkResponse) -> None:
    data = response.leaves[0].data
    response.leaves[0].data = bytes([data[0] ^ 1]) + data[1:]


def longer(response: chunk_pb2.AuditChunkResponse) -> None:
    response.leaves[0].data += b"x"


def short_path(response: chunk_pb2.AuditChunkResponse) -> None:
    del response.leaves[0].path[-1]


def long_path(response: chunk_pb2.AuditChunkResponse) -> None:
    response.leaves[0].path.append(bytes(32))


def odd_path(response: chunk_pb2.AuditChunkResponse) -> None:
    response.leaves[0].path[0] += b"x"


@pytest.mark.parametrize(
    "edit", [other_size, other_index, fewer, flipped, longer, short_path, long_path, odd_path]
)
async def test_an_answer_that_shows_nothing_is_the_peers_fault(edit: Edit) -> None:
    owner = await spread(1)
    chunk = owner.recordings.made[ONE][0]
    peer = owner.peer(owner.holders_of(ONE, 0)[0])
    request = chunk_pb2.AuditChunkRequest(chunk_id=chunk.chunk_id, leaves=[0, 2])
    response = await peer.audit_chunk(request)
    check_audit(chunk.chunk_id, chunk.size_bytes, [0, 2], response)
    edit(response)
    with pytest.raises(PeerFault):
        check_audit(chunk.chunk_id, chunk.size_bytes, [0, 2], response)
    await owner.kill()


def test_samples_are_different_numbers_and_each_has_its_chance() -> None:
    rng, hits = SeededRng(3), [0] * 10
    for _ in range(2000):
        sample = draw_sample(rng, 10, 3)
        assert len(set(sample)) == 3 and sample == sorted(sample)
        for number in sample:
            hits[number] += 1
    assert all(450 < count < 750 for count in hits)
    assert draw_sample(rng, 4, 4) == [0, 1, 2, 3]
    assert draw_sample(rng, 0, 0) == []
