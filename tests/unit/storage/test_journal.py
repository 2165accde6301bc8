"""Journals over threads, and the order of what they do to the disk."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kernel.errors import StoreDamaged, StoreError, StoreFull
from kernel.ports import Offload, Rng
from storage import journal as journals
from storage.faults import Faults
from storage.inline import InlineOffload
from storage.journal import FileJournal
from storage.memory_files import MemoryFiles
from storage.os_files import OsFiles
from storage.quota import Quota

MakeRng = Callable[[int], Rng]


def list_files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


async def test_only_the_first_sync_of_a_stream_syncs_directories(
    make_rng: MakeRng, inline: InlineOffload
) -> None:
    calls: list[tuple[str, str]] = []
    files = MemoryFiles(
        rng := make_rng(1), Faults(rng, before=lambda number, name, path: calls.append((name, path)))
    )
    journal = await FileJournal.open(files, inline, Quota())
    await journal.append("a/s", [b"1"])
    calls.clear()
    await journal.sync("a/s")
    await journal.append("a/s", [b"2"])
    await journal.sync("a/s")
    file = "journal/a/s.log"
    assert calls == [
        ("fsync", file),
        ("fsync_dir", "journal/a"),
        ("fsync_dir", "journal"),
        ("fsync_dir", ""),
        ("append", file),
        ("fsync", file),
    ]


async def test_streams_that_were_found_are_read_once_before_the_first_append(
    make_rng: MakeRng, inline: InlineOffload
) -> None:
    files = MemoryFiles(make_rng(1))
    await (await FileJournal.open(files, inline, Quota())).append("s", [b"1"])
    journal = await FileJournal.open(files, inline, Quota())
    calls: list[str] = []
    files.faults.before = lambda number, name, path: calls.append(name)
    await journal.append("s", [b"2"])
    await journal.append("s", [b"3"])
    assert calls == ["read", "append", "append"]


class GatedFiles(OsFiles):
    """Files whose appends to one stream wait for a gate, and may fail then."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.error: StoreError | None = None

    def append(self, path: str, parts: Sequence[bytes]) -> None:
        super().append(path, parts)
        if "slow" in path:
            self.entered.set()
            self.gate.wait()
            if self.error:
                raise self.error


async def test_a_slow_stream_holds_up_no_other_and_no_reader(tmp_path: Path, threads: Offload) -> None:
    files = GatedFiles(tmp_path)
    journal = await FileJournal.open(files, threads, Quota())
    files.gate.set()
    await journal.append("slow", [b"0"])
    files.gate.clear()
    files.entered.clear()
    slow = asyncio.create_task(journal.append("slow", [b"1"]))
    await asyncio.to_thread(files.entered.wait)
    await journal.append("other", [b"2"])
    assert (await journal.read("slow")).records == [(0, b"0")]
    assert (await journal.read("slow")).torn_bytes == 0
    assert not slow.done()
    files.gate.set()
    await slow
    assert (await journal.read("slow")).records == [(0, b"0"), (1, b"1")]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("first", [False, True])
async def test_a_cancelled_append_is_counted_by_what_became_of_it(
    tmp_path: Path, threads: Offload, fails: bool, first: bool
) -> None:
    files, quota = GatedFiles(tmp_path), Quota()
    journal = await FileJournal.open(files, threads, quota)
    files.gate.set()
    if not first:
        await journal.append("slow", [b"before"])
    files.gate.clear()
    files.entered.clear()
    files.error = StoreError("planned") if fails else None
    append = asyncio.create_task(journal.append("slow", [b"x"]))
    await asyncio.to_thread(files.entered.wait)
    append.cancel()
    files.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await append
    files.error = None
    await journal.append("slow", [b"after"])
    payloads = [b"before"] * (not first) + [b"x"] * (not fails) + [b"after"]
    assert (await journal.read("slow")).records == list(enumerate(payloads))
    assert journal.used_bytes() == quota.used_bytes == (tmp_path / "journal/slow.log").stat().st_size


async def test_a_failed_first_append_leaves_no_file(make_rng: MakeRng, inline: InlineOffload) -> None:
    for seed in range(10):
        files = MemoryFiles(make_rng(seed))
        journal = await FileJournal.open(files, inline, quota := Quota())
        files.faults.full_at = files.faults.operations
        with pytest.raises(StoreFull):
            await journal.append("a/s", [b"x" * 100])
        assert (files.paths(), journal.streams(), quota.used_bytes) == ([], [], 0)
        await journal.append("a/s", [b"y"])
        assert (await journal.read("a/s")).records == [(0, b"y")]


async def test_what_a_failed_append_left_does_not_come_back_with_a_power_cut(
    make_rng: MakeRng, inline: InlineOffload
) -> None:
    for seed in range(40):
        files = MemoryFiles(make_rng(seed))
        journal = await FileJournal.open(files, inline, Quota())
        await journal.append("s", [b"before"])
        await journal.sync("s")
        files.faults.full_at = files.faults.operations
        with pytest.raises(StoreFull):
            await journal.append("s", [b"short", bytes(500)])
        files.power_cut()
        journal = await FileJournal.open(files, inline, Quota())
        contents = await journal.read("s")
        assert (contents.records, contents.torn_bytes) == ([(0, b"before")], 0)


async def test_drops_and_appends_side_by_side(tmp_path: Path, threads: Offload) -> None:
    quota = Quota()
    journal = await FileJournal.open(OsFiles(tmp_path), threads, quota)

    async def work(stream: str) -> None:
        for _ in range(10):
            await journal.append(stream, [b"1", b"2"])
            await journal.sync(stream)
            await journal.drop(stream)
        await journal.append(stream, [b"last"])

    await asyncio.gather(*(work(f"a/b/s{n}") for n in range(5)))
    for n in range(5):
        assert (await journal.read(f"a/b/s{n}")).records == [(0, b"last")]
    there = list_files(tmp_path)
    assert journal.used_bytes() == quota.used_bytes == sum(path.stat().st_size for path in there)


async def test_a_drop_that_was_not_made_durable_can_be_repeated(
    make_rng: MakeRng, inline: InlineOffload
) -> None:
    files = MemoryFiles(make_rng(1))
    journal = await FileJournal.open(files, inline, quota := Quota())
    await journal.append("a/s", [b"1"])
    await journal.sync("a/s")
    files.faults.fail_at = files.faults.operations + 1
    with pytest.raises(StoreError):
        await journal.drop("a/s")
    assert (journal.used_bytes(), quota.used_bytes) == (0, 0)
    await journal.drop("a/s")
    files.power_cut()
    assert files.paths() == []


async def test_streams_end_somewhere(
    tmp_path: Path, inline: InlineOffload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "MAX_STREAM_BYTES", 1000)
    files = OsFiles(tmp_path)
    journal = await FileJournal.open(files, inline, quota := Quota())
    await journal.append("s", [bytes(800)])
    before = quota.used_bytes
    with pytest.raises(StoreFull):
        await journal.append("s", [bytes(200)])
    assert quota.used_bytes == before == files.size("journal/s.log")
    files.append("journal/s.log", [bytes(500)])
    with pytest.raises(StoreDamaged, match="more than any stream"):
        await (await FileJournal.open(files, inline, Quota())).read("s")
