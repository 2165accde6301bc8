"""Writes store.json (vectors of the store) and stores/v<version> (a store as this version writes it).

Run from the top of the repository: `.venv/bin/python -m tests.vectors.make_golden_store`. The store of a
version that was released is never made again: it is what later versions must be able to open.
"""

import asyncio
import hashlib
import json
import shutil
import sys
from pathlib import Path

from kernel.ports import Delete, Put
from storage import record_format, schema
from storage.disk_store import open_disk_store
from storage.inline import InlineOffload
from storage.journal_format import compute_header, compute_key, encode_records
from storage.lmdb_records import LOCK_FILE

HERE = Path(__file__).parent
TABLES = ("sessions", "chunks", "checkpoints", "tombstones")
SESSION = hashlib.sha256(b"session").digest()[:16]


def draw(name: str, size_bytes: int) -> bytes:
    """Bytes that are the same each time."""
    return hashlib.shake_128(name.encode()).digest(size_bytes)


def make_vectors() -> dict[str, object]:
    """What a second implementation must compute."""
    streams = []
    for stream, payloads in (
        ("tombstones", [b"", b"one"]),
        ("ab/abcd/tail-0000000007", [bytes(range(40))] * 2),
    ):
        key = compute_key(stream)
        streams.append(
            {
                "stream": stream,
                "payloads": [payload.hex() for payload in payloads],
                "key": key.hex(),
                "file": (compute_header() + b"".join(encode_records(key, 0, payloads))).hex(),
            }
        )
    records = []
    for table, key, value in (
        ("sessions", SESSION, b"a row"),
        ("chunks", SESSION + bytes(4), b""),
        ("meta", b"k", b"v"),
    ):
        table_key = record_format.compute_table_key(table)
        records.append(
            {
                "table": table,
                "table_key": table_key.hex(),
                "key": key.hex(),
                "value": value.hex(),
                "stored": record_format.encode_value(table_key, key, value).hex(),
            }
        )
    formats = [{"version": n, "file": schema.encode_format(n).decode()} for n in (1, 2, 10)]
    return {"streams": streams, "records": records, "formats": formats}


async def make_store(directory: Path) -> dict[str, object]:
    """Makes a store, and returns what it holds."""
    store = await open_disk_store(directory, InlineOffload(), tables=TABLES)
    await store.records.commit([Put("sessions", SESSION, draw("row", 300)), Put("tombstones", b"gone", b"")])
    for index in range(6):
        key = SESSION + index.to_bytes(4, "big")
        await store.records.commit(
            [Put("chunks", key, draw(f"chunk {index}", 90)), Put("checkpoints", key, key)]
        )
    await store.records.commit([Delete("checkpoints", SESSION + bytes(4))])
    for index in range(3):
        await store.blobs.put(
            draw(f"id {index}", 32), [draw(f"head {index}", 64), draw(f"body {index}", 400 * index)]
        )
    await store.blobs.remove([draw("id 1", 32)])
    facts = f"{SESSION.hex()[:2]}/{SESSION.hex()}/facts"
    await store.journal.append(facts, [b"", draw("fact", 200)])
    await store.journal.append(facts, [b"last"])
    await store.journal.append("tombstones", [draw("tombstone", 50)])
    for stream in store.journal.streams():
        await store.journal.sync(stream)
    contents = {
        "records": {
            table: [[key.hex(), value.hex()] for key, value in store.records.scan(table)] for table in TABLES
        },
        "blobs": {blob_id.hex(): (await store.blobs.read(blob_id)).hex() for blob_id in store.blobs.ids()},
        "journal": {
            stream: [[n, payload.hex()] for n, payload in (await store.journal.read(stream)).records]
            for stream in store.journal.streams()
        },
    }
    store.close()
    return contents


def main() -> int:
    """Writes the vectors, and the store of this version if there is none."""
    (HERE / "store.json").write_text(json.dumps(make_vectors(), indent=1) + "\n")
    directory = HERE / "stores" / f"v{schema.VERSION}"
    if directory.exists():
        print(f"{directory.name} is there and stays as it is")
        return 0
    directory.parent.mkdir(exist_ok=True)
    contents = asyncio.run(make_store(directory))
    (directory / "index" / LOCK_FILE).unlink()
    shutil.rmtree(directory / "blobs" / "unfinished")
    directory.with_suffix(".json").write_text(json.dumps(contents, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
