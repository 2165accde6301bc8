"""What survives `kill -9` of a process that writes to a real disk.

The child writes for ever and says on its standard output what was promised to it; it is killed in the middle.
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kernel.ports import Records
from storage.blobs import FileBlobs
from storage.inline import InlineOffload
from storage.journal import FileJournal
from storage.lmdb_records import LmdbRecords
from storage.os_files import OsFiles
from storage.quota import Quota

ROOT = Path(__file__).parents[2]
OFFLOAD = InlineOffload()

CHILD = """
import asyncio, os, sys
from pathlib import Path
from kernel.ports import Put
from storage.blobs import FileBlobs
from storage.inline import InlineOffload
from storage.journal import FileJournal
from storage.lmdb_records import LmdbRecords
from storage.os_files import OsFiles
from storage.quota import Quota

async def write(kind, directory):
    files, offload = OsFiles(directory), InlineOffload()
    blobs = await FileBlobs.open(files, offload, Quota())
    journal = await FileJournal.open(files, offload, Quota())
    records = LmdbRecords(directory / "index", ["rows"])
    for n in range(1_000_000):
        payload = n.to_bytes(4, "big") * 5000
        if kind == "blobs":
            await blobs.put(n.to_bytes(32, "big"), [payload])
        elif kind == "journal":
            await journal.append("a/facts", [payload, payload])
        else:
            key = n.to_bytes(4, "big")
            await records.commit([Put("rows", b"a" + key, payload), Put("rows", b"b" + key, payload)])
        os.write(1, b"%d\\n" % n)

asyncio.run(write(sys.argv[1], Path(sys.argv[2])))
"""


def kill_while_writing(kind: str, directory: Path, promises: int) -> int:
    """The last number that was promised before the kill."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, kind, str(directory)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        for _ in range(promises):
            assert child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().splitlines(keepends=True)
    return promises - 1 + sum(line.endswith(b"\n") for line in rest)


def payload(number: int) -> bytes:
    return number.to_bytes(4, "big") * 5000


@pytest.mark.parametrize("promises", [1, 7, 40])
async def test_blobs(tmp_path: Path, promises: int) -> None:
    last = kill_while_writing("blobs", tmp_path, promises)
    blobs = await FileBlobs.open(OsFiles(tmp_path), OFFLOAD, Quota())
    assert last + 1 <= len(blobs.ids()) <= last + 2
    for blob_id in blobs.ids():
        assert await blobs.read(blob_id) == payload(int.from_bytes(blob_id, "big"))
    assert blobs.used_bytes() == sum(
        path.stat().st_size for path in (tmp_path / "blobs").rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("promises", [1, 7, 40])
async def test_journal(tmp_path: Path, promises: int) -> None:
    last = kill_while_writing("journal", tmp_path, promises)
    journal = await FileJournal.open(OsFiles(tmp_path), OFFLOAD, Quota())
    records = (await journal.read("a/facts")).records
    assert len(records) >= 2 * (last + 1)
    assert records == [(n, payload(n // 2)) for n in range(len(records))]
    await journal.trim("a/facts")
    await journal.append("a/facts", [b"afterwards"])
    assert (await journal.read("a/facts")).records == [*records, (len(records), b"afterwards")]


@pytest.mark.parametrize("promises", [1, 7, 40])
async def test_records(tmp_path: Path, promises: int) -> None:
    last = kill_while_writing("records", tmp_path, promises)
    records: Records = LmdbRecords(tmp_path / "index", ["rows"])
    found = records.scan("rows")
    count = len(found) // 2
    assert last + 1 <= count <= last + 2
    expected = [(n.to_bytes(4, "big"), payload(n)) for n in range(count)]
    assert found == [(letter + key, value) for letter in (b"a", b"b") for key, value in expected]
    await asyncio.to_thread(records.close)
