"""From facts to the index row, and what never becomes one."""

import pytest

from kernel.errors import Conflict, InvalidRecord
from kernel.ports import Put
from lucid.v1 import session_pb2
from lucid.v1.identity_pb2 import Signed
from session import tables
from session.encryptor import ChunkFlag
from session.facts import MAX_REMEMBERED, apply_fact, decode_fact
from session.state import TRANSITIONS, Step, step

SESSION = bytes(range(16))
Fact = session_pb2.Fact


def checkpoint(count: int, sequence: int) -> Signed:
    payload = session_pb2.Checkpoint(chunk_count=count, sequence=sequence, root=b"r" * 32, time_ns=7)
    return Signed(payload=payload.SerializeToString())


def opened() -> Fact:
    return Fact(opened=session_pb2.Opened(session_id=SESSION, started_ns=5))


def sealed(first: int, count: int, sequence: int, flags: int = 0) -> Fact:
    chunks = [
        session_pb2.ChunkEntry(index=i, plaintext_bytes=10, stored_bytes=20, flags=flags)
        for i in range(first, first + count)
    ]
    signed = checkpoint(first + count, sequence)
    return Fact(sealed=session_pb2.Sealed(chunks=chunks, checkpoint=signed))


def replay(*facts: Fact) -> session_pb2.SessionRow:
    row = None
    for fact in facts:
        row, _ = apply_fact(SESSION, row, fact)
    assert row is not None
    return row


def test_a_session_from_start_to_end() -> None:
    row = replay(opened(), sealed(0, 2, 0), Fact(checkpoint=checkpoint(2, 1)), sealed(2, 1, 2))
    assert (row.chunk_count, row.plaintext_bytes, row.stored_bytes) == (3, 30, 60)
    assert (row.checkpoint_count, row.fact_count, row.last_change_ns) == (3, 4, 7)
    assert replay(opened(), Fact(closed=session_pb2.Closed())).state == session_pb2.STATE_COMPLETE


def test_rows_of_chunks_and_checkpoints_are_indexed() -> None:
    _, operations = apply_fact(SESSION, replay(opened()), sealed(0, 2, 0))
    assert [(op.table, op.key) for op in operations if isinstance(op, Put)] == [
        (tables.CHUNKS, tables.chunk_key(SESSION, 0)),
        (tables.CHUNKS, tables.chunk_key(SESSION, 1)),
        (tables.CHECKPOINTS, tables.checkpoint_key(SESSION, 0)),
    ]


def test_the_given_row_is_not_changed() -> None:
    row = replay(opened())
    before = row.SerializeToString()
    apply_fact(SESSION, row, sealed(0, 2, 0))
    assert row.SerializeToString() == before


def test_a_gap_is_pending_until_a_chunk_carries_it() -> None:
    resumed = Fact(resumed=session_pb2.Resumed(lost_bytes=9, gap=True))
    row = replay(opened(), Fact(interrupted=session_pb2.Interrupted(reason="r")), resumed)
    assert (row.pending_gap, row.pending_lost_bytes, row.lost_bytes, row.reason) == (True, 9, 9, "")
    row, _ = apply_fact(SESSION, row, sealed(0, 1, 0))
    assert row.pending_gap
    row, _ = apply_fact(SESSION, row, sealed(1, 1, 1, ChunkFlag.GAP))
    assert (row.pending_gap, row.pending_lost_bytes, row.lost_bytes, list(row.gaps)) == (False, 0, 9, [1])


@pytest.mark.parametrize(
    "fact",
    [
        sealed(1, 1, 0),
        sealed(0, 1, 1),
        Fact(checkpoint=checkpoint(1, 0)),
        opened(),
        Fact(checkpoint=Signed(payload=b"\xff")),
    ],
)
def test_what_does_not_follow_is_refused(fact: Fact) -> None:
    with pytest.raises(InvalidRecord):
        apply_fact(SESSION, replay(opened()), fact)


def test_a_session_begins_with_its_opening() -> None:
    with pytest.raises(InvalidRecord):
        apply_fact(SESSION, None, sealed(0, 1, 0))
    with pytest.raises(InvalidRecord):
        apply_fact(bytes(16), None, opened())


def test_every_step_that_is_not_in_the_table_is_a_conflict() -> None:
    for state in session_pb2.State.values():
        for what in Step:
            if (state, what) in TRANSITIONS:
                assert step(state, what) == TRANSITIONS[state, what]
            else:
                with pytest.raises(Conflict):
                    step(state, what)


def test_a_row_remembers_the_latest_of_many_interruptions() -> None:
    row = replay(opened())
    for time_ns in range(MAX_REMEMBERED + 3):
        row, _ = apply_fact(SESSION, row, Fact(interrupted=session_pb2.Interrupted(time_ns=time_ns)))
    assert len(row.interruptions) == MAX_REMEMBERED
    assert row.interruptions[-1].time_ns == MAX_REMEMBERED + 2


@pytest.mark.parametrize("payload", [b"\xff\xff", b"", b"\xfa\x07\x00"])
def test_bytes_that_are_no_fact_are_refused(payload: bytes) -> None:
    with pytest.raises(InvalidRecord):
        decode_fact(payload)


def test_names_of_streams() -> None:
    assert tables.parse_session_stream(tables.facts_stream(SESSION)) == SESSION
    assert tables.parse_tail_stream(SESSION, tables.tail_stream(SESSION, 7)) == 7
    for name in ("tombstones", tables.tail_stream(SESSION, 7), "00/00/facts", "zz/zz/facts", "/facts"):
        assert tables.parse_session_stream(name) is None
    for name in (tables.facts_stream(SESSION), tables.tail_stream(bytes(16), 7), "tail-x"):
        assert tables.parse_tail_stream(SESSION, name) is None
