"""Records of a simulated disk: what they take on it."""

import random

from kernel.ports import Delete, Operation, Put
from storage.faults import Faults
from storage.memory_records import MemoryRecords
from storage.record_format import CHECKSUM_BYTES
from tests.scenarios.world import SeededRng


async def test_the_size_is_that_of_the_rows_after_every_commit() -> None:
    faults = Faults(SeededRng(1))
    records, rng = MemoryRecords(["a", "b"], faults), random.Random(1)
    for _ in range(200):
        operations: list[Operation] = []
        for _ in range(rng.randrange(1, 4)):
            table, key = rng.choice("ab"), bytes([rng.randrange(8)])
            put = Put(table, key, rng.randbytes(rng.randrange(50)))
            operations.append(put if rng.random() < 0.7 else Delete(table, key))
        await records.commit(operations)
        rows = [row for table in "ab" for row in records.scan(table)]
        size_bytes = sum(len(key) + CHECKSUM_BYTES + len(value) for key, value in rows)
        assert records.size_bytes() == faults.used_bytes == size_bytes
