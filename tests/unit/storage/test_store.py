import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from kernel.errors import StoreDamaged, StoreError, StoreTooNew
from kernel.ports import Put, Rng
from storage.disk_store import open_disk_store
from storage.faults import Died
from storage.inline import InlineOffload
from storage.memory_files import MemoryFiles
from storage.memory_records import MemoryRecords
from storage.os_files import OsFiles
from storage.schema import (
    PRESENT,
    VERSION,
    MigrationPorts,
    Schema,
    encode_format,
    read_version,
    write_version,
)
from storage.store import META, OpenedIndex, Store, open_store, set_index_aside

MakeRng = Callable[[int], Rng]
VECTORS = Path(__file__).parents[2] / "vectors"
TABLES = ("sessions", "chunks", "checkpoints", "tombstones")
INLINE = InlineOffload()
ID = bytes(range(32))


class World:
    """A store in memory. Its index is new when it was asked to be."""

    def __init__(self, rng: Rng) -> None:
        self.files = MemoryFiles(rng)
        self.records = MemoryRecords((*TABLES, META), self.files.faults)
        self.present = False

    def open_index(self, new: bool) -> OpenedIndex:
        if new:
            self.records = MemoryRecords((*TABLES, META), self.files.faults)
            self.present = True
        elif not self.present:
            raise StoreDamaged("the index is missing")
        return OpenedIndex(self.records)

    async def open(self, schema: Schema = PRESENT, *, rebuild: bool = False) -> Store:
        return await open_store(self.files, INLINE, self.open_index, schema=schema, rebuild=rebuild)


async def test_a_new_store_is_made_and_opened_again(make_rng: MakeRng) -> None:
    world = World(make_rng(1))
    store = await world.open()
    await store.records.commit([Put("sessions", b"k", b"v")])
    await store.blobs.put(ID, [b"12345"])
    await store.journal.append("s", [b"x"])
    usage = store.usage()
    assert (usage.blob_bytes, usage.journal_bytes) == (5, world.files.size("journal/s.log"))
    assert usage.index_bytes == world.records.size_bytes()
    assert store.quota.used_bytes == usage.blob_bytes + usage.journal_bytes
    store.close()
    again = await world.open()
    assert again.usage() == usage
    assert again.records.get("sessions", b"k") == b"v"


async def test_a_store_that_was_being_made_is_made_again(make_rng: MakeRng) -> None:
    world = World(make_rng(1))
    await world.open()
    operations = world.files.faults.operations
    for seed in range(10):
        for at in range(operations):
            world = World(make_rng(seed))
            world.files.faults.die_at = at
            with suppress(Died):
                await world.open()
            world.files.power_cut()
            store = await world.open()
            await store.blobs.put(ID, [b"x"])
            world.files.power_cut()
            assert (await world.open()).blobs.ids() == [ID]


async def test_a_store_whose_format_is_gone_is_not_taken_for_a_new_one(make_rng: MakeRng) -> None:
    for kind in ("blobs", "journal"):
        world = World(make_rng(1))
        store = await world.open()
        await (store.blobs.put(ID, [b"x"]) if kind == "blobs" else store.journal.append("s", [b"x"]))
        world.files.remove("format")
        for rebuild in (False, True):
            with pytest.raises(StoreDamaged, match="format"):
                await world.open(rebuild=rebuild)


async def test_a_newer_store_is_refused_before_anything_is_touched(make_rng: MakeRng) -> None:
    world = World(make_rng(1))
    await world.open()
    write_version(world.files, VERSION + 1)
    world.files.create("blobs/unfinished/" + ID.hex(), [b"of the newer version"])
    before = world.files.paths()
    with pytest.raises(StoreTooNew):
        await world.open()
    with pytest.raises(StoreTooNew):
        await world.open(rebuild=True)
    assert world.files.paths() == before


async def test_a_rebuilt_index_counts_only_when_it_is_complete(make_rng: MakeRng) -> None:
    world = World(make_rng(1))
    await (await world.open()).records.commit([Put("sessions", b"k", b"v")])
    store = await world.open(rebuild=True)
    assert store.records.get("sessions", b"k") is None
    with pytest.raises(StoreDamaged, match="incomplete") as error:
        await world.open()
    assert "doctor --rebuild" in error.value.hint
    store = await world.open(rebuild=True)
    await store.records.commit([Put("sessions", b"k", b"rebuilt")])
    await store.complete_rebuild()
    assert (await world.open()).records.get("sessions", b"k") == b"rebuilt"


class Renaming:
    """Two migrations: 1 → 2 moves rows to another table, 2 → 3 renames a stream. Both may be run again."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.schema = Schema(3, {1: self.first, 2: self.second})

    async def first(self, ports: MigrationPorts) -> None:
        self.ran.append(1)
        for key, value in ports.records.scan("sessions"):
            await ports.records.commit([Put("tombstones", key, b"2:" + value)])

    async def second(self, ports: MigrationPorts) -> None:
        self.ran.append(2)
        with suppress(FileNotFoundError):
            await ports.offload.run(ports.files.rename, "journal/old.log", "journal/new.log")
        await ports.offload.run(ports.files.fsync_dir, "journal")


async def make_old_store(world: World) -> None:
    store = await world.open()
    await store.records.commit([Put("sessions", key, b"v") for key in (b"a", b"b", b"c")])
    await store.journal.append("old", [b"x"])
    await store.journal.sync("old")


def check_migrated(world: World, store: Store) -> None:
    assert store.records.scan("tombstones") == [(key, b"2:v") for key in (b"a", b"b", b"c")]
    assert store.journal.streams() == ["new"]
    assert read_version(world.files, Schema(3, {})) == 3


async def test_an_older_store_is_brought_forward_step_by_step(make_rng: MakeRng) -> None:
    world, renaming = World(make_rng(1)), Renaming()
    await make_old_store(world)
    check_migrated(world, await world.open(renaming.schema))
    check_migrated(world, await world.open(renaming.schema))
    assert renaming.ran == [1, 2]


async def test_migrations_survive_a_death_at_every_operation(make_rng: MakeRng) -> None:
    world = World(make_rng(1))
    await make_old_store(world)
    world.files.faults.revive()
    await world.open(Renaming().schema)
    for at in range(world.files.faults.operations):
        for seed in range(4):
            world, renaming = World(make_rng(seed)), Renaming()
            await make_old_store(world)
            world.files.power_cut()
            world.files.faults.die_at = at
            with suppress(Died):
                await world.open(renaming.schema)
            world.files.power_cut()
            check_migrated(world, await world.open(renaming.schema))
            assert renaming.ran in ([1, 2], [1, 1, 2], [1, 2, 2], [1, 2, 1, 2])


async def test_a_failed_migration_leaves_the_version(make_rng: MakeRng) -> None:
    world = World(make_rng(1))
    await make_old_store(world)

    async def fail(ports: MigrationPorts) -> None:
        raise StoreError("planned")

    with pytest.raises(StoreError, match="planned"):
        await world.open(Schema(2, {1: fail}))
    assert read_version(world.files, PRESENT) == 1
    check_migrated(world, await world.open(Renaming().schema))


async def test_a_version_without_a_way_on_is_refused(make_rng: MakeRng) -> None:
    world = World(make_rng(1))
    await make_old_store(world)
    with pytest.raises(StoreDamaged, match="no way"):
        await world.open(Schema(2, {}))


@pytest.mark.parametrize("at", range(12))
async def test_setting_an_index_aside_overwrites_nothing_even_when_killed(make_rng: MakeRng, at: int) -> None:
    for seed in range(10):
        files = MemoryFiles(make_rng(seed))
        for number in range(2):
            files.create("index/data.mdb", [b"data %d" % number])
            files.create("index/lock.mdb", [b"lock %d" % number])
            for path in ("index/data.mdb", "index/lock.mdb"):
                files.fsync(path)
            for path in ("index", ""):
                files.fsync_dir(path)
            if number == 0:
                assert set_index_aside(files) == "index-aside-1"
        files.faults.revive()
        files.faults.die_at = at
        with suppress(Died):
            set_index_aside(files)
        files.power_cut()
        set_index_aside(files)
        assert set_index_aside(files) is None
        contents = {files.read(path) for path in files.paths() if not path.endswith("README")}
        assert contents == {b"data 0", b"lock 0", b"data 1", b"lock 1"}


async def test_an_index_that_was_set_aside_stays_there(make_rng: MakeRng) -> None:
    for seed in range(20):
        files = MemoryFiles(make_rng(seed))
        files.create("index/data.mdb", [b"data"])
        files.fsync("index/data.mdb")
        set_index_aside(files)
        files.power_cut()
        assert files.paths() == ["index-aside-1/README", "index-aside-1/data.mdb"]


async def test_on_a_disk(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    store = await open_disk_store(directory, INLINE, tables=TABLES, quota_bytes=1 << 30)
    await store.blobs.put(ID, [b"12345"])
    await store.journal.append("s", [b"x"])
    await store.records.commit([Put("chunks", b"k", bytes(100_000))])
    usage = store.usage()
    assert (usage.blob_bytes, usage.journal_bytes, usage.index_bytes) == measure(directory)
    store.close()
    again = await open_disk_store(directory, INLINE, tables=TABLES)
    assert (again.usage(), again.damaged) == (usage, [])
    again.close()


def measure(directory: Path) -> tuple[int, ...]:
    return tuple(
        sum(path.stat().st_size for path in (directory / part).rglob("*") if path.is_file())
        for part in ("blobs", "journal", "index")
    )


@pytest.mark.parametrize("damage", ["missing", "garbage", "cut"])
async def test_a_damaged_index_on_a_disk_is_refused_moved_aside_and_replaced(
    tmp_path: Path, damage: str
) -> None:
    directory = tmp_path / "store"
    (await open_disk_store(directory, INLINE, tables=TABLES)).close()
    path = directory / "index/data.mdb"
    broken = {"missing": None, "garbage": b"garbage", "cut": path.read_bytes()[:8192]}[damage]
    path.unlink() if broken is None else path.write_bytes(broken)
    with pytest.raises(StoreDamaged) as error:
        await open_disk_store(directory, INLINE, tables=TABLES)
    assert "doctor --rebuild" in error.value.hint
    assert (path.read_bytes() if path.exists() else None) == broken
    store = await open_disk_store(directory, INLINE, tables=TABLES, rebuild=True)
    await store.complete_rebuild()
    store.close()
    aside = directory / "index-aside-1/data.mdb"
    assert (aside.read_bytes() if aside.exists() else None) == broken
    (await open_disk_store(directory, INLINE, tables=TABLES)).close()


async def test_damaged_values_do_not_keep_a_store_from_opening(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    store = await open_disk_store(directory, INLINE, tables=TABLES)
    await store.records.commit([Put("chunks", b"%03d" % n, b"value %03d" % n) for n in range(120)])
    store.close()
    path = directory / "index/data.mdb"
    path.write_bytes(path.read_bytes().replace(b"value", b"Value"))
    store = await open_disk_store(directory, INLINE, tables=TABLES)
    assert len(store.damaged) == 101
    assert store.damaged[0] == f"record chunks/{b'000'.hex()} of the index"
    assert store.damaged[-1] == "and 20 more records"
    store.close()


async def test_a_place_where_no_store_can_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for directory in (tmp_path / "file", tmp_path / "missing" / "store"):
        with pytest.raises(StoreError):
            await open_disk_store(directory, INLINE, tables=TABLES)


def test_there_is_a_golden_store_of_every_version() -> None:
    names = sorted(path.name for path in (VECTORS / "stores").iterdir() if path.is_dir())
    assert names == sorted(f"v{version}" for version in range(1, VERSION + 1))


@pytest.mark.parametrize("version", range(1, VERSION + 1))
async def test_a_golden_store_opens_and_holds_everything(tmp_path: Path, version: int) -> None:
    shutil.copytree(VECTORS / f"stores/v{version}", directory := tmp_path / "store")
    expected = json.loads((VECTORS / f"stores/v{version}.json").read_text())
    store = await open_disk_store(directory, INLINE, tables=TABLES)
    assert store.damaged == []
    for table, rows in expected["records"].items():
        assert [[key.hex(), value.hex()] for key, value in store.records.scan(table)] == rows
    assert {blob_id.hex() for blob_id in store.blobs.ids()} == set(expected["blobs"])
    for blob_id, data in expected["blobs"].items():
        assert (await store.blobs.read(bytes.fromhex(blob_id))).hex() == data
    assert store.journal.streams() == sorted(expected["journal"])
    for stream, records in expected["journal"].items():
        contents = await store.journal.read(stream)
        assert [[n, payload.hex()] for n, payload in contents.records] == records
        assert (contents.damaged, contents.torn_bytes) == ([], 0)
        await store.journal.append(stream, [b"goes on"])
    usage = store.usage()
    assert (usage.blob_bytes, usage.journal_bytes, usage.index_bytes) == measure(directory)
    assert read_version(OsFiles(directory), PRESENT) == VERSION
    store.close()


def test_the_golden_store_of_this_version_names_it() -> None:
    assert (VECTORS / f"stores/v{VERSION}/format").read_bytes() == encode_format(VERSION)
