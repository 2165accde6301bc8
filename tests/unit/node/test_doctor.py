import os
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import Conflict
from kernel.ports import Put
from lucid.v1 import control_pb2, session_pb2
from node import doctor
from node.config import load_config
from node.doctor import EARLIEST_NS, Check, Verdict, examine_clock, examine_home, examine_space, rebuild_home
from node.home import Home, lock_home
from node.metrics import NodeMetrics
from node.opening import open_home
from session.tables import CHUNKS, SESSIONS, chunk_key

NOW_NS = EARLIEST_NS * 2


def find(checks: list[Check], name: str, state: Verdict = Verdict.WRONG) -> list[str]:
    return [check.what for check in checks if check.name == name and check.state == state]


def examine(home: Home) -> list[Check]:
    return list(examine_home(home, {}, NOW_NS))


def test_a_missing_home_is_told(tmp_path: Path) -> None:
    [check] = examine(Home(tmp_path / "missing"))
    assert check.state == Verdict.WRONG
    assert "init" in check.hint


def test_a_home_that_others_write_into_and_a_bad_setting(home: Home) -> None:
    home.root.chmod(0o777)
    home.config.write_text("quotta = 1")
    checks = examine(home)
    assert find(checks, "home")
    assert find(checks, "configuration")
    assert find(checks, "keystore")


def test_a_clock_behind_the_files_is_wrong(home: Home) -> None:
    home.keystore.write_bytes(b"x")
    os.utime(home.keystore, ns=(NOW_NS, NOW_NS))
    assert examine_clock(home, NOW_NS).state == Verdict.OK
    assert examine_clock(home, NOW_NS - 10 * 10**9).state == Verdict.WRONG
    assert examine_clock(home, EARLIEST_NS - 1).state == Verdict.WRONG


def test_a_full_disk_is_wrong(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine_space(home).state == Verdict.OK
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 1 << 60)
    assert examine_space(home).state == Verdict.WRONG


def test_a_process_that_holds_the_home_and_does_not_answer(home: Home) -> None:
    with lock_home(home):
        [what] = find(examine(home), "daemon")
    assert str(os.getpid()) in what


async def fill(home: Home) -> None:
    async with open_home(load_config(home, {}, {}), NodeMetrics()) as opened:
        await opened.ports.journal.append("a/b/facts", [b"one", b"two", b"three"])
        await opened.ports.journal.sync("a/b/facts")
        await opened.ports.blobs.put(b"b" * 32, [b"bytes"])
        for index, (chunk_id, size) in enumerate([(b"b" * 32, 5), (b"b" * 32, 6), (b"m" * 32, 5)]):
            entry = session_pb2.ChunkEntry(index=index, chunk_id=chunk_id, stored_bytes=size)
            key = chunk_key(b"s" * 16, index)
            await opened.ports.records.commit([Put(CHUNKS, key, entry.SerializeToString())])
        await opened.ports.blobs.put(b"o" * 32, [b"orphan"])


def test_missing_short_and_orphaned_chunks_are_named(home: Home) -> None:
    import asyncio

    asyncio.run(fill(home))
    checks = examine(home)
    wrong = find(checks, "chunks")
    assert len(wrong) == 2
    assert "chunk 1" in wrong[0]
    assert "has 5 bytes, not 6" in wrong[0]
    assert "chunk 2" in wrong[1]
    assert "is missing" in wrong[1]
    assert find(checks, "chunks", Verdict.NOTE) == ["1 chunks belong to no session"]


def test_damaged_journals_are_named(home: Home) -> None:
    import asyncio

    asyncio.run(fill(home))
    [journal] = [path for path in (home.store / "journal").rglob("facts*") if path.is_file()]
    contents = bytearray(journal.read_bytes())
    contents[contents.index(b"two")] ^= 1
    journal.write_bytes(contents + b"torn")
    checks = examine(home)
    assert len(find(checks, "journal")) == 1
    assert len(find(checks, "journal", Verdict.NOTE)) == 1


def test_a_session_that_only_the_index_knows_is_named(home: Home) -> None:
    import asyncio

    async def put_row() -> None:
        async with open_home(load_config(home, {}, {}), NodeMetrics()) as opened:
            await opened.ports.records.commit([Put(SESSIONS, b"s" * 16, b"")])

    asyncio.run(put_row())
    wrong = find(examine(home), "journal")
    assert len(wrong) == 2
    assert all((b"s" * 16).hex() in what for what in wrong)


def test_findings_are_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    asyncio.run(fill(home))
    monkeypatch.setattr(doctor, "MAX_FINDINGS", 1)
    checks = examine(home)
    assert "and 2 more" in find(checks, "store")[0]


def test_rebuilding_needs_a_store_that_nobody_uses(home: Home) -> None:
    def ignore(_done: int, _total: int) -> None: ...

    with pytest.raises(Conflict, match="no store"):
        rebuild_home(home, {}, ignore)
    home.store.mkdir(0o700)
    before = os.umask(0o077)
    try:
        with lock_home(home), pytest.raises(Conflict, match="pid"):
            rebuild_home(home, {}, ignore)
    finally:
        os.umask(before)


def test_a_home_that_was_never_run(home: Home) -> None:
    checks: Any = examine(home)
    assert find(checks, "store", Verdict.NOTE)


@pytest.mark.parametrize(
    ("known", "connected", "state"), [(0, 0, Verdict.NOTE), (3, 0, Verdict.WRONG), (3, 1, Verdict.OK)]
)
def test_peers_that_cannot_be_reached_are_wrong(known: int, connected: int, state: Verdict) -> None:
    status = control_pb2.GetStatusResponse(peers_known=known, peers_connected=connected, listen="/ip4/x")
    check = doctor.examine_peers(status)
    assert check.state == state
    assert "/ip4/x" in check.what
    assert check.hint or state == Verdict.OK
