import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from kernel.errors import StoreDamaged, StoreError, StoreFull
from kernel.ports import Delete, Put
from storage import lmdb_records
from storage.lmdb_records import LmdbRecords

ROOT = Path(__file__).parents[3]


@pytest.fixture
def records(tmp_path: Path) -> Iterator[LmdbRecords]:
    opened = LmdbRecords(tmp_path / "index", ["rows", "other"])
    yield opened
    opened.close()


async def test_the_map_grows_while_others_read(records: LmdbRecords) -> None:
    await records.commit([Put("rows", b"first", b"1")])
    stop, seen = threading.Event(), 0

    def read() -> None:
        nonlocal seen
        while not stop.is_set():
            assert records.get("rows", b"first") == b"1"
            seen += 1

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    values = {b"%d" % n: os.urandom(3 << 20) for n in range(12)}
    for key, value in values.items():
        await records.commit([Put("rows", key, value)])
    stop.set()
    for reader in readers:
        reader.join()
    assert seen
    assert records.size_bytes() > lmdb_records._INITIAL_MAP_BYTES
    assert all(records.get("rows", key) == value for key, value in values.items())


async def test_a_batch_larger_than_the_map_is_applied_once_and_whole(records: LmdbRecords) -> None:
    values = [os.urandom(4 << 20) for _ in range(12)]
    await records.commit([Put("rows", b"%02d" % n, value) for n, value in enumerate(values)])
    assert [value for _, value in records.scan("rows")] == values


async def test_a_grown_index_is_opened_again(tmp_path: Path) -> None:
    for attempt in range(2):
        records = LmdbRecords(tmp_path / "index", ["rows"])
        await records.commit([Put("rows", b"%d%d" % (attempt, n), os.urandom(4 << 20)) for n in range(6)])
        records.close()
    records = LmdbRecords(tmp_path / "index", ["rows"])
    assert len(records.scan("rows")) == 12
    records.close()


async def test_space_of_deleted_rows_is_used_again(records: LmdbRecords) -> None:
    for n in range(40):
        await records.commit([Put("rows", b"%d" % n, os.urandom(1 << 20)), Delete("rows", b"%d" % (n - 1))])
    assert records.size_bytes() < 10 << 20


async def test_the_index_ends_somewhere(records: LmdbRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_records, "_MAX_MAP_BYTES", 16 << 20)
    await records.commit([Put("rows", b"a", b"1")])
    with pytest.raises(StoreFull):
        await records.commit(
            [Put("rows", b"a", b"2"), *(Put("rows", b"%d" % n, bytes(4 << 20)) for n in range(8))]
        )
    assert records.scan("rows") == [(b"a", b"1")]


FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from kernel.errors import StoreFull
from kernel.ports import Put
from storage.lmdb_records import LmdbRecords

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    records = LmdbRecords(Path(sys.argv[1]), ["rows"])
    await records.commit([Put("rows", b"before", b"1")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    refused = 0
    for n in range(20):
        try:
            await records.commit([Put("rows", b"%c%02d" % (letter, n), bytes(100_000)) for letter in b"ab"])
        except StoreFull:
            refused += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await records.commit([Put("rows", b"z", b"2")])
    print(refused, *(key.decode() for key, _ in records.scan("rows")))
    records.close()

asyncio.run(main())
"""


async def test_a_full_disk_refuses_whole_batches_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FULL, str(tmp_path / "index")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    refused, *keys = done.stdout.split()
    assert 0 < int(refused) < 20
    kept = 20 - int(refused)
    assert keys == [f"{letter}{n:02}" for letter in "ab" for n in range(kept)] + ["before", "z"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (lmdb.DiskError("No space left"), StoreFull),
        (lmdb.CorruptedError("page"), StoreDamaged),
        (lmdb.PageNotFoundError("page"), StoreDamaged),
        (lmdb.PanicError("panic"), StoreError),
        (OSError(5, "Input/output error"), StoreError),
    ],
)
async def test_errors_of_lmdb_are_typed(error: Exception, expected: type[StoreError]) -> None:
    with pytest.raises(StoreError) as caught, lmdb_records._failures("read"):
        raise error
    assert type(caught.value) is expected


async def test_a_cancelled_commit_is_applied_before_its_caller_learns(
    records: LmdbRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()
    real = records._commit

    def slow(operations: tuple[Put, ...]) -> None:
        entered.set()
        release.wait()
        real(operations)

    monkeypatch.setattr(records, "_commit", slow)
    commit = asyncio.create_task(records.commit([Put("rows", b"a", b"1")]))
    await asyncio.to_thread(entered.wait)
    for _ in range(3):
        commit.cancel()
        await asyncio.sleep(0)
    assert not commit.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await commit
    assert records.get("rows", b"a") == b"1"


async def test_a_cancelled_commit_that_fails_is_a_cancellation(
    records: LmdbRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()

    def fail(operations: tuple[Put, ...]) -> None:
        entered.set()
        release.wait()
        raise StoreError("planned")

    monkeypatch.setattr(records, "_commit", fail)
    commit = asyncio.create_task(records.commit([Put("rows", b"a", b"1")]))
    await asyncio.to_thread(entered.wait)
    commit.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await commit


async def test_commits_side_by_side_all_apply(records: LmdbRecords) -> None:
    await asyncio.gather(*(records.commit([Put("rows", b"%03d" % n, b"%d" % n)]) for n in range(100)))
    assert records.scan("rows") == [(b"%03d" % n, b"%d" % n) for n in range(100)]


def test_a_file_that_is_no_index_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index/data.mdb").write_bytes(os.urandom(32768))
    with pytest.raises(StoreDamaged) as error:
        LmdbRecords(tmp_path / "index", ["rows"])
    assert "doctor --rebuild" in error.value.hint


def test_a_place_where_nothing_can_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        LmdbRecords(tmp_path / "file", ["rows"])
    with pytest.raises(StoreError):
        LmdbRecords(tmp_path / "missing" / "index", ["rows"])


def test_files_are_private_and_their_lengths_are_the_size(records: LmdbRecords, tmp_path: Path) -> None:
    paths = list((tmp_path / "index").iterdir())
    assert all(path.stat().st_mode & 0o077 == 0 for path in [*paths, tmp_path / "index"])
    assert records.size_bytes() == sum(path.stat().st_size for path in paths)
