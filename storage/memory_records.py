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
        # Keys in order, made when they are first wanted after a change.
        self._sorted: dict[str, list[bytes]] = {}
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
        keys = self._sorted.get(table)
        if keys is None:
            keys = self._sorted[table] = sorted(rows)
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
        changed: dict[tuple[str, bytes], bytes | None] = {}
        for operation in operations:
            self._stage(changed, operation)
        growth = sum(
            _measure(key, value) - _measure(key, self._tables[table].get(key))
            for (table, key), value in changed.items()
        )
        verdict = self._faults.decide("commit", "records", max(growth, 0))
        if verdict.error is None or (verdict.happens and isinstance(verdict.error, Died)):
            self._apply(changed)
            self._size_bytes += growth
            self._faults.used_bytes += growth
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

    def _stage(self, changed: dict[tuple[str, bytes], bytes | None], operation: Operation) -> None:
        table, key = operation.table, operation.key
        match operation:
            case Put(value=value):
                changed[table, key] = record_format.encode_value(self._keys[table], key, value)
            case Delete():
                changed[table, key] = None
            case Expect(value=expected):
                stored = changed.get((table, key), self._tables[table].get(key))
                record_format.check_expected(table, self._keys[table], key, stored, expected)

    def _apply(self, changed: dict[tuple[str, bytes], bytes | None]) -> None:
        for (table, key), value in changed.items():
            rows = self._tables[table]
            if value is None:
                if rows.pop(key, None) is not None:
                    self._sorted.pop(table, None)
            else:
                if key not in rows:
                    self._sorted.pop(table, None)
                rows[key] = value


def _measure(key: bytes, stored: bytes | None) -> int:
    return 0 if stored is None else len(key) + len(stored)
