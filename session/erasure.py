"""Deletion: what must go first, so that a kill between two steps never leaves a recording half readable.

    tombstone durable → index row gone → sealed secret gone → facts gone → live frames gone → blobs gone

From the second step on nobody can find the session, from the third on nobody can read it. What a start
finds unfinished it finishes. What remains: the tombstone; copies elsewhere; bytes that a disk keeps of
removed files.
"""

from google.protobuf.message import DecodeError

from kernel.errors import Conflict, InvalidRecord, Reason
from kernel.ports import Delete, Operation, Put
from kernel.sealing import SESSION_ID_BYTES
from lucid.v1 import session_pb2
from session import tables
from session.catalog import Catalog
from session.manifest import compute_manifest_hash
from session.ports import SessionPorts
from session.state import Step, step


def check_deletable(row: session_pb2.SessionRow) -> None:
    """Raises `Conflict` if the session is being recorded or under legal hold."""
    if row.held:
        raise Conflict("the session is under legal hold", hint="`lucid-node session release` ends the hold")
    step(row.state, Step.DELETE)


def is_expired(row: session_pb2.SessionRow, now_ns: int) -> bool:
    """True if a session has outlived its retention and may go."""
    until_s = row.opened.retain_until_s
    return 0 < until_s * 1_000_000_000 <= now_ns and not row.held


async def erase(ports: SessionPorts, catalog: Catalog, session_id: bytes) -> int:
    """Deletes a session.

    Returns:
        Bytes of blobs and journals that were freed.

    Raises:
        Conflict: it is being recorded, or under legal hold.
    """
    row = catalog.row(session_id)
    check_deletable(row)
    tombstone = session_pb2.Tombstone(
        session_id=session_id,
        deleted_ns=ports.clock.wall_ns(),
        root=row.root,
        chunk_count=row.chunk_count,
    )
    if row.HasField("closed"):
        tombstone.manifest_hash = compute_manifest_hash(row.closed.manifest.payload)
    await ports.journal.append(tables.TOMBSTONE_STREAM, [tombstone.SerializeToString()])
    await ports.journal.sync(tables.TOMBSTONE_STREAM)
    return await bury(ports, catalog, tombstone)


async def bury(ports: SessionPorts, catalog: Catalog, tombstone: session_pb2.Tombstone) -> int:
    """Does all that follows from a durable tombstone; may be repeated."""
    session_id = tombstone.session_id
    blob_ids = [
        session_pb2.ChunkEntry.FromString(value).chunk_id
        for _, value in ports.records.scan(tables.CHUNKS, prefix=session_id, damaged=[])
    ]
    streams = ports.journal.streams(tables.session_prefix(session_id))
    sizes = {blob_id: ports.blobs.size(blob_id) or 0 for blob_id in blob_ids}
    freed = sum(ports.journal.size(stream) for stream in streams)
    # Chunk rows stay until their blobs are gone, so that a start after a kill knows which ones to remove.
    row_gone: list[Operation] = [
        Put(tables.TOMBSTONES, session_id, tombstone.SerializeToString()),
        Delete(tables.SESSIONS, session_id),
    ]
    await ports.records.commit(row_gone)
    first = [tables.secret_stream(session_id), tables.facts_stream(session_id)]
    for stream in [*first, *(stream for stream in streams if stream not in first)]:
        await ports.journal.drop(stream)
    await ports.blobs.remove(blob_ids)
    # What is kept for others as well stays.
    freed += sum(size for blob_id, size in sizes.items() if ports.blobs.size(blob_id) is None)
    rest: list[Operation] = []
    for table in (tables.CHUNKS, tables.CHECKPOINTS):
        damaged: list[bytes] = []
        found = ports.records.scan(table, prefix=session_id, damaged=damaged)
        rest += [Delete(table, key) for key in (*(key for key, _ in found), *damaged)]
    await ports.records.commit(rest)
    ports.on_changed(session_id)
    return freed


async def finish_erasures(ports: SessionPorts, catalog: Catalog) -> list[str]:
    """Goes on where a killed process stopped deleting; returns what is damaged, in words."""
    contents = await ports.journal.read(tables.TOMBSTONE_STREAM)
    problems = [f"deletions: {what}" for what in contents.damaged]
    if contents.torn_bytes:
        await ports.journal.trim(tables.TOMBSTONE_STREAM)
    for number, payload in contents.records:
        try:
            tombstone = decode_tombstone(payload)
        except InvalidRecord as error:
            problems.append(f"deletion {number}: {error}")
            continue
        if _is_unfinished(ports, catalog, tombstone.session_id):
            await bury(ports, catalog, tombstone)
    return problems


def _is_unfinished(ports: SessionPorts, catalog: Catalog, session_id: bytes) -> bool:
    return (
        catalog.tombstone(session_id) is None
        or bool(ports.journal.streams(tables.session_prefix(session_id)))
        or bool(ports.records.scan(tables.CHUNKS, prefix=session_id, limit=1, damaged=[]))
        or bool(ports.records.scan(tables.CHECKPOINTS, prefix=session_id, limit=1, damaged=[]))
    )


def decode_tombstone(payload: bytes) -> session_pb2.Tombstone:
    """Reads one record of the tombstone journal.

    Raises:
        InvalidRecord: it is none.
    """
    try:
        tombstone = session_pb2.Tombstone.FromString(payload)
    except DecodeError as error:
        raise InvalidRecord(Reason.MALFORMED, "a tombstone cannot be decoded") from error
    if len(tombstone.session_id) != SESSION_ID_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "a tombstone names no session")
    return tombstone
