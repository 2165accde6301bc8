"""Records in LMDB, one named database per table.

Rules:
- LMDB has no checksums of its own: every value carries one (`record_format`).
- A commit is one LMDB transaction, synced before it returns. All commits run one after the other in one
  thread of this adapter; reads are short transactions in the caller's thread and wait for none of them.
- When the memory map is full it grows, and the batch is applied again from the start. Growing needs a
  moment without transactions: a lock keeps readers out meanwhile.
- A full disk is `StoreFull`, and nothing was applied. Pages that are not what they should be are
  `StoreDamaged`.
- LMDB may take the whole process down on a damaged file: a file is only to be opened here after
  `index_check` has found it sound. Only one process may use it (the caller holds a lock on the home).
- A process that died may have left a commit that is seen but not durable: opening makes it durable.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import lmdb

from kernel.errors import StoreDamaged, StoreError, StoreFull
from kernel.ports import Delete, Expect, Operation, Put
from storage import record_format

DATA_FILE = "data.mdb"
LOCK_FILE = "lock.mdb"

_INITIAL_MAP_BYTES = 16 << 20
_MAX_MAP_BYTES = 1 << 40
_SPARE_BYTES = 1 << 20
_DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LmdbRecords:
    """`Records` in an LMDB environment."""

    def __init__(self, directory: Path, tables: Sequence[str]) -> None:
        """Opens the environment, which is made if it is missing, durably.

        Args:
            directory: where its two files are.
            tables: names of all tables.

        Raises:
            StoreFull: no space for a new environment.
            StoreDamaged: LMDB refuses the file.
            StoreError: any other failure of the disk.
        """
        self._directory = directory
        self._keys = {name: record_format.compute_table_key(name) for name in tables}
        # Held by readers for the length of a read, and while the map grows.
        self._map_lock = threading.Lock()
        with _failures("open"), ExitStack() as undo:
            directory.mkdir(mode=0o700, exist_ok=True)
            self._env = lmdb.open(
                str(directory),
                map_size=_INITIAL_MAP_BYTES,
                max_dbs=len(tables),
                mode=0o600,
                readahead=False,
                max_spare_txns=1,
            )
            undo.callback(self._env.close)
            self._env.sync(True)
            self._databases = {name: self._env.open_db(name.encode()) for name in tables}
            for path in (directory, directory.parent):
                _fsync_directory(path)
            undo.pop_all()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="records")

    def get(self, table: str, key: bytes) -> bytes | None:
        """See `Records.get`."""
        record_format.check_key(key)
        with self._reading(table) as transaction:
            stored = transaction.get(key)
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
        low, high = record_format.compute_range(prefix, start, reverse=reverse)
        found: list[tuple[bytes, bytes]] = []
        with self._reading(table) as transaction, transaction.cursor() as cursor:
            for key, stored in _walk(cursor, low, high, reverse=reverse):
                if limit is not None and len(found) >= limit:
                    break
                value = record_format.decode_value(self._keys[table], key, stored)
                if value is not None:
                    found.append((key, value))
                elif damaged is not None:
                    damaged.append(key)
                else:
                    raise record_format.get_damage(table, key)
        return found

    async def commit(self, operations: Sequence[Operation]) -> None:
        """See `Records.commit`. Ends only when it is applied or has failed, even if the caller is cancelled.

        Raises:
            Conflict: an `Expect` does not hold; nothing was applied.
            StoreFull: no space; nothing was applied.
            StoreDamaged: the value that an `Expect` is about is damaged, or pages are; nothing was applied.
            StoreError: any other failure of the disk; nothing was applied.
            UsageError: an unknown table, or a key or value of impossible length; nothing was applied.
        """
        record_format.check_operations(operations, self._keys)
        if not operations:
            return
        future = asyncio.get_running_loop().run_in_executor(self._writer, self._commit, tuple(operations))
        ended = asyncio.Event()
        future.add_done_callback(lambda _: ended.set())
        cancelled = False
        while not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            future.exception()
            raise asyncio.CancelledError
        future.result()

    def size_bytes(self) -> int:
        """See `Records.size_bytes`: the lengths of the data file and of LMDB's lock file."""
        with _failures("look at"):
            return sum((self._directory / name).stat().st_size for name in (DATA_FILE, LOCK_FILE))

    def close(self) -> None:
        """See `Records.close`. Waits for a commit that is under way."""
        self._writer.shutdown()
        self._env.close()

    @contextmanager
    def _reading(self, table: str) -> Iterator["lmdb.Transaction[bytes]"]:
        database = self._databases.get(table)
        if database is None:
            raise record_format.get_unknown_table(table)
        with self._map_lock, _failures("read"), self._env.begin(database) as transaction:
            yield transaction

    def _commit(self, operations: Sequence[Operation]) -> None:
        with _failures("write to"):
            while True:
                try:
                    with self._env.begin(write=True) as transaction:
                        for operation in operations:
                            self._apply(transaction, operation)
                    return
                except lmdb.MapFullError:
                    self._grow()
                except lmdb.Error as error:
                    if getattr(error, "code", 0) == errno.EIO:
                        self._check_space(operations)
                    raise

    def _apply(self, transaction: "lmdb.Transaction[bytes]", operation: Operation) -> None:
        table, key = operation.table, operation.key
        database = self._databases[table]
        match operation:
            case Put(value=value):
                transaction.put(key, record_format.encode_value(self._keys[table], key, value), db=database)
            case Delete():
                transaction.delete(key, db=database)
            case Expect(value=expected):
                stored = transaction.get(key, db=database)
                record_format.check_expected(table, self._keys[table], key, stored, expected)

    def _check_space(self, operations: Sequence[Operation]) -> None:
        """LMDB calls a write that the disk cut short an I/O error: asks the disk whether it is just full."""
        wanted = _SPARE_BYTES + sum(len(o.value) for o in operations if isinstance(o, Put))
        with (self._directory / DATA_FILE).open("r+b") as file:
            os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, wanted)

    def _grow(self) -> None:
        map_bytes = 2 * self._env.info()["map_size"]
        if map_bytes > _MAX_MAP_BYTES:
            raise StoreFull(f"the index has reached its limit of {_MAX_MAP_BYTES} bytes")
        with self._map_lock:
            self._env.set_mapsize(map_bytes)


def _walk(
    cursor: "lmdb.Cursor[bytes]", low: bytes, high: bytes | None, *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    if not reverse:
        found = cursor.set_range(low) if low else cursor.first()
        pairs = cursor.iternext()
    else:
        found = cursor.prev() if high is not None and cursor.set_range(high) else cursor.last()
        pairs = cursor.iterprev()
    if not found:
        return
    for key, stored in pairs:
        if key < low or (high is not None and key >= high):
            return
        yield key, stored


@contextmanager
def _failures(action: str) -> Iterator[None]:
    try:
        yield
    except (lmdb.Error, OSError) as error:
        message = f"cannot {action} the index: {error}"
        code = error.errno if isinstance(error, OSError) else getattr(error, "code", 0)
        if code in _FULL or isinstance(error, lmdb.DiskError):
            raise StoreFull(message, hint="free some space on the disk") from error
        if isinstance(error, _DAMAGE):
            raise StoreDamaged(message, hint=record_format.REBUILD_HINT) from error
        raise StoreError(message) from error


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
