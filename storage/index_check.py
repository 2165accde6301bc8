"""Looks whether an index file is sound, before LMDB may touch it.

Rules:
- LMDB trusts its file: a damaged one may crash the process, or loop, or give back an older state as the
  present one. So the file is first walked in a short-lived child process, with bounds on its time and memory:
  1. the two meta pages must be those of two commits in a row, each in its place (a flipped transaction
     number would bring back the state before the last commit);
  2. `lmdb.verify`, which is plain Python and never hands the file to LMDB, checks every page: its structure,
     the order of keys, all counters, and that no page is both used and free;
  3. only then LMDB opens it, read-only, and the checksum of every value is checked.
- What 1 and 2 find, a crash and a time-out are *problems*: the index must be rebuilt. A value whose
  checksum does not hold is *damaged*: it is named, and everything else can be used.

Run as `python -m storage.index_check DIRECTORY`; prints the report as one line of JSON.
"""

import json
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import lmdb
import lmdb.verify

from kernel.errors import StoreError
from storage import record_format

DATA_FILE = "data.mdb"

_verify: Callable[[str], list[str]] = lmdb.verify.verify

_META_PAGES = 2
# Behind page header, magic, version, address, map size, two databases and last page (LMDB 0.9).
_TRANSACTION_OFFSET = 16 + 4 + 4 + 8 + 8 + 2 * 48 + 8
_PAGE_SIZE_OFFSET = 16 + 4 + 4 + 8 + 8
_PAGE_SIZES = (4096, 8192, 16384, 32768)
_MAX_NAMED = 100
_LEAST_TIMEOUT_S = 60.0
_LEAST_BYTES_PER_S = 2 << 20
_EXTRA_MEMORY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What is wrong with an index, in words.

    Attributes:
        problems: why it must not be used; empty if it is sound.
        damaged: "table/key" of values that fail their checksum; at most 100 are named.
        damaged_count: how many there are.
    """

    problems: list[str]
    damaged: list[str]
    damaged_count: int


def check_index(directory: Path, *, timeout_s: float | None = None) -> IndexReport:
    """Walks an index in a child process. Blocking.

    Args:
        directory: where the data file is.
        timeout_s: at most so long; by default a minute, and more if the file is large.

    Raises:
        StoreError: the file cannot be looked at, or the child cannot be started.
    """
    data_file = directory / DATA_FILE
    try:
        timeout_s = timeout_s or _LEAST_TIMEOUT_S + data_file.stat().st_size / _LEAST_BYTES_PER_S
    except FileNotFoundError:
        return IndexReport([f"{DATA_FILE} is missing"], [], 0)
    except OSError as error:
        raise StoreError(f"cannot look at the index: {error.strerror}") from error
    try:
        child = subprocess.run(
            [sys.executable, "-s", "-m", "storage.index_check", str(directory.absolute())],
            env={"PYTHONPATH": str(Path(__file__).absolute().parents[1])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return IndexReport([f"looking through it did not end within {timeout_s:.0f} s"], [], 0)
    except OSError as error:
        raise StoreError(f"cannot start the check of the index: {error.strerror}") from error
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        return IndexReport([f"it is so damaged that looking through it ended with {name}"], [], 0)
    try:
        return IndexReport(**json.loads(child.stdout))
    except (ValueError, TypeError):
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return IndexReport([f"looking through it failed: {last[:200]}"], [], 0)


def walk_index(directory: Path) -> IndexReport:
    """Looks through an index in this process, which may not survive it.

    Raises:
        lmdb.Error: LMDB refuses the file.
        OSError: the file cannot be read.
    """
    problems = _check_meta_pages(directory / DATA_FILE)
    if not problems:
        try:
            problems = _verify(str(directory))
        except lmdb.verify.VerifyError as error:
            problems = [str(error)]
    if problems:
        return IndexReport([problem[:200] for problem in problems[:_MAX_NAMED]], [], 0)
    named: list[str] = []
    count = 0
    for count, name in enumerate(_find_damaged(directory), 1):
        if count <= _MAX_NAMED:
            named.append(name)
    return IndexReport([], named, count)


def _check_meta_pages(data_file: Path) -> list[str]:
    with data_file.open("rb") as file:
        start = file.read(_PAGE_SIZE_OFFSET + 4)
        page_size = (
            struct.unpack_from("=I", start, _PAGE_SIZE_OFFSET)[0] if len(start) > _PAGE_SIZE_OFFSET else 0
        )
        if page_size not in _PAGE_SIZES:
            return ["the first page is not that of an index"]
        numbers = []
        for page in range(_META_PAGES):
            file.seek(page * page_size + _TRANSACTION_OFFSET)
            numbers.append(int.from_bytes(file.read(8), sys.byteorder))
    in_place = all(number % _META_PAGES == page for page, number in enumerate(numbers) if number)
    if in_place and (abs(numbers[0] - numbers[1]) == 1 or numbers == [0, 0]):
        return []
    return [f"its meta pages name the transactions {numbers[0]} and {numbers[1]}, which are not two in a row"]


def _find_damaged(directory: Path) -> Iterator[str]:
    with lmdb.open(str(directory), readonly=True, lock=False, max_dbs=_MAX_NAMED) as environment:
        with environment.begin() as transaction, transaction.cursor() as cursor:
            names = list(cursor.iternext(keys=True, values=False))
        for name in names:
            database = environment.open_db(name, create=False)
            table = name.decode(errors="replace")
            table_key = record_format.compute_table_key(table)
            with environment.begin(database) as transaction, transaction.cursor() as cursor:
                for key, stored in cursor.iternext():
                    if record_format.decode_value(table_key, key, stored) is None:
                        yield f"{table}/{key.hex()}"


def _bound_process(data_file: Path) -> None:
    memory = 2 * data_file.stat().st_size + _EXTRA_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: list[str]) -> int:
    """Prints the report on the index in `arguments[0]`."""
    directory = Path(arguments[0])
    try:
        _bound_process(directory / DATA_FILE)
        report = walk_index(directory)
    except (lmdb.Error, OSError, MemoryError) as error:
        report = IndexReport([f"it cannot be read: {error}"[:200]], [], 0)
    json.dump(
        {"problems": report.problems, "damaged": report.damaged, "damaged_count": report.damaged_count},
        sys.stdout,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
