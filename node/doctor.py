"""Looks at a home, part by part, and says what is wrong with it and what to do.

Each check is a function that gives findings. Those of the store need it for themselves, so they wait until
no daemon runs; what a running daemon knows of its store is asked of it instead. The doctor needs no
passphrase and changes nothing, except for `rebuild`, which puts a damaged index aside and remakes it from
the journals.
"""

import asyncio
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from kernel.errors import Conflict, LucidError, StoreDamaged
from node.check import Check, Verdict
from node.config import NodeConfig, load_config
from node.health import LEAST_FREE_BYTES
from node.home import Home, check_private, lock_holder, lock_home
from node.tor_doctor import examine_tor, examine_tor_program
from node.units import format_size

if TYPE_CHECKING:
    from lucid.v1 import control_pb2
    from node.opening import Opened

MAX_FINDINGS = 100
# When this software was written: a clock before that is wrong.
EARLIEST_NS = 1_767_225_600_000_000_000
SECOND_NS = 1_000_000_000


def examine_home(home: Home, environment: Mapping[str, str], now_ns: int) -> Iterator[Check]:
    """All findings about a home, one after the other."""
    if not home.root.is_dir():
        yield Check("home", Verdict.WRONG, f"there is no directory {home.root}", "Run `lucid-node init`.")
        return
    yield _run("home", f"{home.root} is private", lambda: check_private(home))
    yield from examine_keystore(home)
    yield examine_clock(home, now_ns)
    yield examine_space(home)
    try:
        config = load_config(home, environment, {})
    except LucidError as error:
        yield Check("configuration", Verdict.WRONG, str(error), error.hint)
        return
    yield Check("configuration", Verdict.OK, "all settings are known and have sound values")
    holder = lock_holder(home)
    if holder is not None:
        yield from examine_daemon(home, holder)
    else:
        yield Check("daemon", Verdict.NOTE, "no daemon runs", "Start it with `lucid-node run`.")
        if config.uses_tor:
            yield from examine_tor_program(config)
        yield from examine_store(config)


def examine_keystore(home: Home) -> Iterator[Check]:
    """Can the public part of the keystore be read, and is the file private?"""
    from node.identity.keystore import read_public

    try:
        identity = read_public(home.keystore)
        mode = stat.S_IMODE(home.keystore.stat().st_mode)
    except LucidError as error:
        yield Check("keystore", Verdict.WRONG, str(error), error.hint)
        return
    yield Check("keystore", Verdict.OK, f"it is whole, and belongs to {identity.peer_id}")
    if identity.head_grant is None:
        what = "it is older than heads: the recovery words alone would not bring recordings back"
        yield Check("keystore", Verdict.NOTE, what, "Set up a node anew, or keep copies of the home.")
    if mode & 0o077:
        yield Check(
            "keystore",
            Verdict.WRONG,
            f"others may read it (mode {mode:04o})",
            f"Run: chmod 600 {home.keystore}",
        )


def examine_clock(home: Home, now_ns: int) -> Check:
    """Is the clock behind what is certain?"""
    made_ns = max(
        (path.stat().st_mtime_ns for path in (home.keystore, home.lock) if path.exists()), default=0
    )
    hint = "Set the clock: checkpoints are signed with its time."
    if now_ns < EARLIEST_NS:
        return Check("clock", Verdict.WRONG, "it is before this software was written", hint)
    if now_ns < made_ns - SECOND_NS:
        return Check(
            "clock", Verdict.WRONG, "it is before the time at which files of this home were written", hint
        )
    return Check("clock", Verdict.OK, "it is not behind the files of this home")


def examine_space(home: Home) -> Check:
    """Is there room to record?"""
    free_bytes = shutil.disk_usage(home.root).free
    what = f"{format_size(free_bytes)} are free"
    if free_bytes < LEAST_FREE_BYTES:
        return Check("disk", Verdict.WRONG, what, "Delete something, or move the home to a larger disk.")
    return Check("disk", Verdict.OK, what)


def examine_daemon(home: Home, holder: int) -> Iterator[Check]:
    """Does the daemon answer, and what does it say of itself?"""
    from node.control.client import ControlClient

    try:
        with ControlClient(home) as client:
            status = client.get_status()
    except LucidError as error:
        what = f"process {holder} holds the home, but does not answer: {error}"
        yield Check("daemon", Verdict.WRONG, what, "If it has just started, wait; else look at its log.")
        return
    yield Check("daemon", Verdict.OK, f"it answers (pid {status.pid})")
    if not status.serving:
        yield Check("daemon", Verdict.WRONG, "it does not serve")
    for problem in status.problems:
        yield Check("daemon", Verdict.WRONG, problem)
    if status.HasField("tor"):
        yield from examine_tor(status.tor)
    yield examine_peers(status)
    if status.replicas_wanted:
        yield examine_replicas(status.replicas_held, status.replicas_wanted)
    yield Check(
        "store",
        Verdict.NOTE,
        "it was not looked through, because the daemon uses it",
        "Stop the daemon for that, or check single sessions with `lucid-node session verify`.",
    )


def examine_replicas(held: int, wanted: int) -> Check:
    """Are there copies on other nodes?"""
    what = f"{held} of {wanted} copies of chunks are on other nodes"
    if held < wanted:
        hint = "The rest follows by itself when peers have room; `lucid-node replicas ID` shows which."
        return Check("replicas", Verdict.NOTE, what, hint)
    return Check("replicas", Verdict.OK, what)


def examine_peers(status: "control_pb2.GetStatusResponse") -> Check:
    """Does the node know others, and can it reach them?"""
    where = f"it listens on {status.listen}" if status.listen else "it listens nowhere"
    if not status.peers_known:
        return Check("peers", Verdict.NOTE, f"the node knows no other; {where}", _PEERS_HINT)
    what = f"{status.peers_connected} of {status.peers_known} are connected; {where}"
    if not status.peers_connected:
        return Check("peers", Verdict.WRONG, what, "`lucid-node peers` says what is wrong with each.")
    return Check("peers", Verdict.OK, what)


def examine_store(config: NodeConfig) -> Iterator[Check]:
    """Is the index sound, every journal readable, every chunk there? Takes the home's lock."""
    from node.metrics import NodeMetrics
    from node.opening import open_home

    if not config.home.store.exists():
        yield Check("store", Verdict.NOTE, "there is none yet: the daemon makes it when it first runs")
        return

    async def look() -> list[Check]:
        async with open_home(config, NodeMetrics()) as opened:
            damaged = [Check("index", Verdict.WRONG, what, _REBUILD_HINT) for what in opened.store.damaged]
            return damaged + await _look_through(opened)

    try:
        with lock_home(config.home):
            findings = asyncio.run(look())
    except StoreDamaged as error:
        yield Check("store", Verdict.WRONG, str(error), error.hint)
    except LucidError as error:
        yield Check("store", Verdict.WRONG, str(error), error.hint)
    else:
        yield from findings[:MAX_FINDINGS]
        if len(findings) > MAX_FINDINGS:
            yield Check("store", Verdict.WRONG, f"and {len(findings) - MAX_FINDINGS} more findings")


_PEERS_HINT = "Recordings go to other nodes once there are some: `lucid-node run --peer MULTIADDR`."
_REBUILD_HINT = "Run `lucid-node doctor --rebuild`."
_ONLY_COPY_HINT = (
    "It can be read as long as the other copy is whole: write the recording out with `session get`."
)
_TORN_HINT = "A kill leaves that; the daemon cuts it off before it writes there again."
_HEAL_HINT = "Start the daemon and run `lucid-node session verify`: it comes back if a peer holds a copy."
_VERIFY_HINT = "Start the daemon and run `lucid-node session verify` on the session."


async def _look_through(opened: "Opened") -> list[Check]:
    findings = await _look_at_journals(opened) + _look_at_chunks(opened)
    if findings:
        return findings
    usage = opened.store.usage()
    what = f"index, journals and chunks agree ({format_size(usage.blob_bytes + usage.journal_bytes)})"
    return [Check("store", Verdict.OK, what)]


async def _look_at_journals(opened: "Opened") -> list[Check]:
    from session.rebuild import find_lost_facts

    findings = []
    for stream in opened.ports.journal.streams():
        contents = await opened.ports.journal.read(stream)
        findings += [
            Check("journal", Verdict.WRONG, f"{stream}: {what}", _VERIFY_HINT) for what in contents.damaged
        ]
        if contents.torn_bytes:
            what = f"{stream} ends with a torn write of {contents.torn_bytes} bytes"
            findings.append(Check("journal", Verdict.NOTE, what, _TORN_HINT))
    lost = await find_lost_facts(opened.session_ports)
    return findings + [Check("journal", Verdict.WRONG, what, _ONLY_COPY_HINT) for what in lost]


def _look_at_chunks(opened: "Opened") -> list[Check]:
    from dht import tables as dht_tables
    from lucid.v1 import chunk_pb2, session_pb2
    from session import tables

    findings, known, damaged = [], set(), list[bytes]()
    for key, value in opened.ports.records.scan(tables.CHUNKS, damaged=damaged):
        entry = session_pb2.ChunkEntry.FromString(value)
        known.add(entry.chunk_id)
        size_bytes = opened.ports.blobs.size(entry.chunk_id)
        if size_bytes != entry.stored_bytes:
            state = (
                "is missing" if size_bytes is None else f"has {size_bytes} bytes, not {entry.stored_bytes}"
            )
            what = f"chunk {entry.index} of session {key[:16].hex()} {state}"
            findings.append(Check("chunks", Verdict.WRONG, what, _HEAL_HINT))
    for key, value in opened.ports.records.scan(dht_tables.HOLDINGS, damaged=damaged):
        known.add(key)
        if opened.ports.blobs.size(key) != chunk_pb2.Holding.FromString(value).size_bytes:
            what = f"chunk {key.hex()}, which is held for others, is missing or has another length"
            findings.append(Check("chunks", Verdict.WRONG, what, "Its owner will bring it again."))
    orphans = sum(1 for blob_id in opened.ports.blobs.ids() if blob_id not in known)
    if orphans and not damaged:
        what = f"{orphans} chunks belong to no session"
        findings.append(Check("chunks", Verdict.NOTE, what, "The daemon removes its own when it starts."))
    return findings


def rebuild_home(
    home: Home, environment: Mapping[str, str], on_progress: Callable[[int, int], None]
) -> list[str]:
    """Puts the index aside and remakes it from the journals; returns what was done, in words.

    Raises:
        Conflict: a daemon uses the home.
        StoreError: the store cannot be opened at all.
    """
    from dht.head_store import HeadStore
    from dht.holding_store import HoldingStore
    from node.metrics import NodeMetrics
    from node.opening import open_home
    from session.rebuild import rebuild_index

    config = load_config(home, environment, {})
    if not home.store.exists():
        raise Conflict(f"there is no store in {home.root}: nothing to rebuild")

    async def rebuild() -> list[str]:
        async with open_home(config, NodeMetrics(), rebuild=True) as opened:
            rebuilt = await rebuild_index(opened.session_ports, on_progress)
            kept_problems = await HoldingStore(opened.keeping_ports).recover()
            kept_problems += await HeadStore(opened.keeping_ports).recover()
            await opened.store.complete_rebuild()
        asides = sorted(path.name for path in home.store.glob("index-aside-*"))
        return [
            f"the index was remade: {rebuilt.sessions} sessions, {rebuilt.tombstones} deletions",
            *[f"still damaged: {problem}" for problem in rebuilt.problems + kept_problems],
            *[f"the old index is kept in {home.store / name}" for name in asides[-1:]],
        ]

    check_private(home)
    os.umask(0o077)
    with lock_home(home):
        return asyncio.run(rebuild())


def _run(name: str, good: str, check: Callable[[], None]) -> Check:
    try:
        check()
    except LucidError as error:
        return Check(name, Verdict.WRONG, str(error), error.hint)
    return Check(name, Verdict.OK, good)
