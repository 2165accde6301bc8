"""Bringing an old copy of an own session up from a copy that peers kept.

Rules: docs/spec/13-witness.md, "Old copies".

    facts that are missing here → checked together with those that are here → appended, one by one, durable

What is here is never changed: a copy that does not continue it is refused. Each fact is durable before the
next, and those that are here are left out, so a kill at any moment costs nothing but another call.
"""

from kernel.errors import StoreDamaged
from lucid.v1 import session_pb2
from session import tables
from session.access import RecorderKeys
from session.adoption import Copy, check_copy
from session.facts import decode_fact
from session.ledger import Ledger
from session.ports import SessionPorts

_REASON = "this store was put back from an old copy, and brought up from what peers keep"


async def catch_up(ports: SessionPorts, keys: RecorderKeys, ledger: Ledger, copy: Copy) -> bool:
    """Appends what a copy of a session has beyond this store. Whoever calls holds the session's lock.

    Args:
        ports: the world.
        keys: of this device.
        ledger: of the session.
        copy: its facts, as this device wrote them before its store was put back.

    Returns:
        False if nothing was done: the copy has nothing signed beyond what is here, or the session is
        complete, adopted, or not here.

    Raises:
        InvalidRecord: the copy does not continue what is here.
        StoreDamaged: what is here is damaged.
        StoreError: a part may be here; the next call goes on.
    """
    damaged = await ledger.catch_up()
    row = ledger.row
    if row is None or row.HasField("adopted") or row.state == session_pb2.STATE_COMPLETE:
        return False
    contents = await ports.journal.read(tables.facts_stream(ledger.session_id))
    if damaged or contents.damaged:
        raise StoreDamaged("the facts of the session are damaged here: a copy cannot continue them")
    held = [payload for _, payload in contents.records]
    known = dict.fromkeys(held)
    missing = [payload for payload in copy.payloads if payload not in known]
    if not any(_is_signed(payload) for payload in missing):
        return False
    whole = Copy(ledger.session_id, [*held, *missing], session_pb2.Adopted())
    await ports.offload.run(check_copy, keys, whole)
    for payload in missing:
        await ledger.record(decode_fact(payload))
    if ledger.known_row.state == session_pb2.STATE_RECORDING:
        interrupted = session_pb2.Interrupted(
            time_ns=ports.clock.wall_ns(), reason=_REASON, last_seen_ns=ledger.known_row.last_change_ns
        )
        await ledger.record(session_pb2.Fact(interrupted=interrupted))
    return True


def _is_signed(payload: bytes) -> bool:
    return decode_fact(payload).WhichOneof("kind") in ("sealed", "checkpoint", "closed")
