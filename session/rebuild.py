"""Remaking the whole index from the journals."""

from collections.abc import Callable
from dataclasses import dataclass

from kernel.errors import InvalidRecord, StoreError
from kernel.ports import Put
from session import tables
from session.erasure import decode_tombstone
from session.ports import SessionPorts
from session.recovery import rebuild_session


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
    return Rebuilt(len(session_ids), len(buried), problems)
