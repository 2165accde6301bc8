"""Sealed chunks as files: `blobs/<first byte in hex>/<ID in hex>`.

Rules:
- A blob is written to `blobs/unfinished/`, fsynced, renamed, its directory fsynced (and, once, those above
  it). So under its name a blob is whole or not there at all, and what `put` has returned survives a power
  cut.
- Opening sweeps `blobs/unfinished/` and takes the sizes of all blobs into memory. Foreign names are left
  alone, not counted.
- Space is counted before the first byte is written; if a write fails, its unfinished file is removed, the
  space given back. Work on one ID is serialised, on different IDs it goes on side by side.
- A blob that an earlier process left under its name was renamed but perhaps not made durable: the first
  `put` that finds it there, or `settle`, fsyncs its directory before it returns.
- Contents are not checked here: a blob's ID is a hash of them, and whoever reads verifies it.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress

from kernel.errors import NotFound, StoreDamaged, StoreError, UsageError
from kernel.keyed_locks import KeyedLocks
from kernel.ports import Files, Offload
from storage.paths import get_ancestors, get_parent
from storage.quota import Quota

ID_BYTES = 32
# A chunk of 16 MiB with its header and padding, and some room.
MAX_BLOB_BYTES = 32 << 20

_ROOT = "blobs"
_UNFINISHED = f"{_ROOT}/unfinished"
_FANOUT = re.compile(r"[0-9a-f]{2}/")
_NAME = re.compile(r"[0-9a-f]{64}")


class FileBlobs:
    """`Blobs` over `Files`. Made by `FileBlobs.open`."""

    def __init__(self, files: Files, offload: Offload, quota: Quota, sizes: dict[bytes, int]) -> None:
        self._files = files
        self._offload = offload
        self._quota = quota
        self._sizes = sizes
        self._used_bytes = sum(sizes.values())
        self._locks: KeyedLocks[bytes] = KeyedLocks()
        self._durable_directories: set[str] = set()
        quota.adopt(self._used_bytes)

    @classmethod
    async def open(cls, files: Files, offload: Offload, quota: Quota) -> "FileBlobs":
        """Sweeps what a killed process left, and finds all blobs.

        Raises:
            StoreError: the directory cannot be read.
        """
        return cls(files, offload, quota, await offload.run(_scan, files))

    async def put(self, blob_id: bytes, parts: Sequence[bytes]) -> None:
        """See `Blobs.put`.

        Raises:
            StoreFull: disk or quota; no trace of the blob counts or remains.
            UsageError: the ID is not 32 bytes, or the blob is larger than any chunk.
        """
        size_bytes = sum(map(len, parts))
        path = _locate(blob_id)
        if size_bytes > MAX_BLOB_BYTES:
            raise UsageError(f"a blob of {size_bytes} bytes is larger than {MAX_BLOB_BYTES}")
        async with self._locks.hold(blob_id):
            if blob_id in self._sizes:
                return await self._settle(path)
            self._quota.take(size_bytes)
            written = False

            def write() -> None:
                nonlocal written
                self._write(path, parts)
                written = True

            try:
                await self._offload.run(write)
            finally:
                if written:
                    self._sizes[blob_id] = size_bytes
                    self._used_bytes += size_bytes
                else:
                    self._quota.give_back(size_bytes)

    async def read(self, blob_id: bytes, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """See `Blobs.read`.

        Raises:
            NotFound: there is no such blob.
            StoreDamaged: the file is larger than any blob can be.
            UsageError: the ID is not 32 bytes, or the range is negative.
        """
        path = _locate(blob_id)
        known = self._sizes.get(blob_id)
        if known is None:
            raise _missing(blob_id)
        if known > MAX_BLOB_BYTES:
            raise StoreDamaged(f"blob {blob_id.hex()} has {known} bytes, more than any chunk")
        if offset < 0 or (size_bytes is not None and size_bytes < 0):
            raise UsageError("a range of a blob begins at 0 or later and has no negative length")
        left = max(known - offset, 0)
        try:
            return await self._offload.run(
                self._files.read, path, offset, left if size_bytes is None else min(left, size_bytes)
            )
        except FileNotFoundError:
            raise _missing(blob_id) from None

    async def settle(self, blob_id: bytes) -> None:
        """See `Blobs.settle`.

        Raises:
            NotFound: there is no such blob.
            UsageError: the ID is not 32 bytes.
        """
        path = _locate(blob_id)
        async with self._locks.hold(blob_id):
            if blob_id not in self._sizes:
                raise _missing(blob_id)
            await self._settle(path)

    def size(self, blob_id: bytes) -> int | None:
        """See `Blobs.size`."""
        return self._sizes.get(blob_id)

    async def remove(self, blob_ids: Sequence[bytes]) -> None:
        """See `Blobs.remove`."""
        wanted = {blob_id: _locate(blob_id) for blob_id in sorted(set(blob_ids))}
        async with AsyncExitStack() as stack:
            # All who hold several locks take them in this order, so none can wait for another in a ring.
            for blob_id in wanted:
                await stack.enter_async_context(self._locks.hold(blob_id))
            removed: list[bytes] = []
            try:
                await self._offload.run(self._remove, wanted, removed)
            finally:
                for blob_id in removed:
                    size_bytes = self._sizes.pop(blob_id, 0)
                    self._used_bytes -= size_bytes
                    self._quota.give_back(size_bytes)

    def ids(self) -> list[bytes]:
        """See `Blobs.ids`."""
        return sorted(self._sizes)

    def used_bytes(self) -> int:
        """See `Blobs.used_bytes`."""
        return self._used_bytes

    async def _settle(self, path: str) -> None:
        if get_parent(path) not in self._durable_directories:
            await self._offload.run(self._make_name_durable, path)

    def _write(self, path: str, parts: Sequence[bytes]) -> None:
        unfinished = f"{_UNFINISHED}/{path.rpartition('/')[2]}"
        renamed = durable = False
        try:
            self._files.create(unfinished, parts)
            self._files.fsync(unfinished)
            self._files.rename(unfinished, path)
            renamed = True
            self._make_name_durable(path)
            durable = True
        finally:
            if not durable:
                # The first failure is the one to report; what cannot be removed now is swept, or counted,
                # at the next start.
                with suppress(StoreError, FileNotFoundError):
                    self._files.remove(path if renamed else unfinished)

    def _make_name_durable(self, path: str) -> None:
        nearest, *above = get_ancestors(path)
        self._files.fsync_dir(nearest)
        if nearest not in self._durable_directories:
            for directory in above:
                self._files.fsync_dir(directory)
            self._durable_directories.add(nearest)

    def _remove(self, wanted: dict[bytes, str], removed: list[bytes]) -> None:
        directories: set[str] = set()
        for blob_id, path in wanted.items():
            # A missing one too: a `put` that failed may have removed it without making that durable.
            directories.add(get_parent(path))
            with suppress(FileNotFoundError):
                self._files.remove(path)
            removed.append(blob_id)
        for directory in sorted(directories):
            with suppress(FileNotFoundError):
                self._files.fsync_dir(directory)


def _locate(blob_id: bytes) -> str:
    if len(blob_id) != ID_BYTES:
        raise UsageError(f"a blob ID has {ID_BYTES} bytes, not {len(blob_id)}")
    name = blob_id.hex()
    return f"{_ROOT}/{name[:2]}/{name}"


def _missing(blob_id: bytes) -> NotFound:
    return NotFound(f"there is no blob {blob_id.hex()}", hint="it was never stored, or is gone")


def _scan(files: Files) -> dict[bytes, int]:
    for name in _plain_names(files.list_dir(_UNFINISHED)):
        files.remove(f"{_UNFINISHED}/{name}")
    sizes = {}
    for fanout in filter(_FANOUT.fullmatch, files.list_dir(_ROOT)):
        for name in _plain_names(files.list_dir(f"{_ROOT}/{fanout[:2]}")):
            if name.startswith(fanout[:2]):
                sizes[bytes.fromhex(name)] = files.size(f"{_ROOT}/{fanout}{name}")
    return sizes


def _plain_names(names: Iterable[str]) -> list[str]:
    return [name for name in names if _NAME.fullmatch(name)]
