from collections.abc import Callable

import pytest

from kernel.errors import StoreError, StoreFull
from kernel.ports import Rng
from storage.faults import Died, Faults
from storage.memory_files import MemoryFiles

MakeRng = Callable[[int], Rng]


@pytest.fixture
def files(make_rng: MakeRng) -> MemoryFiles:
    return MemoryFiles(make_rng(1))


def outcomes(make_rng: MakeRng, story: Callable[[MemoryFiles], None]) -> set[tuple[tuple[str, bytes], ...]]:
    """Everything that can be there after a power cut at the end of a story."""
    found = set()
    for seed in range(300):
        files = MemoryFiles(make_rng(seed))
        story(files)
        files.power_cut()
        found.add(tuple((path, files.read(path)) for path in files.paths()))
    return found


def make_durable(files: MemoryFiles, path: str, data: bytes) -> None:
    files.create(path, [data])
    files.fsync(path)
    parts = path.split("/")
    for depth in range(len(parts)):
        files.fsync_dir("/".join(parts[:depth]))


def test_what_was_fsynced_name_and_all_survives(make_rng: MakeRng) -> None:
    def story(files: MemoryFiles) -> None:
        make_durable(files, "a/b/c", b"data")

    assert outcomes(make_rng, story) == {(("a/b/c", b"data"),)}


def test_a_name_that_was_not_fsynced_may_be_lost_with_its_contents(make_rng: MakeRng) -> None:
    def story(files: MemoryFiles) -> None:
        files.create("a", [b"data"])
        files.fsync("a")

    assert outcomes(make_rng, story) == {(), (("a", b"data"),)}


def test_a_lost_directory_takes_everything_below_with_it(make_rng: MakeRng) -> None:
    def story(files: MemoryFiles) -> None:
        files.create("d/a", [b"data"])
        files.fsync("d/a")
        files.fsync_dir("d")

    assert outcomes(make_rng, story) == {(), (("d/a", b"data"),)}


def test_unsynced_appends_may_be_lost_torn_or_mixed(make_rng: MakeRng) -> None:
    def story(files: MemoryFiles) -> None:
        make_durable(files, "a", b"D" * 512)
        files.append("a", [b"x" * 512 + b"y" * 512])
        files.append("a", [b"z" * 512])

    found = {data for ((_, data),) in outcomes(make_rng, story)}
    assert all(data.startswith(b"D" * 512) for data in found)
    tails = {data[512:] for data in found}
    x, y, z, hole = b"x" * 512, b"y" * 512, b"z" * 512, bytes(512)
    assert tails.issuperset({b"", x, x + y, x + y + z, hole + y, hole + hole + z, x + hole + z})
    assert any(len(tail) % 512 > 0 for tail in tails)


def test_an_unsynced_cut_may_be_undone(make_rng: MakeRng) -> None:
    def story(files: MemoryFiles) -> None:
        make_durable(files, "a", b"long")
        files.truncate("a", 1)

    assert outcomes(make_rng, story) == {(("a", b"long"),), (("a", b"l"),)}


def test_an_unsynced_removal_may_be_undone_and_a_synced_one_not(make_rng: MakeRng) -> None:
    def story(files: MemoryFiles) -> None:
        make_durable(files, "a", b"A")
        make_durable(files, "b", b"B")
        files.remove("a")
        files.fsync_dir("")
        files.remove("b")

    assert outcomes(make_rng, story) == {(), (("b", b"B"),)}


def test_a_rename_is_one_change_until_a_directory_is_fsynced(make_rng: MakeRng) -> None:
    def move(files: MemoryFiles) -> None:
        make_durable(files, "d/a", b"A")
        make_durable(files, "e/b", b"B")
        files.rename("d/a", "e/b")

    before, after = (("d/a", b"A"), ("e/b", b"B")), (("e/b", b"A"),)
    assert outcomes(make_rng, move) == {before, after}

    def move_and_sync(files: MemoryFiles) -> None:
        move(files)
        files.fsync_dir("e")

    assert outcomes(make_rng, move_and_sync) == {after, (("d/a", b"A"), ("e/b", b"A"))}


def test_what_a_failed_fsync_should_have_saved_is_never_saved(make_rng: MakeRng) -> None:
    def story(files: MemoryFiles) -> None:
        make_durable(files, "a", b"old")
        files.append("a", [b"new"])
        files.faults.fail_at = files.faults.operations
        with pytest.raises(StoreError):
            files.fsync("a")
        files.fsync("a")
        assert files.read("a") == b"oldnew"

    assert outcomes(make_rng, story) == {(("a", b"old"),)}


def test_a_killed_process_leaves_what_it_wrote(files: MemoryFiles) -> None:
    files.create("d/a", [b"data"])
    files.process_kill()
    assert files.read("d/a") == b"data"


def test_death_takes_every_later_operation_with_it(make_rng: MakeRng) -> None:
    prefixes = set()
    for seed in range(50):
        files = MemoryFiles(rng := make_rng(seed), Faults(rng, die_at=1))
        files.create("a", [b"1"])
        with pytest.raises(Died):
            files.append("a", [b"234"])
        with pytest.raises(Died):
            files.read("a")
        with pytest.raises(Died):
            files.remove("a")
        files.process_kill()
        prefixes.add(files.read("a"))
    assert prefixes == {b"1", b"12", b"123", b"1234"}


def test_capacity_is_filled_to_the_last_byte_and_freed_by_removal(make_rng: MakeRng) -> None:
    files = MemoryFiles(rng := make_rng(1), Faults(rng, capacity_bytes=10))
    files.create("a", [b"1234"])
    with pytest.raises(StoreFull):
        files.append("a", [b"56789ab"])
    assert files.read("a") == b"123456789a"
    with pytest.raises(StoreFull):
        files.create("b", [b"x"])
    files.remove("a")
    files.create("b", [b"0123456789"])
    files.truncate("b", 3)
    files.create("b", [b"ABCDEFGHIJ"])
    assert files.faults.used_bytes == 10


def test_full_and_failure_at_an_operation_leave_a_prefix(make_rng: MakeRng) -> None:
    for kind, error in (("full_at", StoreFull), ("fail_at", StoreError)):
        files = MemoryFiles(make_rng(1))
        setattr(files.faults, kind, 0)
        with pytest.raises(error):
            files.create("a", [b"12345678"])
        assert b"12345678".startswith(files.read("a"))


def test_full_hits_only_what_needs_space(make_rng: MakeRng) -> None:
    files = MemoryFiles(make_rng(1))
    files.create("a", [b"1"])
    files.faults.full_at = files.faults.operations
    assert files.read("a") == b"1"


def test_every_operation_is_announced(make_rng: MakeRng) -> None:
    seen: list[tuple[int, str, str]] = []
    files = MemoryFiles(
        rng := make_rng(1), Faults(rng, before=lambda number, name, path: seen.append((number, name, path)))
    )
    files.create("d/a", [b"1"])
    files.rename("d/a", "b")
    files.fsync_dir("")
    files.list_dir("d")
    assert seen == [(0, "create", "d/a"), (1, "rename", "b"), (2, "fsync_dir", ""), (3, "list_dir", "d")]


def test_a_flipped_bit_is_there_after_a_power_cut(files: MemoryFiles) -> None:
    make_durable(files, "a", bytes(4))
    files.flip("a", 17)
    assert files.read("a") == b"\0\0\2\0"
    files.power_cut()
    assert files.read("a") == b"\0\0\2\0"


def test_the_same_seed_gives_the_same_disk(make_rng: MakeRng) -> None:
    def story(seed: int) -> list[tuple[str, bytes]]:
        files = MemoryFiles(make_rng(seed))
        for number in range(20):
            files.append(f"d{number % 3}/f{number % 5}", [bytes([number]) * 1500])
            if number % 4 == 0:
                files.fsync(f"d{number % 3}/f{number % 5}")
                files.fsync_dir(f"d{number % 3}")
                files.fsync_dir("")
        files.power_cut()
        return [(path, files.read(path)) for path in files.paths()]

    assert all(story(seed) == story(seed) for seed in range(5))
    assert len({tuple(story(seed)) for seed in range(5)}) > 1


def test_the_same_file_twice_in_a_rename_stays(files: MemoryFiles) -> None:
    files.create("a", [b"x"])
    files.rename("a", "a")
    assert files.read("a") == b"x"


def test_what_is_certain_to_stay_can_be_asked(files: MemoryFiles) -> None:
    make_durable(files, "a/b", b"synced")
    files.append("a/b", [b", not synced"])
    assert files.read_durable("a/b") is None
    assert files.read_durable("a/b", whole=False) == b"synced"
    files.create("a/c", [b"without a name"])
    files.fsync("a/c")
    assert files.read_durable("a/c", whole=False) is None
