"""A journal on a faulty disk does what a dict of lists does, as far as it promises."""

import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kernel.errors import StoreError
from storage.faults import Died
from storage.inline import InlineOffload
from storage.journal import FileJournal
from storage.memory_files import MemoryFiles
from storage.quota import Quota

T = TypeVar("T")
STREAMS = st.sampled_from(["a", "a/b", "a/c", "d/e/f"])
PAYLOADS = st.lists(
    st.binary(max_size=40) | st.just(200).map(lambda count: b"LJR1" * count), min_size=1, max_size=3
)
FAULTS = st.sampled_from(["fail_at", "full_at"])


class SeededRng:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)


def run(work: Coroutine[object, object, T]) -> T:
    """Runs what never has to wait, without an event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("nothing here waits for anything")


class JournalMachine(RuleBasedStateMachine):
    """`written` is what every reader must see; `synced` of it must survive a power cut.

    A stream is `doubtful` from a failed fsync to the next power cut: what it lost is still seen, even by the
    next process, and an fsync that succeeds afterwards proves nothing.
    """

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.files = MemoryFiles(SeededRng(seed))
        self.written: dict[str, list[bytes]] = {}
        self.synced: dict[str, int] = {}
        self.refused: set[str] = set()
        self.doubtful: set[str] = set()
        self.open()

    def open(self) -> None:
        self.quota = Quota()
        self.journal = run(FileJournal.open(self.files, InlineOffload(), self.quota))
        self.refused.clear()

    @rule(stream=STREAMS, payloads=PAYLOADS)
    def append(self, stream: str, payloads: list[bytes]) -> None:
        if stream not in self.refused:
            run(self.journal.append(stream, payloads))
            self.written.setdefault(stream, []).extend(payloads)

    @rule(stream=STREAMS)
    def sync(self, stream: str) -> None:
        if stream not in self.refused:
            run(self.journal.sync(stream))
            if stream not in self.doubtful:
                self.synced[stream] = len(self.written.get(stream, []))

    @rule(stream=STREAMS)
    def drop(self, stream: str) -> None:
        run(self.journal.drop(stream))
        self.written.pop(stream, None)
        self.synced.pop(stream, None)
        self.refused.discard(stream)
        self.doubtful.discard(stream)

    @rule(stream=STREAMS)
    def trim(self, stream: str) -> None:
        if stream not in self.refused:
            run(self.journal.trim(stream))

    @rule(stream=STREAMS, payloads=PAYLOADS, kind=FAULTS, after=st.integers(0, 1))
    def append_with_fault(self, stream: str, payloads: list[bytes], kind: str, after: int) -> None:
        if stream in self.refused:
            return
        setattr(self.files.faults, kind, self.files.faults.operations + after)
        try:
            run(self.journal.append(stream, payloads))
            self.written.setdefault(stream, []).extend(payloads)
        except StoreError:
            pass
        self.files.faults.fail_at = self.files.faults.full_at = None

    @rule(stream=STREAMS, kind=FAULTS)
    def sync_with_fault(self, stream: str, kind: str) -> None:
        if stream in self.refused or stream not in self.written:
            return
        setattr(self.files.faults, kind, self.files.faults.operations)
        try:
            run(self.journal.sync(stream))
        except StoreError:
            self.refused.add(stream)
            self.doubtful.add(stream)
        self.files.faults.fail_at = self.files.faults.full_at = None

    @rule(stream=STREAMS, payloads=PAYLOADS)
    def die_while_appending(self, stream: str, payloads: list[bytes]) -> None:
        if stream in self.refused:
            return
        before = self.written.get(stream, [])
        self.files.faults.die_at = self.files.faults.operations
        with suppress(Died):
            run(self.journal.append(stream, payloads))
        self.files.process_kill()
        self.open()
        records = self.read(stream)
        assert records[: len(before)] == before
        assert records == (before + payloads)[: len(records)]
        self.adopt(stream, records)

    @rule()
    def restart(self) -> None:
        self.files.process_kill()
        self.open()

    @rule()
    def cut_power(self) -> None:
        self.files.power_cut()
        self.doubtful.clear()
        self.open()
        for stream in sorted({*self.written, *self.journal.streams()}):
            certain = self.synced.get(stream, 0)
            before = self.written.get(stream, [])
            contents = run(self.journal.read(stream))
            assert [payload for _, payload in contents.records[:certain]] == before[:certain]
            assert all(before[sequence] == payload for sequence, payload in contents.records)
            if contents.damaged or contents.torn_bytes:
                run(self.journal.drop(stream))
                self.written.pop(stream, None)
                self.synced.pop(stream, None)
            else:
                self.adopt(stream, [payload for _, payload in contents.records])

    def adopt(self, stream: str, records: list[bytes]) -> None:
        run(self.journal.trim(stream))
        if records:
            self.written[stream] = records
        else:
            run(self.journal.drop(stream))
            self.written.pop(stream, None)
        self.synced[stream] = min(self.synced.get(stream, 0), len(records))

    def read(self, stream: str) -> list[bytes]:
        contents = run(self.journal.read(stream))
        assert contents.damaged == []
        assert [sequence for sequence, _ in contents.records] == list(range(len(contents.records)))
        return [payload for _, payload in contents.records]

    @invariant()
    def holds_what_was_written(self) -> None:
        for stream, payloads in self.written.items():
            assert self.read(stream) == payloads
        assert set(self.journal.streams()) == {
            stream for stream, payloads in self.written.items() if payloads
        }

    @invariant()
    def counts_exactly(self) -> None:
        on_disk = sum(self.files.size(path) for path in self.files.paths())
        assert self.journal.used_bytes() == self.quota.used_bytes == on_disk


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(stateful_step_count=30)
