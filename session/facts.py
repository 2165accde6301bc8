"""What happened to a session, and the index row that follows from it.

A session's *facts journal* is the truth: `apply_fact` is the one place that turns facts into the index,
when they are written, when a killed process is recovered, and when the whole index is remade. Chunk
indexes, counts and states are checked here; signatures are checked by who verifies a recording.
"""

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from kernel.errors import InvalidRecord, Reason
from kernel.merkle import EMPTY_ROOT
from kernel.ports import Operation, Put
from lucid.v1 import identity_pb2, session_pb2
from session import tables
from session.encryptor import ChunkFlag
from session.state import Step, step

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

M = TypeVar("M", bound=Message)

MAX_REMEMBERED = 256
"""Interruptions, resumptions and incidents each that a row keeps; the journal keeps all of them."""


def decode_fact(payload: bytes) -> session_pb2.Fact:
    """Reads one record of a facts journal.

    Raises:
        InvalidRecord: it is none.
    """
    try:
        fact = session_pb2.Fact.FromString(payload)
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, "a fact cannot be decoded") from error
    if fact.WhichOneof("kind") is None:
        raise InvalidRecord(
            Reason.WRONG_VERSION, "a fact of an unknown kind; was it written by a newer version?"
        )
    return fact


def apply_fact(
    session_id: bytes, row: session_pb2.SessionRow | None, fact: session_pb2.Fact
) -> tuple[session_pb2.SessionRow, list[Operation]]:
    """The row after `fact`, and the other index operations that belong to it.

    Args:
        session_id: the session.
        row: its row so far, None before the first fact. It is not changed.
        fact: what happened.

    Raises:
        InvalidRecord: the fact does not follow from the ones before it.
        Conflict: the state of the session does not allow it.
    """
    new = session_pb2.SessionRow()
    if row is None:
        if fact.WhichOneof("kind") != "opened" or fact.opened.session_id != session_id:
            raise InvalidRecord(Reason.NOT_CONSISTENT, "a session does not begin with its opening")
        new.state = session_pb2.STATE_RECORDING
        new.opened.CopyFrom(fact.opened)
        new.opened.ClearField("secrets")
        new.root = EMPTY_ROOT
        new.last_change_ns = fact.opened.started_ns
        new.fact_count = 1
        return new, []
    new.CopyFrom(row)
    new.fact_count += 1
    kind = fact.WhichOneof("kind")
    if row.state == session_pb2.STATE_COMPLETE and kind in ("sealed", "checkpoint"):
        raise InvalidRecord(Reason.NOT_CONSISTENT, "a closed session does not grow")
    match kind:
        case "sealed":
            return new, _process_sealed(session_id, new, fact.sealed)
        case "checkpoint":
            return new, _process_checkpoint(session_id, new, fact.checkpoint)
        case "interrupted":
            new.state = step(new.state, Step.INTERRUPT)
            new.reason = fact.interrupted.reason
            new.last_change_ns = fact.interrupted.time_ns
            _remember(new.interruptions, fact.interrupted)
        case "resumed":
            new.state = step(new.state, Step.RESUME)
            new.reason = ""
            if fact.resumed.resume_token_hash:
                new.opened.resume_token_hash = fact.resumed.resume_token_hash
            new.pending_gap |= fact.resumed.gap
            new.pending_lost_bytes += fact.resumed.lost_bytes
            new.lost_bytes += fact.resumed.lost_bytes
            new.last_change_ns = fact.resumed.time_ns
            _remember(new.resumptions, fact.resumed)
        case "closed":
            new.state = step(new.state, Step.CLOSE)
            new.reason = ""
            new.closed.CopyFrom(fact.closed)
        case "held":
            new.held = fact.held.held
        case "incident":
            _process_incident(new, fact.incident)
        case "adopted":
            _process_adopted(new, fact.adopted)
        case _:
            raise InvalidRecord(Reason.NOT_CONSISTENT, "a session is opened twice")
    return new, []


def _process_sealed(
    session_id: bytes, row: session_pb2.SessionRow, sealed: session_pb2.Sealed
) -> list[Operation]:
    operations: list[Operation] = []
    for entry in sealed.chunks:
        if entry.index != row.chunk_count:
            raise InvalidRecord(
                Reason.NOT_CONSISTENT, f"chunk {entry.index} was sealed where {row.chunk_count} was due"
            )
        row.chunk_count += 1
        row.plaintext_bytes += entry.plaintext_bytes
        row.stored_bytes += entry.stored_bytes
        if entry.flags & ChunkFlag.GAP:
            row.gaps.append(entry.index)
            row.pending_gap, row.pending_lost_bytes = False, 0
        operations.append(
            Put(tables.CHUNKS, tables.chunk_key(session_id, entry.index), entry.SerializeToString())
        )
    if sealed.HasField("incident"):
        _process_incident(row, sealed.incident)
    return operations + _process_checkpoint(session_id, row, sealed.checkpoint)


def _process_incident(row: session_pb2.SessionRow, incident: session_pb2.Incident) -> None:
    row.pending_gap |= incident.gap
    row.witnessed_count = max(row.witnessed_count, incident.witnessed)
    _remember(row.incidents, incident)


def _process_adopted(row: session_pb2.SessionRow, adopted: session_pb2.Adopted) -> None:
    if row.state == session_pb2.STATE_RECORDING:
        raise InvalidRecord(Reason.NOT_CONSISTENT, "a session is adopted while it is being recorded")
    row.adopted.CopyFrom(adopted)
    row.adopted.ClearField("secrets")
    # Live frames are not copied: what was signed of them is lost.
    if row.checkpoint_count and session_pb2.Checkpoint.FromString(row.last_checkpoint.payload).tail_bytes:
        row.pending_gap = True


def _process_checkpoint(
    session_id: bytes, row: session_pb2.SessionRow, signed: identity_pb2.Signed
) -> list[Operation]:
    try:
        checkpoint = session_pb2.Checkpoint.FromString(signed.payload)
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, "a checkpoint cannot be decoded") from error
    if checkpoint.chunk_count != row.chunk_count or checkpoint.sequence != row.checkpoint_count:
        raise InvalidRecord(
            Reason.NOT_CONSISTENT, f"checkpoint {checkpoint.sequence} does not fit its session"
        )
    row.checkpoint_count += 1
    row.root = checkpoint.root
    row.last_checkpoint.CopyFrom(signed)
    row.last_change_ns = checkpoint.time_ns
    key = tables.checkpoint_key(session_id, checkpoint.sequence)
    return [Put(tables.CHECKPOINTS, key, signed.SerializeToString())]


def _remember(past: "RepeatedCompositeFieldContainer[M]", event: M) -> None:
    past.append(event)
    if len(past) > MAX_REMEMBERED:
        del past[0]
