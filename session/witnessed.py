"""What witnesses say of a session before it goes on. Rules: docs/spec/13-witness.md, "Old copies".

An old copy of a store, put back, must not sign on: its next checkpoint would contradict what the same device
signed before. So witnesses are asked how far they have seen the session. If it was further than this store
holds, that is remembered as an incident, and the session neither resumes nor is finalized here.
"""

from kernel.errors import Conflict, Unavailable
from lucid.v1 import session_pb2
from session.ledger import Ledger
from session.ports import SessionPorts


def is_behind(row: session_pb2.SessionRow) -> bool:
    """Is a witness known to have seen more checkpoints than this store holds?"""
    return row.witnessed_count > row.checkpoint_count


async def check_not_behind(ports: SessionPorts, ledger: Ledger) -> bool:
    """Asks the witnesses whether the session may go on. If none answers it may, and an incident tells so.

    Args:
        ports: the world.
        ledger: of the session, caught up.

    Returns:
        True if a witness, or that there are none, has answered it.

    Raises:
        Conflict: this store is an old copy.
        StoreError: what was learnt cannot be kept.
    """
    row = ledger.known_row
    incident = session_pb2.Incident(time_ns=ports.clock.wall_ns())
    if not is_behind(row):
        device = row.opened.policy.public_key
        try:
            ahead = await ports.witnesses.find_ahead(ledger.session_id, device, row.checkpoint_count)
        except Unavailable as error:
            incident.what = f"it went on without its witnesses: {error}"
            await ledger.record(session_pb2.Fact(incident=incident))
            return False
        if ahead is None:
            return True
        seen = session_pb2.Checkpoint.FromString(ahead.payload)
        incident.what = (
            f"a witness has seen {seen.sequence + 1} checkpoints and {seen.chunk_count} chunks of it,"
            f" this store has {row.checkpoint_count} and {row.chunk_count}: it is an old copy"
        )
        incident.witnessed = seen.sequence + 1
        await ledger.record(session_pb2.Fact(incident=incident))
    row = ledger.known_row
    raise Conflict(
        f"witnesses have seen {row.witnessed_count} checkpoints of the session, this store has"
        f" {row.checkpoint_count}: it is an old copy, and signs nothing more",
        hint="`lucid-node session recover` brings it up from copies that peers keep, if those reach so far,"
        " and closes it. What is here can be read in any case.",
    )
