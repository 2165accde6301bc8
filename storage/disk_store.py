"""A store on a real disk: `open_store` over files and LMDB in one directory."""

from collections.abc import Callable, Sequence
from pathlib import Path

from kernel.errors import StoreDamaged, StoreError
from kernel.ports import Files, Offload
from storage import record_format
from storage.index_check import check_index
from storage.lmdb_records import LmdbRecords
from storage.os_files import OsFiles
from storage.store import INDEX_DIRECTORY, META, OpenedIndex, Store, open_store


async def open_disk_store(
    directory: Path,
    offload: Offload,
    *,
    tables: Sequence[str],
    quota_bytes: int | None = None,
    reserved_streams: frozenset[str] = frozenset(),
    freeing_streams: frozenset[str] = frozenset(),
    rebuild: bool = False,
    wrap_files: Callable[[Files], Files] = lambda files: files,
) -> Store:
    """Opens the store in `directory`, which is made if there is none (its parent must exist).

    Args:
        directory: of the store.
        offload: where blocking work runs.
        tables: names of the tables of the index.
        quota_bytes: see `open_store`.
        reserved_streams: see `open_store`.
        freeing_streams: see `open_store`.
        rebuild: see `open_store`.
        wrap_files: takes the files of the store and gives those to use: measured ones, or ones with faults.

    Raises:
        StoreError: see `open_store`.
    """
    files = await offload.run(_make_directory, directory)

    def open_index(new: bool) -> OpenedIndex:
        return _open_index(directory / INDEX_DIRECTORY, (*tables, META), new)

    return await open_store(
        wrap_files(files),
        offload,
        open_index,
        quota_bytes=quota_bytes,
        reserved_streams=reserved_streams,
        freeing_streams=freeing_streams,
        rebuild=rebuild,
    )


def _make_directory(directory: Path) -> OsFiles:
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the directory {directory}: {error.strerror}") from error
    OsFiles(directory.parent).fsync_dir("")
    return OsFiles(directory)


def _open_index(directory: Path, tables: Sequence[str], new: bool) -> OpenedIndex:
    if new:
        return OpenedIndex(LmdbRecords(directory, tables))
    report = check_index(directory)
    if report.problems:
        more = f" (and {len(report.problems) - 1} more)" if len(report.problems) > 1 else ""
        raise StoreDamaged(
            f"the index is damaged: {report.problems[0]}{more}", hint=record_format.REBUILD_HINT
        )
    damaged = [f"record {name} of the index" for name in report.damaged]
    if report.damaged_count > len(damaged):
        damaged.append(f"and {report.damaged_count - len(damaged)} more records")
    return OpenedIndex(LmdbRecords(directory, tables), damaged)
