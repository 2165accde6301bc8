"""Records do what sorted dicts do, in LMDB as in memory."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from kernel.errors import Conflict
from kernel.ports import Delete, Expect, Operation, Put, Records
from storage.faults import Faults
from storage.lmdb_records import LmdbRecords
from storage.memory_records import MemoryRecords

TABLES = ("one", "two")
KEYS = st.sampled_from([b"\0", b"a", b"a\0", b"a\xff", b"ab", b"b", b"\xff", b"\xff\xff", b"\xff" * 255])
VALUES = st.sampled_from([0, 1, 50, 2800, 12_000]).map(bytes)
NAMES = st.sampled_from(TABLES)
OPERATIONS = st.one_of(
    st.builds(Put, NAMES, KEYS, VALUES),
    st.builds(Delete, NAMES, KEYS),
    st.builds(Expect, NAMES, KEYS, st.none() | VALUES),
)
PREFIXES = st.sampled_from([b"", b"a", b"a\xff", b"\xff", b"\xff\xff", b"c"])


class NoRng:
    def below(self, bound: int) -> int:
        return 0


class RecordsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(prefix="records"))
        self.lmdb = LmdbRecords(self.directory / "index", TABLES)
        self.memory = MemoryRecords(TABLES, Faults(NoRng()))
        self.model: dict[str, dict[bytes, bytes]] = {name: {} for name in TABLES}

    def adapters(self) -> list[Records]:
        return [self.lmdb, self.memory]

    def teardown(self) -> None:
        self.lmdb.close()
        self.runner.close()
        shutil.rmtree(self.directory)

    @rule(operations=st.lists(OPERATIONS, max_size=6))
    def commit(self, operations: list[Operation]) -> None:
        model, conflict = {name: dict(rows) for name, rows in self.model.items()}, False
        for operation in operations:
            rows = model[operation.table]
            match operation:
                case Put(key=key, value=value):
                    rows[key] = value
                case Delete(key=key):
                    rows.pop(key, None)
                case Expect(key=key, value=expected):
                    conflict |= rows.get(key) != expected
        for records in self.adapters():
            try:
                self.runner.run(records.commit(operations))
                assert not conflict
            except Conflict:
                assert conflict
        if not conflict:
            self.model = model

    @rule()
    def reopen(self) -> None:
        self.lmdb.close()
        self.lmdb = LmdbRecords(self.directory / "index", TABLES)

    @rule(table=NAMES, key=KEYS)
    def get(self, table: str, key: bytes) -> None:
        for records in self.adapters():
            assert records.get(table, key) == self.model[table].get(key)

    @rule(table=NAMES, prefix=PREFIXES, start=KEYS | st.just(b""), limit=st.none() | st.integers(0, 4))
    def scan(self, table: str, prefix: bytes, start: bytes, limit: int | None) -> None:
        pairs = sorted(pair for pair in self.model[table].items() if pair[0].startswith(prefix))
        forwards = [pair for pair in pairs if pair[0] >= start]
        backwards = [pair for pair in reversed(pairs) if not start or pair[0] <= start]
        for records in self.adapters():
            assert records.scan(table, prefix=prefix, start=start, limit=limit) == forwards[:limit]
            found = records.scan(table, prefix=prefix, start=start, limit=limit, reverse=True)
            assert found == backwards[:limit]


TestRecords = RecordsMachine.TestCase
TestRecords.settings = settings(stateful_step_count=20)
