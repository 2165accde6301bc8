import os
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import Conflict
from kernel.ports import Put
from lucid.v1 import control_pb2, session_pb2
from node import doctor
from node.check import Check, Verdict
from node.config import load_config
from node.doctor import EARLIEST_NS, examine_clock, examine_home, examine_space, rebuild_home
from node.home import Home, lock_home
from node.metrics import NodeMetrics
from node.opening import open_home
from node.tor_doctor import examine_tor, examine_tor_program
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


PUBLISHED = control_pb2.Onion(address="/onion3/x:1", role="current", published=True)
READY: dict[str, Any] = {"phase": "ready", "percent": 100, "version": "0.4.9.11"}


@pytest.mark.parametrize(
    ("tor", "name", "words"),
    [
        (
            {"phase": "stopped", "trouble": "there is no program tor", "hint": "Install"},
            "tor process",
            "no program",
        ),
        (
            {"phase": "bootstrapping", "percent": 5, "summary": "Connecting"},
            "tor bootstrap",
            "5 %: Connecting",
        ),
        ({"phase": "bootstrapping", "percent": 14}, "tor bootstrap", "14 %"),
        ({"phase": "bootstrapping", "percent": 95}, "tor bootstrap", "95 %"),
        (READY | {"onions": [control_pb2.Onion(role="current")]}, "onion service", "not published"),
        (
            READY | {"onions": [PUBLISHED], "reach_trouble": "cannot be reached"},
            "reached",
            "cannot be reached",
        ),
    ],
)
def test_the_step_of_tor_that_fails_is_named_with_what_to_do(
    tor: dict[str, Any], name: str, words: str
) -> None:
    *fine, failed = examine_tor(control_pb2.TorStatus(**tor))
    assert all(check.state == Verdict.OK for check in fine)
    assert (failed.name, failed.state) == (name, Verdict.WRONG)
    assert words in failed.what and failed.hint


def test_all_steps_of_a_tor_that_works_are_fine() -> None:
    tor = control_pb2.TorStatus(**READY, onions=[PUBLISHED], reached_ns=1, reach_us=500_000)
    checks = list(examine_tor(tor))
    assert [check.name for check in checks] == ["tor process", "tor bootstrap", "onion service", "reached"]
    assert all(check.state == Verdict.OK for check in checks)


def make_program(folder: Path, script: str) -> str:
    program = folder / "a tor"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    return str(program)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo Tor version 0.4.7.16.", "too old"),
        ("echo something else", "does not say"),
        ("exit 1", "does not say"),
        ("echo Tor version 0.4.9.1.; echo 'Jan 01 [warn] Unknown option X.'", "Unknown option X"),
    ],
)
def test_a_tor_program_that_does_not_serve_is_told_of(
    home: Home, tmp_path: Path, script: str, words: str
) -> None:
    flags = {"listen": "onion", "tor_program": make_program(tmp_path, script)}
    failed = list(examine_tor_program(load_config(home, {}, flags)))[-1]
    assert failed.state == Verdict.WRONG and words in failed.what and failed.hint


def test_the_tor_that_is_installed_understands_its_settings(home: Home) -> None:
    flags = {"listen": "onion", "tor_options": "NumCPUs 1", "tor_bridges": "192.0.2.3:1"}
    checks = list(examine_tor_program(load_config(home, {}, flags)))
    assert [(check.name, check.state) for check in checks] == [("tor", "ok"), ("tor settings", "ok")]
    wrong = load_config(home, {}, {"listen": "onion", "tor_bridges": "no bridge"})
    assert "Bridge" in list(examine_tor_program(wrong))[-1].what
    missing = load_config(home, {}, {"listen": "onion", "tor_program": "/nowhere/tor"})
    [check] = examine_tor_program(missing)
    assert "/nowhere/tor" in check.what and "apt-get install" in check.hint


def test_the_doctor_looks_at_tor_where_it_is_used(home: Home) -> None:
    home.config.write_text('listen = "onion"\n')
    checks: Any = examine(home)
    assert find(checks, "tor", Verdict.OK)
