import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from kernel.errors import StoreDamaged, StoreError
from kernel.ports import Delete, Put
from storage import index_check
from storage.index_check import IndexReport, check_index, walk_index
from storage.lmdb_records import LmdbRecords

TABLES = ("rows", "others")
Rows = dict[str, list[tuple[bytes, bytes]]]


def make_index(directory: Path) -> Rows:
    """An index with branch, leaf, overflow and free pages."""

    async def fill() -> Rows:
        random_ = random.Random(1)
        records = LmdbRecords(directory, TABLES)
        for _ in range(12):
            sizes = [random_.choice([0, 10, 300, 900, 9000]) for _ in range(8)]
            await records.commit(
                [Put("rows", random_.randbytes(20), random_.randbytes(size)) for size in sizes]
            )
        keys = [key for key, _ in records.scan("rows")]
        await records.commit([Delete("rows", key) for key in keys[::9]])
        await records.commit([Put("others", b"one", b"1")])
        rows = {table: records.scan(table) for table in TABLES}
        records.close()
        return rows

    return asyncio.run(fill())


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Rows]:
    directory = tmp_path_factory.mktemp("sound") / "index"
    rows = make_index(directory)
    return (directory / "data.mdb").read_bytes(), rows


@pytest.fixture
def lay(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        (tmp_path / "data.mdb").write_bytes(data)
        (tmp_path / "lock.mdb").unlink(missing_ok=True)
        return tmp_path

    return write


def test_a_sound_index_passes(sound: tuple[bytes, Rows], lay: Callable[[bytes], Path]) -> None:
    assert check_index(lay(sound[0])) == IndexReport([], [], 0)


def test_a_new_index_passes(tmp_path: Path) -> None:
    LmdbRecords(tmp_path / "index", TABLES).close()
    assert check_index(tmp_path / "index") == IndexReport([], [], 0)
    lmdb.open(str(tmp_path / "bare")).close()
    assert check_index(tmp_path / "bare") == IndexReport([], [], 0)


@pytest.mark.parametrize("seed", [pytest.param(n, marks=[pytest.mark.slow] if n else []) for n in range(8)])
def test_after_a_flip_anywhere_nothing_wrong_is_taken_for_right(
    sound: tuple[bytes, Rows], lay: Callable[[bytes], Path], seed: int
) -> None:
    data, rows = sound
    random_ = random.Random(seed)
    kinds = set()
    for number in range(60):
        # Every second flip hits the meta pages or what lies close behind them.
        bit = random_.randrange(8 * (len(data) if number % 2 else 5 * 4096))
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        directory = lay(bytes(flipped))
        try:
            report = walk_index(directory)
        except (lmdb.Error, OSError):
            kinds.add("refused")
            continue
        kinds.add("problem" if report.problems else "damaged" if report.damaged else "harmless")
        if not report.problems:
            check_readable(directory, rows, report)
    # Which kinds there are depends on the seed; the first one meets them all.
    assert {"damaged", "harmless", *(["problem"] if seed == 0 else [])} <= kinds


def check_readable(directory: Path, rows: Rows, report: IndexReport) -> None:
    """What the check let pass gives every record as it was, or names it as damaged."""
    records = LmdbRecords(directory, TABLES)
    try:
        for table, expected in rows.items():
            damaged: list[bytes] = []
            found = dict(records.scan(table, damaged=damaged))
            assert len(found) + len(damaged) == len(expected)
            assert all(pair in expected for pair in found.items())
            assert {f"{table}/{key.hex()}" for key in damaged} <= set(report.damaged)
            for key, value in expected:
                try:
                    assert records.get(table, key) == value or damaged
                except StoreDamaged:
                    assert key in damaged
    finally:
        records.close()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_cut_file_is_a_problem(
    sound: tuple[bytes, Rows], lay: Callable[[bytes], Path], share: float
) -> None:
    assert check_index(lay(sound[0][: int(len(sound[0]) * share)])).problems


@pytest.mark.parametrize(
    "garbage", [b"", b"x", bytes(1 << 16), b"\xff" * (1 << 16), random.Random(1).randbytes(1 << 16)]
)
def test_garbage_is_a_problem(lay: Callable[[bytes], Path], garbage: bytes) -> None:
    assert check_index(lay(garbage)).problems


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    assert check_index(tmp_path).problems == ["data.mdb is missing"]


def test_the_state_before_the_last_commit_is_not_taken_for_the_present(
    sound: tuple[bytes, Rows], lay: Callable[[bytes], Path]
) -> None:
    data = bytearray(sound[0])
    places = [page * 4096 + index_check._TRANSACTION_OFFSET for page in range(2)]
    numbers = [int.from_bytes(data[at : at + 8], sys.byteorder) for at in places]
    older = places[numbers.index(min(numbers))]
    data[older + 3] ^= 1
    assert "two in a row" in check_index(lay(bytes(data))).problems[0]


def test_damaged_values_are_named_and_counted(tmp_path: Path) -> None:
    async def fill() -> None:
        records = LmdbRecords(tmp_path / "index", TABLES)
        await records.commit([Put("rows", b"%03d" % n, b"value %03d" % n) for n in range(150)])
        records.close()

    asyncio.run(fill())
    path = tmp_path / "index/data.mdb"
    path.write_bytes(path.read_bytes().replace(b"value", b"Value"))
    report = check_index(tmp_path / "index")
    assert report.problems == []
    assert report.damaged == [f"rows/{(b'%03d' % n).hex()}" for n in range(100)]
    assert report.damaged_count == 150


def run_instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Lets the child run another program."""
    real = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda command, **options: real([sys.executable, "-c", program], **options)
    )


def test_a_check_that_takes_too_long_is_ended(
    sound: tuple[bytes, Rows], lay: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_instead(monkeypatch, "import signal; signal.pause()")
    assert "did not end within" in check_index(lay(sound[0]), timeout_s=0.2).problems[0]


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGBUS)", "ended with SIGBUS"),
        ("raise SystemExit('no such thing')", "looking through it failed: no such thing"),
        ("print('{}')", "looking through it failed"),
        ("print('[1]')", "looking through it failed"),
    ],
)
def test_a_child_that_breaks_is_a_problem(
    sound: tuple[bytes, Rows],
    lay: Callable[[bytes], Path],
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    words: str,
) -> None:
    run_instead(monkeypatch, program)
    assert words in check_index(lay(sound[0])).problems[0]


def test_a_child_that_cannot_start_is_an_error(
    sound: tuple[bytes, Rows], lay: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(StoreError):
        check_index(lay(sound[0]))


def test_the_child_gets_no_secrets_in_its_environment(
    sound: tuple[bytes, Rows], lay: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    def record(command: list[str], **options: object) -> object:
        seen.update(options)
        return subprocess.CompletedProcess(
            command, 0, json.dumps({"problems": [], "damaged": [], "damaged_count": 0})
        )

    monkeypatch.setattr(subprocess, "run", record)
    check_index(lay(sound[0]))
    environment = seen["env"]
    assert isinstance(environment, dict)
    assert set(environment) == {"PYTHONPATH"}
