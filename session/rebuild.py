"""Remaking the whole index from the journals, and finding out beforehand what that would lose."""

from collections.abc import Callable
from dataclasses import dataclass

from kernel.errors import InvalidRecord, StoreError
from kernel.ports import Put
from lucid.v1 import session_pb2
from session import tables
from session.erasure import decode_tombstone
from session.ports import SessionPorts
from session.recovery import rebuild_session, replay_facts


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of a rebuild.

    Attributes:
        sessions: how many were remade.
        tombstones: how many deletions are remembered.
        problems: what is damaged, one line each.
    """

    sessions: int
    tombstones: int
    problems: list[str]


async def rebuild_index(ports: SessionPorts, on_progress: Callable[[int, int], None]) -> Rebuilt:
    """Fills an empty index from the journals.

    Args:
        ports: the store; its records are empty, or are to be brought in line.
        on_progress: called with sessions done and in all.
    """
    problems: list[str] = []
    contents = await ports.journal.read(tables.TOMBSTONE_STREAM)
    problems += [f"deletions: {what}" for what in contents.damaged]
    buried = {}
    for number, payload in contents.records:
        try:
            buried[decode_tombstone(payload).session_id] = payload
        except InvalidRecord as error:
            problems.append(f"deletion {number}: {error}")
    await ports.records.commit([Put(tables.TOMBSTONES, key, payload) for key, payload in buried.items()])
    streams = ports.journal.streams()
    found_ids = {session_id: None for name in streams if (session_id := tables.parse_session_stream(name))}
    session_ids = [session_id for session_id in found_ids if session_id not in buried]
    for done, session_id in enumerate(session_ids):
        on_progress(done, len(session_ids))
        try:
            found = await rebuild_session(ports, session_id)
        except StoreError as error:
            found = [str(error)]
        problems += [f"session {session_id.hex()}: {what}" for what in found]
    on_progress(len(session_ids), len(session_ids))
    remade = sum(ports.records.get(tables.SESSIONS, each) is not None for each in session_ids)
    return Rebuilt(remade, len(buried), problems)


async def find_lost_facts(ports: SessionPorts) -> list[str]:
    """What only the index knows, although the journals should know it too; one line for each session.

    The recordings can be read all the same; but the index is now the only copy, and a rebuild would lose it.

    Args:
        ports: the store; nothing is written.
    """
    lost = []
    for session_id, value in ports.records.scan(tables.SESSIONS, damaged=[]):
        try:
            facts = await ports.journal.read(tables.facts_stream(session_id))
            secret = await ports.journal.read(tables.secret_stream(session_id))
        except StoreError as error:
            lost.append(f"session {session_id.hex()}: {error}")
            continue
        row, _, _ = replay_facts(session_id, facts.records)
        if not _covers(row, session_pb2.SessionRow.FromString(value)):
            lost.append(f"session {session_id.hex()}: the journal of its facts is not whole")
        if not secret.records:
            lost.append(f"session {session_id.hex()}: the file of its sealed secret is gone or damaged")
    return lost


def _covers(replayed: session_pb2.SessionRow | None, known: session_pb2.SessionRow) -> bool:
    """Do the facts of a session say at least what the index knows? A kill may leave them ahead."""
    return (
        replayed is not None
        and replayed.chunk_count >= known.chunk_count
        and replayed.checkpoint_count >= known.checkpoint_count
        and replayed.HasField("closed") >= known.HasField("closed")
    )
