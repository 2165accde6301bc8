"""Records of a simulated disk: in memory, with the faults of real ones.

The object is the disk: it outlives the simulated process, and the next process is given the same one. A
commit is one operation of the shared `Faults`: it is applied as a whole, and durable at once. If the
process dies in it, it was applied or not; if it fails or the disk is full, it was not.
"""

from bisect import bisect_left
from collections.abc import Sequence

from kernel.ports import Delete, Expect, Operation, Put
from storage import record_format
from storage.faults import Died, Faults


class MemoryRecords:
    """`Records` in memory."""

    def __init__(self, tables: Sequence[str], faults: Faults) -> None:
        self._tables: dict[str, dict[bytes, bytes]] = {name: {} for name in tables}
        self._keys = {name: record_format.compute_table_key(name) for name in tables}
        self._faults = faults
        self._size_bytes = 0

    def get(self, table: str, key: bytes) -> bytes | None:
        """See `Records.get`."""
        record_format.check_key(key)
        stored = self._get_table(table).get(key)
        return record_format.open_value(table, self._keys[table], key, stored)

    def scan(
        self,
        table: str,
        *,
        prefix: bytes = b"",
        start: bytes = b"",
        limit: int | None = None,
        reverse: bool = False,
        damaged: list[bytes] | None = None,
    ) -> list[tuple[bytes, bytes]]:
        """See `Records.scan`."""
        rows = self._get_table(table)
        low, high = record_format.compute_range(prefix, start, reverse=reverse)
        keys = sorted(rows)
        keys = keys[bisect_left(keys, low) : len(keys) if high is None else bisect_left(keys, high)]
        found: list[tuple[bytes, bytes]] = []
        for key in reversed(keys) if reverse else keys:
            if limit is not None and len(found) >= limit:
                break
            value = record_format.decode_value(self._keys[table], key, rows[key])
            if value is not None:
                found.append((key, value))
            elif damaged is not None:
                damaged.append(key)
            else:
                raise record_format.get_damage(table, key)
        return found

    async def commit(self, operations: Sequence[Operation]) -> None:
        """See `Records.commit`."""
        record_format.check_operations(operations, self._keys)
        changed = {operation.table: dict(self._tables[operation.table]) for operation in operations}
        for operation in operations:
            self._apply(changed, operation)
        growth = _measure(changed) - _measure({name: self._tables[name] for name in changed})
        verdict = self._faults.decide("commit", "records", max(growth, 0))
        if verdict.error is None or (verdict.happens and isinstance(verdict.error, Died)):
            self._tables |= changed
            self._faults.used_bytes += growth
            self._size_bytes += growth
        if verdict.error:
            raise verdict.error

    def size_bytes(self) -> int:
        """See `Records.size_bytes`."""
        return self._size_bytes

    def close(self) -> None:
        """See `Records.close`. The next process is given this object."""

    def flip(self, table: str, key: bytes, bit: int) -> None:
        """Rots one bit of what is stored under `key`, checksum included."""
        stored = bytearray(self._tables[table][key])
        stored[bit // 8] ^= 1 << bit % 8
        self._tables[table][key] = bytes(stored)

    def _get_table(self, table: str) -> dict[bytes, bytes]:
        rows = self._tables.get(table)
        if rows is None:
            raise record_format.get_unknown_table(table)
        return rows

    def _apply(self, tables: dict[str, dict[bytes, bytes]], operation: Operation) -> None:
        rows, table_key, key = tables[operation.table], self._keys[operation.table], operation.key
        match operation:
            case Put(value=value):
                rows[key] = record_format.encode_value(table_key, key, value)
            case Delete():
                rows.pop(key, None)
            case Expect(value=expected):
                record_format.check_expected(operation.table, table_key, key, rows.get(key), expected)


def _measure(tables: dict[str, dict[bytes, bytes]]) -> int:
    return sum(len(key) + len(value) for rows in tables.values() for key, value in rows.items())
