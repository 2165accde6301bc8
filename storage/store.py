"""A store: index, blobs and journals under one directory (docs/spec/07-store.md).

    format            version of the store (`schema`)
    index/            records
    blobs/            sealed chunks
    journal/          streams
    index-aside-<n>/  indexes that were replaced by a rebuilt one

Rules:
- Opening checks, in this order: version, soundness of the index, completeness of the index; then it migrates.
- A new index bears a mark only when it is complete: one that was being rebuilt when the process died is
  refused.
- What is found damaged is never overwritten: a damaged index is moved aside, and a new one made.
- The store of a home is used by one process at a time; the caller holds the lock.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from kernel.errors import StoreDamaged
from kernel.ports import Files, Offload, Put, Records
from storage import schema as schemas
from storage.blobs import FileBlobs
from storage.journal import FileJournal
from storage.quota import Quota
from storage.record_format import REBUILD_HINT

META = "meta"
INDEX_DIRECTORY = "index"

_COMPLETE = b"complete"
_NOTE_FILE = "README"
_NOTE = b"An index that was replaced by one made from the journals. Nothing uses it any more.\n"


@dataclass(frozen=True, slots=True)
class OpenedIndex:
    """An index that may be used.

    Attributes:
        records: its tables.
        damaged: values that fail their checksum, in words.
    """

    records: Records
    damaged: list[str] = field(default_factory=list)


# Opens the index: True makes a new one; False checks one that must be there, and raises `StoreDamaged` if it
# is missing or not sound. Blocking. The tables include `META`.
OpenIndex = Callable[[bool], OpenedIndex]


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """Exact lengths of files on the disk, in bytes."""

    blob_bytes: int
    journal_bytes: int
    index_bytes: int


@dataclass(frozen=True, slots=True)
class Store:
    """An open store.

    Attributes:
        records: the index.
        blobs: sealed chunks.
        journal: streams.
        quota: the budget of blobs and journals.
        damaged: records of the index that were found damaged at opening, in words.
    """

    records: Records
    blobs: FileBlobs
    journal: FileJournal
    quota: Quota
    damaged: list[str]

    def usage(self) -> StoreUsage:
        """What the store takes on the disk."""
        return StoreUsage(self.blobs.used_bytes(), self.journal.used_bytes(), self.records.size_bytes())

    async def complete_rebuild(self) -> None:
        """Marks a rebuilt index as complete. Durable on return."""
        await self.records.commit([_MARK])

    def close(self) -> None:
        """Releases the index. Nothing else may be called afterwards."""
        self.records.close()


_MARK = Put(META, _COMPLETE, b"1")


async def open_store(
    files: Files,
    offload: Offload,
    open_index: OpenIndex,
    *,
    quota_bytes: int | None = None,
    reserved_streams: frozenset[str] = frozenset(),
    freeing_streams: frozenset[str] = frozenset(),
    rebuild: bool = False,
    schema: schemas.Schema = schemas.PRESENT,
) -> Store:
    """Opens a store, which is made if there is none.

    Args:
        files: the directory of the store.
        offload: where blocking work runs.
        open_index: opens its index.
        quota_bytes: budget of blobs and journals; None: as much as the disk holds.
        reserved_streams: last components of the names of streams that hold small facts, see `quota`.
        freeing_streams: the same for those whose records free space.
        rebuild: put the index aside and make an empty one; when it is filled, call `complete_rebuild`.
        schema: the version to be, and how to get there.

    Raises:
        StoreTooNew: a newer version of the software wrote it; nothing was changed.
        StoreDamaged: version or index are damaged, missing or incomplete; nothing was changed.
        StoreError: the disk fails.
    """
    version = await offload.run(schemas.read_version, files, schema)
    if version is None:
        await offload.run(_check_nothing_is_there, files)
    index = await offload.run(_open_index, files, open_index, rebuild or version is None)
    try:
        if version is None:
            await index.records.commit([_MARK])
            await offload.run(schemas.write_version, files, schema.version)
        elif not rebuild and index.records.get(META, _COMPLETE) is None:
            raise StoreDamaged("the index is incomplete: rebuilding it was interrupted", hint=REBUILD_HINT)
        else:
            await schemas.migrate(schemas.MigrationPorts(files, offload, index.records), version, schema)
        quota = Quota(quota_bytes)
        blobs = await FileBlobs.open(files, offload, quota)
        journal = await FileJournal.open(
            files, offload, quota, reserved=reserved_streams, freeing=freeing_streams
        )
    except BaseException:
        index.records.close()
        raise
    return Store(index.records, blobs, journal, quota, index.damaged)


def set_index_aside(files: Files) -> str | None:
    """Moves all files of the index into a directory of their own. Durable on return; blocking.

    The directory is durable, with a note in it, before anything is moved there: it cannot be lost with what
    it was given.

    Returns:
        Name of that directory; None if there was no index.
    """
    names = [name for name in files.list_dir(INDEX_DIRECTORY) if not name.endswith("/")]
    if not names:
        return None
    taken = files.list_dir("")
    aside = next(name for n in itertools.count(1) if (name := f"index-aside-{n}") + "/" not in taken)
    files.create(f"{aside}/{_NOTE_FILE}", [_NOTE])
    files.fsync(f"{aside}/{_NOTE_FILE}")
    for directory in (aside, ""):
        files.fsync_dir(directory)
    for name in names:
        files.rename(f"{INDEX_DIRECTORY}/{name}", f"{aside}/{name}")
    for directory in (aside, INDEX_DIRECTORY):
        files.fsync_dir(directory)
    return aside


def _open_index(files: Files, open_index: OpenIndex, new: bool) -> OpenedIndex:
    if new:
        set_index_aside(files)
    return open_index(new)


def _check_nothing_is_there(files: Files) -> None:
    found = [name for directory in ("blobs", "journal") for name in files.list_dir(directory)]
    if found:
        raise StoreDamaged(
            f"the store holds data, but its file `{schemas.FORMAT_FILE}` is gone",
            hint="docs/spec/07-store.md says what it must hold, and how to write it again",
        )
