"""Blobs over threads, and the order of what they do to the disk."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kernel.errors import StoreError
from kernel.ports import Offload, Rng
from storage.blobs import FileBlobs
from storage.faults import Faults
from storage.inline import InlineOffload
from storage.memory_files import MemoryFiles
from storage.os_files import OsFiles
from storage.quota import Quota

ID = bytes(range(32))
NAME = ID.hex()
MakeRng = Callable[[int], Rng]


def list_files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


async def test_the_order_of_a_put_and_what_is_saved_of_it_later(
    make_rng: MakeRng, inline: InlineOffload
) -> None:
    calls: list[tuple[str, str]] = []
    files = MemoryFiles(
        rng := make_rng(1), Faults(rng, before=lambda number, name, path: calls.append((name, path)))
    )
    blobs = await FileBlobs.open(files, inline, Quota())
    calls.clear()
    await blobs.put(ID, [b"1"])
    unfinished = f"blobs/unfinished/{NAME}"
    assert calls == [
        ("create", unfinished),
        ("fsync", unfinished),
        ("rename", f"blobs/00/{NAME}"),
        ("fsync_dir", "blobs/00"),
        ("fsync_dir", "blobs"),
        ("fsync_dir", ""),
    ]
    calls.clear()
    await blobs.put(bytes(32), [b"2"])
    assert [name for name, _ in calls] == ["create", "fsync", "rename", "fsync_dir"]
    calls.clear()
    await blobs.put(ID, [b"1"])
    assert calls == []


class GatedFiles(OsFiles):
    """Files whose writes wait for a gate, and may fail then."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.error: StoreError | None = None

    def create(self, path: str, parts: Sequence[bytes]) -> None:
        super().create(path, parts)
        self.entered.set()
        self.gate.wait()
        if self.error:
            raise self.error


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_put_is_counted_by_what_became_of_it(
    tmp_path: Path, threads: Offload, fails: bool
) -> None:
    files, quota = GatedFiles(tmp_path), Quota()
    blobs = await FileBlobs.open(files, threads, quota)
    files.error = StoreError("planned") if fails else None
    put = asyncio.create_task(blobs.put(ID, [b"12345"]))
    await asyncio.to_thread(files.entered.wait)
    assert quota.used_bytes == 5
    put.cancel()
    files.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await put
    there = list_files(tmp_path)
    assert len(there) == (0 if fails else 1)
    assert blobs.used_bytes() == quota.used_bytes == (0 if fails else 5)
    assert blobs.ids() == ([] if fails else [ID])


async def test_a_put_that_waits_for_the_same_blob_needs_no_second_write(
    tmp_path: Path, threads: Offload
) -> None:
    files, quota = GatedFiles(tmp_path), Quota(40)
    blobs = await FileBlobs.open(files, threads, quota)
    first = asyncio.create_task(blobs.put(ID, [bytes(20)]))
    second = asyncio.create_task(blobs.put(ID, [bytes(20)]))
    removal = asyncio.create_task(blobs.remove([ID]))
    await asyncio.to_thread(files.entered.wait)
    assert quota.used_bytes == 20
    files.gate.set()
    await asyncio.gather(first, second, removal)
    assert (blobs.ids(), quota.used_bytes) == ([], 0)


async def test_puts_and_removals_side_by_side_keep_the_count_exact(tmp_path: Path, threads: Offload) -> None:
    quota = Quota()
    blobs = await FileBlobs.open(OsFiles(tmp_path), threads, quota)
    ids = [bytes([n]) * 32 for n in range(8)]

    async def work(worker: int) -> None:
        for turn in range(6):
            blob_id = ids[(worker + turn) % 8]
            await blobs.put(blob_id, [blob_id * 10])
            if (worker + turn) % 3 == 0:
                await blobs.remove([blob_id, ids[turn]])

    await asyncio.gather(*(work(worker) for worker in range(6)))
    there = list_files(tmp_path)
    assert sorted(path.name for path in there) == [blob_id.hex() for blob_id in blobs.ids()]
    assert blobs.used_bytes() == quota.used_bytes == sum(path.stat().st_size for path in there)


async def test_a_removal_that_fails_half_way_counts_what_it_removed(
    make_rng: MakeRng, inline: InlineOffload
) -> None:
    files, quota = MemoryFiles(make_rng(1)), Quota()
    blobs = await FileBlobs.open(files, inline, quota)
    ids = [bytes([n]) * 32 for n in range(3)]
    for blob_id in ids:
        await blobs.put(blob_id, [b"12345"])
    files.faults.fail_at = files.faults.operations + 1
    with pytest.raises(StoreError):
        await blobs.remove(ids)
    assert blobs.ids() == ids[1:]
    assert blobs.used_bytes() == quota.used_bytes == 10
    await blobs.remove(ids)
    files.power_cut()
    assert (await FileBlobs.open(files, inline, Quota())).ids() == []
