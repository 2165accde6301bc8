"""How records are checked, whatever keeps them (docs/spec/07-store.md).

    stored   = checksum (16 bytes) ‖ value
    checksum = keyed BLAKE3-16(table key, length of key as u16 ‖ key ‖ value)
    table key = BLAKE3("lucid record" ‖ name of the table)

So a value that rotted, was cut or extended, or stands under another key or in another table, is not taken
for one. Keys have 1…255 bytes, values at most 16 MiB.
"""

from collections.abc import Collection, Sequence

from blake3 import blake3

from kernel.errors import Conflict, StoreDamaged, UsageError
from kernel.ports import Operation, Put

CHECKSUM_BYTES = 16
MAX_KEY_BYTES = 255
MAX_VALUE_BYTES = 16 << 20
REBUILD_HINT = "run `lucid-node doctor --rebuild` to remake the index from the journals"


def compute_table_key(table: str) -> bytes:
    """The checksum key of a table."""
    return blake3(b"lucid record" + table.encode()).digest()


def encode_value(table_key: bytes, key: bytes, value: bytes) -> bytes:
    """What is stored under `key`."""
    return _compute_checksum(table_key, key, value) + value


def decode_value(table_key: bytes, key: bytes, stored: bytes) -> bytes | None:
    """The value, or None if the checksum does not hold."""
    checksum, value = stored[:CHECKSUM_BYTES], stored[CHECKSUM_BYTES:]
    return value if checksum == _compute_checksum(table_key, key, value) else None


def open_value(table: str, table_key: bytes, key: bytes, stored: bytes | None) -> bytes | None:
    """The value of a record that is to be read, None if there is no such record.

    Raises:
        StoreDamaged: the checksum does not hold.
    """
    if stored is None:
        return None
    value = decode_value(table_key, key, stored)
    if value is None:
        raise get_damage(table, key)
    return value


def check_expected(
    table: str, table_key: bytes, key: bytes, stored: bytes | None, expected: bytes | None
) -> None:
    """Compares what is stored with what an `Expect` says.

    Raises:
        Conflict: they differ.
        StoreDamaged: the checksum does not hold.
    """
    if open_value(table, table_key, key, stored) != expected:
        raise Conflict(f"record {key.hex()} of table {table} was changed by somebody else meanwhile")


def check_key(key: bytes) -> None:
    """Refuses keys that are empty or too long.

    Raises:
        UsageError: see above.
    """
    if not 1 <= len(key) <= MAX_KEY_BYTES:
        raise UsageError(f"a key has 1 to {MAX_KEY_BYTES} bytes, not {len(key)}")


def check_operations(operations: Sequence[Operation], tables: Collection[str]) -> None:
    """Refuses unknown tables, and keys and values of impossible length, before anything is applied.

    Raises:
        UsageError: see above.
    """
    for operation in operations:
        if operation.table not in tables:
            raise get_unknown_table(operation.table)
        check_key(operation.key)
        if isinstance(operation, Put) and len(operation.value) > MAX_VALUE_BYTES:
            raise UsageError(f"a value has at most {MAX_VALUE_BYTES} bytes, not {len(operation.value)}")


def compute_range(prefix: bytes, start: bytes, *, reverse: bool) -> tuple[bytes, bytes | None]:
    """The keys that a scan walks over, in whichever direction: from the first one to below the second.

    None stands for no upper end. See `Records.scan` for the arguments.

    Raises:
        UsageError: prefix or start is longer than a key.
    """
    if max(len(prefix), len(start)) > MAX_KEY_BYTES:
        raise UsageError(f"a key has at most {MAX_KEY_BYTES} bytes")
    beyond = _compute_successor(prefix)
    if not reverse:
        return max(prefix, start), beyond
    if start and (beyond is None or start < beyond):
        beyond = start + b"\0"
    return prefix, beyond


def get_damage(table: str, key: bytes) -> StoreDamaged:
    """The error that names a damaged record."""
    return StoreDamaged(
        f"record {key.hex()} of table {table} is damaged",
        hint=REBUILD_HINT,
    )


def get_unknown_table(table: str) -> UsageError:
    """The error for a table that the store was not opened with."""
    return UsageError(f"there is no table {table!r}")


def _compute_checksum(table_key: bytes, key: bytes, value: bytes) -> bytes:
    return blake3(len(key).to_bytes(2, "big") + key, key=table_key).update(value).digest(CHECKSUM_BYTES)


def _compute_successor(prefix: bytes) -> bytes | None:
    """The least key above all that begin with `prefix`; None if there is none."""
    shortened = prefix.rstrip(b"\xff")
    return shortened[:-1] + bytes([shortened[-1] + 1]) if shortened else None
