"""Replica rows: what an owner's node knows of the copies of its chunks. Layout: `dht.tables`.

A replica *counts* while its holder has signed a receipt for its lease, the lease has not ended, and nothing
is known to be wrong with it. It is *due* when half of its lease is over.
"""

from collections.abc import Callable, Iterator

from dht import tables
from kernel.errors import Conflict
from kernel.ports import Expect, Put, Records
from lucid.v1 import chunk_pb2

ROWS_AT_ONCE = 1024
MAX_TROUBLE = 200

OnTrouble = Callable[[bytes, int], None]
"""Is told session and index of a chunk that lost a replica."""
_INDEX = slice(16, 20)
_REPLICA = 20


def scan_replicas(records: Records, session_id: bytes, index: int) -> dict[int, chunk_pb2.Replica]:
    """Rows of one chunk by number of the replica; damaged ones are left out."""
    prefix = tables.replica_key(session_id, index, 0)[:_REPLICA]
    found = records.scan(tables.REPLICAS, prefix=prefix, damaged=[])
    return {key[_REPLICA]: chunk_pb2.Replica.FromString(value) for key, value in found}


def iterate_replicas(
    records: Records, session_id: bytes = b"", start: bytes = b""
) -> Iterator[list[tuple[bytes, chunk_pb2.Replica]]]:
    """All rows, or those of one session, from key `start` on, some at a time; damaged ones are left out."""
    while True:
        page = records.scan(tables.REPLICAS, prefix=session_id, start=start, limit=ROWS_AT_ONCE, damaged=[])
        if page:
            yield [(key, chunk_pb2.Replica.FromString(value)) for key, value in page]
        if len(page) < ROWS_AT_ONCE:
            return
        start = page[-1][0] + b"\x00"


def parse_replica_key(key: bytes) -> tuple[bytes, int, int]:
    """Session ID, chunk index and number of the replica."""
    return key[:16], int.from_bytes(key[_INDEX], "big"), key[_REPLICA]


def get_lease(row: chunk_pb2.Replica) -> chunk_pb2.Lease:
    """The lease in a row of this node's own; empty if there is none."""
    return chunk_pb2.Lease.FromString(row.lease.payload)


def get_stored_ns(row: chunk_pb2.Replica) -> int:
    """Unix nanoseconds, by the holder's clock, of its receipt; 0 if there is none."""
    return chunk_pb2.Receipt.FromString(row.receipt.payload).stored_ns


def is_counting(row: chunk_pb2.Replica, now_s: float) -> bool:
    """Is the chunk known to be held by this replica's holder?"""
    return row.HasField("receipt") and not row.trouble and get_lease(row).until_s > now_s


def is_due(row: chunk_pb2.Replica, now_s: float, lease_s: float) -> bool:
    """Is it time to renew the lease?"""
    return get_due_s(row, lease_s) <= now_s


def get_due_s(row: chunk_pb2.Replica, lease_s: float) -> float:
    """Unix seconds from which on the lease is to be renewed."""
    return get_lease(row).until_s - lease_s / 2


async def change_replica(
    records: Records, key: bytes, before: chunk_pb2.Replica, after: chunk_pb2.Replica
) -> bool:
    """Writes a row anew, unless it was renewed or replaced meanwhile; True if it was written.

    Raises:
        StoreError: it could not be written.
    """
    expected = Expect(tables.REPLICAS, key, before.SerializeToString())
    try:
        await records.commit([expected, Put(tables.REPLICAS, key, after.SerializeToString())])
    except Conflict:
        return False
    return True


async def mark_broken(records: Records, session_id: bytes, index: int, holder: bytes, what: str) -> bool:
    """Notes that a holder does not have a chunk that it promised to keep; True if its replica counted.

    Raises:
        StoreError: it could not be noted.
    """
    changed = False
    for replica, row in scan_replicas(records, session_id, index).items():
        if row.holder == holder and row.HasField("receipt") and not row.trouble:
            broken = chunk_pb2.Replica.FromString(row.SerializeToString())
            broken.trouble = what[:MAX_TROUBLE]
            key = tables.replica_key(session_id, index, replica)
            changed |= await change_replica(records, key, row, broken)
    return changed
