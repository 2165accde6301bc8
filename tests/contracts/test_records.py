"""What every `Records` does."""

from typing import Protocol

import pytest

from kernel.errors import Conflict, StoreDamaged, UsageError
from kernel.ports import Delete, Expect, Operation, Put, Records


class Bench(Protocol):
    def open(self) -> Records: ...

    def rot(self, table: str, key: bytes, stored: bytes, bit: int) -> None: ...


@pytest.fixture
def records(bench: Bench) -> Records:
    return bench.open()


async def put(records: Records, *keys: bytes, table: str = "fruit") -> None:
    await records.commit([Put(table, key, b"value of " + key) for key in keys])


async def test_get_gives_what_was_put_last(records: Records) -> None:
    assert records.get("fruit", b"k") is None
    await records.commit([Put("fruit", b"k", b"1"), Put("fruit", b"k", b"2")])
    assert records.get("fruit", b"k") == b"2"
    await records.commit([Put("fruit", b"k", b"")])
    assert records.get("fruit", b"k") == b""


async def test_tables_do_not_mix(records: Records) -> None:
    await records.commit([Put("fruit", b"k", b"1"), Put("stone", b"k", b"2")])
    assert (records.get("fruit", b"k"), records.get("stone", b"k")) == (b"1", b"2")


async def test_delete_removes_and_missing_is_fine(records: Records) -> None:
    await put(records, b"k")
    await records.commit([Delete("fruit", b"k"), Delete("fruit", b"never")])
    assert records.get("fruit", b"k") is None


async def test_operations_apply_in_order(records: Records) -> None:
    await records.commit([Put("fruit", b"k", b"1"), Delete("fruit", b"k"), Expect("fruit", b"k", None)])
    assert records.get("fruit", b"k") is None


@pytest.mark.parametrize(
    ("expected", "holds"), [(b"value of k", True), (b"other", False), (None, False), (b"value of k\0", False)]
)
async def test_expect_lets_all_or_nothing_happen(
    records: Records, expected: bytes | None, holds: bool
) -> None:
    await put(records, b"k")
    batch: list[Operation] = [
        Put("fruit", b"a", b"1"),
        Expect("fruit", b"k", expected),
        Delete("fruit", b"k"),
    ]
    if holds:
        await records.commit(batch)
    else:
        with pytest.raises(Conflict):
            await records.commit(batch)
    assert (records.get("fruit", b"a") is not None, records.get("fruit", b"k") is None) == (holds, holds)


async def test_expect_missing(records: Records) -> None:
    await records.commit([Expect("fruit", b"k", None), Put("fruit", b"k", b"1")])
    with pytest.raises(Conflict):
        await records.commit([Expect("fruit", b"k", None), Put("fruit", b"k", b"2")])
    assert records.get("fruit", b"k") == b"1"


KEYS = [b"a", b"a\0", b"ab", b"b", b"b\xff", b"b\xff\xff", b"c", b"\xff", b"\xff\xff", b"\xff" * 255]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("prefix", [b"", b"a", b"b", b"b\xff", b"\xff", b"\xff\xff", b"d", b"0"])
async def test_scan_finds_what_a_sorted_list_says(records: Records, prefix: bytes, reverse: bool) -> None:
    await put(records, *KEYS)
    await put(records, b"elsewhere", table="stone")
    for start in (b"", b"a", b"a\0\0", b"aa", b"b\xff", b"bzz", b"c", b"e", b"\xff\xff", b"\0"):
        for limit in (None, 0, 1, 3, 100):
            keys = sorted(key for key in KEYS if key.startswith(prefix))
            if reverse:
                keys = [key for key in reversed(keys) if not start or key <= start]
            else:
                keys = [key for key in keys if key >= start]
            found = records.scan("fruit", prefix=prefix, start=start, limit=limit, reverse=reverse)
            assert found == [(key, b"value of " + key) for key in keys[:limit]]


def test_scan_of_an_empty_table(records: Records) -> None:
    assert records.scan("fruit") == records.scan("fruit", prefix=b"a", reverse=True) == []


async def test_reads_are_snapshots_of_whole_commits(records: Records) -> None:
    await put(records, b"a", b"b")
    before = records.scan("fruit")
    await records.commit([Delete("fruit", b"a"), Put("fruit", b"c", b"")])
    assert [key for key, _ in before] == [b"a", b"b"]
    assert [key for key, _ in records.scan("fruit")] == [b"b", b"c"]


async def test_commits_outlive_the_process(bench: Bench) -> None:
    await put(bench.open(), b"k")
    assert bench.open().get("fruit", b"k") == b"value of k"


@pytest.mark.parametrize("key", [b"", b"x" * 256])
async def test_keys_of_impossible_length_are_refused(records: Records, key: bytes) -> None:
    for operation in (Put("fruit", key, b""), Delete("fruit", key), Expect("fruit", key, None)):
        with pytest.raises(UsageError):
            await records.commit([Put("fruit", b"k", b"1"), operation])
    with pytest.raises(UsageError):
        records.get("fruit", key)
    assert records.scan("fruit") == []


async def test_scan_refuses_what_no_key_can_begin_with(records: Records) -> None:
    with pytest.raises(UsageError):
        records.scan("fruit", prefix=b"x" * 256)
    with pytest.raises(UsageError):
        records.scan("fruit", start=b"x" * 256)


async def test_values_that_are_too_long_are_refused(records: Records) -> None:
    with pytest.raises(UsageError):
        await records.commit([Put("fruit", b"k", bytes((16 << 20) + 1))])


async def test_unknown_tables_are_refused(records: Records) -> None:
    with pytest.raises(UsageError):
        records.get("metal", b"k")
    with pytest.raises(UsageError):
        records.scan("metal")
    with pytest.raises(UsageError):
        await records.commit([Put("fruit", b"k", b"1"), Put("metal", b"k", b"1")])
    assert records.get("fruit", b"k") is None


@pytest.mark.parametrize("bit", [0, 7, 100, 8 * 299 + 3])
async def test_a_rotten_value_is_named_and_costs_no_other(bench: Bench, bit: int) -> None:
    value = b"rotten" * 50
    await bench.open().commit([Put("fruit", key, b"sound " + key) for key in (b"a", b"b", b"d")])
    await bench.open().commit([Put("fruit", b"c!", value)])
    bench.rot("fruit", b"c!", value, bit)
    records = bench.open()
    for attempt in (lambda: records.get("fruit", b"c!"), lambda: records.scan("fruit")):
        with pytest.raises(StoreDamaged, match=r"6321.*fruit"):
            attempt()
    with pytest.raises(StoreDamaged):
        await records.commit([Expect("fruit", b"c!", value), Put("fruit", b"a", b"changed")])
    damaged: list[bytes] = []
    found = records.scan("fruit", damaged=damaged)
    assert (found, damaged) == ([(key, b"sound " + key) for key in (b"a", b"b", b"d")], [b"c!"])
    await records.commit([Put("fruit", b"c!", b"mended")])
    assert records.get("fruit", b"c!") == b"mended"


async def test_size_grows_with_contents(records: Records) -> None:
    before = records.size_bytes()
    await records.commit([Put("fruit", b"k", bytes(1 << 20))])
    assert records.size_bytes() >= before + (1 << 20)
