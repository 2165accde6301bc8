"""The adapters that every contract suite runs over."""

import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kernel.ports import Files, Records, Rng
from storage.faults import Faults
from storage.inline import InlineOffload
from storage.lmdb_records import LmdbRecords
from storage.memory_files import MemoryFiles
from storage.memory_records import MemoryRecords
from storage.os_files import OsFiles
from tests.contracts.rpc_world import World, make_world


class SeededRng:
    """`Rng` from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)


@pytest.fixture
def make_rng() -> Callable[[int], Rng]:
    return SeededRng


@pytest.fixture
def offload() -> InlineOffload:
    return InlineOffload()


@pytest.fixture
def memory_files() -> MemoryFiles:
    return MemoryFiles(SeededRng(1))


@pytest.fixture(params=["os", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return OsFiles(tmp_path) if request.param == "os" else MemoryFiles(SeededRng(1))


@dataclass
class LmdbBench:
    """Records in LMDB, and what a test does to their disk."""

    directory: Path
    tables: tuple[str, ...]
    opened: list[LmdbRecords] = field(default_factory=list)

    def open(self) -> Records:
        self.close()
        self.opened.append(LmdbRecords(self.directory, self.tables))
        return self.opened[-1]

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()

    def rot(self, table: str, key: bytes, stored: bytes, bit: int) -> None:
        """Flips a bit of a value that stands in one place of the file."""
        self.close()
        path = self.directory / "data.mdb"
        data = bytearray(path.read_bytes())
        places = [at for at in range(len(data)) if data.startswith(stored, at)]
        for at in places:
            data[at + bit // 8] ^= 1 << bit % 8
        assert places
        path.write_bytes(data)


@dataclass
class MemoryBench:
    """Records in memory, and what a test does to their disk."""

    records: MemoryRecords

    def open(self) -> Records:
        return self.records

    def close(self) -> None:
        self.records.close()

    def rot(self, table: str, key: bytes, stored: bytes, bit: int) -> None:
        self.records.flip(table, key, 8 * 16 + bit)


@pytest.fixture(params=["lmdb", "memory"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LmdbBench | MemoryBench]:
    tables = ("fruit", "stone")
    opened: LmdbBench | MemoryBench = (
        LmdbBench(tmp_path / "index", tables)
        if request.param == "lmdb"
        else MemoryBench(MemoryRecords(tables, Faults(SeededRng(1))))
    )
    yield opened
    opened.close()


@pytest.fixture(params=["real", "simulated"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A server and its client: a case of an RPC must end the same way in both."""
    made = make_world(request.param)
    yield made
    await made.close()
