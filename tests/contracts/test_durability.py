"""What blobs and journals promise when the process dies, the power goes, a call fails or the disk is full.

A short story is told once to count its disk operations, then again with a fault at each of them.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress

import pytest

from kernel.errors import StoreError
from kernel.ports import Delete, Put, Rng
from storage.blobs import FileBlobs
from storage.faults import Died, Faults
from storage.inline import InlineOffload
from storage.journal import FileJournal
from storage.memory_files import MemoryFiles
from storage.memory_records import MemoryRecords
from storage.quota import Quota

SEEDS = range(6)
OFFLOAD = InlineOffload()
MakeRng = Callable[[int], Rng]


def content(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest() * 60


def blob_id(name: str) -> bytes:
    return hashlib.sha256(b"id" + name.encode()).digest()


class BlobStory:
    """Puts and removes blobs, and keeps what was promised: names that must be there, and that may be."""

    def __init__(self) -> None:
        self.certain: set[str] = set()
        self.possible: set[str] = set()

    async def put(self, blobs: FileBlobs, name: str) -> None:
        self.possible.add(name)
        await blobs.put(blob_id(name), [content(name)[:700], content(name)[700:]])
        self.certain.add(name)

    async def remove(self, blobs: FileBlobs, *names: str) -> None:
        self.certain.difference_update(names)
        await blobs.remove([blob_id(name) for name in names])
        self.possible.difference_update(names)

    async def tell(self, blobs: FileBlobs) -> None:
        for name in ("a", "b", "c"):
            await self.put(blobs, name)
        await self.remove(blobs, "a", "b")
        await self.put(blobs, "a")
        await self.put(blobs, "c")

    async def check(self, blobs: FileBlobs, files: MemoryFiles, quota: Quota) -> None:
        names = {blob_id(name): name for name in self.possible}
        there = {names[found] for found in blobs.ids()}
        assert self.certain <= there
        for name in there:
            assert await blobs.read(blob_id(name)) == content(name)
        paths = files.paths()
        assert blobs.used_bytes() == quota.used_bytes == sum(map(files.size, paths))
        assert len(paths) == len(there)


async def open_blobs(files: MemoryFiles) -> tuple[FileBlobs, Quota]:
    quota = Quota()
    return await FileBlobs.open(files, OFFLOAD, quota), quota


async def count_blob_operations(rng: Rng) -> int:
    files = MemoryFiles(rng)
    blobs, _ = await open_blobs(files)
    await BlobStory().tell(blobs)
    return files.faults.operations


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("end", ["kill", "power cut"])
async def test_blobs_survive_a_death_at_every_operation(make_rng: MakeRng, seed: int, end: str) -> None:
    for at in range(await count_blob_operations(make_rng(0)) + 1):
        files = MemoryFiles(rng := make_rng(seed * 1000 + at), Faults(rng, die_at=at))
        story = BlobStory()
        with suppress(Died):
            blobs, _ = await open_blobs(files)
            await story.tell(blobs)
        files.process_kill() if end == "kill" else files.power_cut()
        blobs, quota = await open_blobs(files)
        await story.check(blobs, files, quota)
        # What the first process left half done hinders nobody, and what is promised now holds, too.
        for name in ("a", "b", "c"):
            await story.put(blobs, name)
        await story.check(blobs, files, quota)
        files.power_cut()
        blobs, quota = await open_blobs(files)
        await story.check(blobs, files, quota)


@pytest.mark.parametrize("kind", ["fail_at", "full_at"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_failed_blob_operation_leaves_no_trace(make_rng: MakeRng, seed: int, kind: str) -> None:
    for at in range(await count_blob_operations(make_rng(0))):
        files = MemoryFiles(make_rng(seed * 1000 + at))
        setattr(files.faults, kind, at)
        story = BlobStory()
        try:
            blobs, quota = await open_blobs(files)
        except StoreError:
            continue
        with suppress(StoreError):
            await story.tell(blobs)
        await story.check(blobs, files, quota)
        await story.tell(blobs)
        await story.check(blobs, files, quota)
        files.power_cut()
        blobs, quota = await open_blobs(files)
        await story.check(blobs, files, quota)


async def test_a_put_that_failed_is_not_there(make_rng: MakeRng) -> None:
    for at in range(1, 6):
        files = MemoryFiles(make_rng(at))
        blobs, quota = await open_blobs(files)
        files.faults.fail_at = files.faults.operations + at - 1
        with pytest.raises(StoreError):
            await blobs.put(blob_id("a"), [content("a")])
        assert (blobs.ids(), files.paths(), quota.used_bytes) == ([], [], 0)


async def test_a_blob_found_after_a_kill_is_made_durable_by_the_next_put(make_rng: MakeRng) -> None:
    for seed in range(20):
        rng = make_rng(seed)
        faults = Faults(rng)
        faults.before = lambda number, name, path, faults=faults: setattr(
            faults, "die_at", number if name == "fsync_dir" else None
        )
        files = MemoryFiles(rng, faults)
        with suppress(Died):
            await (await open_blobs(files))[0].put(blob_id("a"), [content("a")])
        files.process_kill()
        blobs, _ = await open_blobs(files)
        await blobs.put(blob_id("a"), [content("a")])
        files.power_cut()
        assert (await open_blobs(files))[0].ids() == [blob_id("a")]


class JournalStory:
    """Appends, syncs and drops, and keeps what was promised of each stream."""

    def __init__(self) -> None:
        self.appended: dict[str, list[bytes]] = {}
        self.written: dict[str, int] = {}
        self.synced: dict[str, int] = {}
        self.dropping: set[str] = set()

    async def append(self, journal: FileJournal, stream: str, *payloads: bytes) -> None:
        records = self.appended.setdefault(stream, [])
        del records[self.written.get(stream, 0) :]
        records += payloads
        await journal.append(stream, payloads)
        self.written[stream] = len(records)

    async def sync(self, journal: FileJournal, stream: str) -> None:
        await journal.sync(stream)
        self.synced[stream] = self.written[stream]

    async def drop(self, journal: FileJournal, stream: str) -> None:
        self.dropping.add(stream)
        await journal.drop(stream)
        for kept in (self.appended, self.written, self.synced):
            kept.pop(stream, None)
        self.dropping.discard(stream)

    async def tell(self, journal: FileJournal) -> None:
        await self.append(journal, "a/facts", b"one", b"two" * 400)
        await self.append(journal, "a/facts", b"three")
        await self.sync(journal, "a/facts")
        await self.append(journal, "a/tail", b"x" * 3000)
        await self.append(journal, "a/facts", b"four")
        await self.sync(journal, "a/tail")
        await self.drop(journal, "a/tail")
        await self.append(journal, "a/tail", b"new", b"y" * 2000)
        await self.sync(journal, "a/facts")
        await self.sync(journal, "a/tail")

    async def check(
        self, journal: FileJournal, files: MemoryFiles, quota: Quota, least: dict[str, int]
    ) -> None:
        """All streams hold at least what `least` says, in order, and nothing that was never appended."""
        for stream in {*self.appended, *journal.streams()}:
            contents = await journal.read(stream)
            if stream in self.dropping and not contents.records:
                continue
            records = self.appended.get(stream, [])
            certain = least.get(stream, 0)
            assert contents.records[:certain] == list(enumerate(records[:certain]))
            assert all(payload == records[sequence] for sequence, payload in contents.records)
        assert journal.used_bytes() == quota.used_bytes == sum(map(files.size, files.paths()))


async def open_journal(files: MemoryFiles) -> tuple[FileJournal, Quota]:
    quota = Quota()
    return await FileJournal.open(files, OFFLOAD, quota), quota


async def count_journal_operations(rng: Rng) -> int:
    files = MemoryFiles(rng)
    journal, _ = await open_journal(files)
    await JournalStory().tell(journal)
    return files.faults.operations


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("end", ["kill", "power cut"])
async def test_journals_survive_a_death_at_every_operation(make_rng: MakeRng, seed: int, end: str) -> None:
    for at in range(await count_journal_operations(make_rng(0)) + 1):
        files = MemoryFiles(rng := make_rng(seed * 1000 + at), Faults(rng, die_at=at))
        story = JournalStory()
        with suppress(Died):
            journal, _ = await open_journal(files)
            await story.tell(journal)
        files.process_kill() if end == "kill" else files.power_cut()
        journal, quota = await open_journal(files)
        await story.check(journal, files, quota, story.written if end == "kill" else story.synced)
        for stream in journal.streams():
            before = (await journal.read(stream)).records
            await journal.trim(stream)
            await journal.append(stream, [b"afterwards"])
            contents = await journal.read(stream)
            assert contents.records[:-1] == before
            assert contents.torn_bytes == 0
            assert contents.records[-1] == (before[-1][0] + 1 if before else 0, b"afterwards")
            await journal.sync(stream)
            files.power_cut()
            journal, quota = await open_journal(files)
            assert (await journal.read(stream)).records == contents.records
        assert journal.used_bytes() == quota.used_bytes == sum(map(files.size, files.paths()))


@pytest.mark.parametrize("kind", ["fail_at", "full_at"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_failed_journal_operation_is_all_or_nothing(make_rng: MakeRng, seed: int, kind: str) -> None:
    for at in range(1, await count_journal_operations(make_rng(0))):
        files = MemoryFiles(make_rng(seed * 1000 + at))
        setattr(files.faults, kind, at)
        story = JournalStory()
        journal, quota = await open_journal(files)
        with suppress(StoreError):
            await story.tell(journal)
        for stream, records in story.appended.items():
            if stream not in story.dropping:
                present = list(enumerate(records[: story.written.get(stream, 0)]))
                contents = await journal.read(stream)
                assert (contents.records, contents.torn_bytes, contents.damaged) == (present, 0, [])
        assert journal.used_bytes() == quota.used_bytes == sum(map(files.size, files.paths()))
        files.power_cut()
        journal, quota = await open_journal(files)
        await story.check(journal, files, quota, story.synced)


async def test_an_append_that_cannot_be_cut_back_is_refused_until_it_is_trimmed(make_rng: MakeRng) -> None:
    for seed in range(20):
        files = MemoryFiles(make_rng(seed))
        journal, quota = await open_journal(files)
        await journal.append("s", [b"one"])

        faults = files.faults
        faults.before = lambda number, name, path, faults=faults: setattr(
            faults, "fail_at", number if name in ("append", "truncate") else None
        )
        with pytest.raises(StoreError):
            await journal.append("s", [b"two" * 100])
        faults.before = faults.fail_at = None
        assert journal.used_bytes() == quota.used_bytes == files.size("journal/s.log")
        with pytest.raises(StoreError, match="torn"):
            await journal.append("s", [b"three"])
        await journal.trim("s")
        await journal.append("s", [b"three"])
        records = (await journal.read("s")).records
        assert records in ([(0, b"one"), (1, b"three")], [(0, b"one"), (1, b"two" * 100), (2, b"three")])
        assert journal.used_bytes() == quota.used_bytes == files.size("journal/s.log")


async def test_after_a_failed_fsync_a_stream_promises_nothing_more(make_rng: MakeRng) -> None:
    files = MemoryFiles(make_rng(1))
    journal, _ = await open_journal(files)
    await journal.append("s", [b"one"])
    files.faults.fail_at = files.faults.operations
    with pytest.raises(StoreError):
        await journal.sync("s")
    for attempt in (journal.sync("s"), journal.append("s", [b"two"]), journal.trim("s")):
        with pytest.raises(StoreError, match="an earlier fsync failed"):
            await attempt
    assert (await journal.read("s")).records == [(0, b"one")]
    await journal.drop("s")
    await journal.append("s", [b"anew"])
    await journal.sync("s")
    files.power_cut()
    assert (await (await open_journal(files))[0].read("s")).records == [(0, b"anew")]


TABLES = ("rows",)


@pytest.mark.parametrize("seed", range(10))
async def test_a_commit_in_which_the_process_dies_is_whole_or_nothing(make_rng: MakeRng, seed: int) -> None:
    faults = Faults(make_rng(seed))
    records = MemoryRecords(TABLES, faults)
    await records.commit([Put("rows", b"a", b"old")])
    faults.die_at = 1
    with pytest.raises(Died):
        await records.commit([Put("rows", b"a", b"new"), Put("rows", b"b", b"new")])
    with pytest.raises(Died):
        await records.commit([Put("rows", b"c", b"after death")])
    faults.revive()
    assert records.scan("rows") in ([(b"a", b"old")], [(b"a", b"new"), (b"b", b"new")])


async def test_both_outcomes_of_a_death_in_a_commit_occur(make_rng: MakeRng) -> None:
    outcomes = set()
    for seed in range(20):
        records = MemoryRecords(TABLES, faults := Faults(make_rng(seed), die_at=0))
        with pytest.raises(Died):
            await records.commit([Put("rows", b"a", b"new")])
        faults.revive()
        outcomes.add(records.get("rows", b"a"))
    assert outcomes == {None, b"new"}


@pytest.mark.parametrize("kind", ["fail_at", "full_at", "capacity_bytes"])
async def test_a_failed_commit_applies_nothing(make_rng: MakeRng, kind: str) -> None:
    records = MemoryRecords(TABLES, faults := Faults(make_rng(1)))
    await records.commit([Put("rows", b"a", b"old")])
    setattr(faults, kind, faults.used_bytes if kind == "capacity_bytes" else faults.operations)
    with pytest.raises(StoreError):
        await records.commit([Put("rows", b"a", b"longer than before"), Put("rows", b"b", b"new")])
    assert records.scan("rows") == [(b"a", b"old")]
    await records.commit([Delete("rows", b"a")])
    assert records.scan("rows") == []
    assert faults.used_bytes == records.size_bytes() == 0
