"""What `FileBlobs` does, over every `Files`."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import pytest

from kernel.errors import NotFound, StoreDamaged, StoreFull, UsageError
from kernel.ports import Files
from storage.blobs import MAX_BLOB_BYTES, FileBlobs
from storage.inline import InlineOffload
from storage.quota import Quota

Open = Callable[[], Awaitable[FileBlobs]]


def name(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


ID = name("one")
PATH = f"blobs/{ID.hex()[:2]}/{ID.hex()}"


@pytest.fixture
def quota() -> Quota:
    return Quota()


@pytest.fixture
def open_blobs(files: Files, offload: InlineOffload, quota: Quota) -> Open:
    return lambda: FileBlobs.open(files, offload, quota)


async def test_put_and_read(open_blobs: Open) -> None:
    blobs = await open_blobs()
    await blobs.put(ID, [b"head", b"", b"body"])
    assert await blobs.read(ID) == b"headbody"
    assert await blobs.read(ID, 2, 4) == b"adbo"
    assert await blobs.read(ID, 6, 100) == b"dy"
    assert await blobs.read(ID, 8) == b""


async def test_sizes_ids_and_use(open_blobs: Open, files: Files, quota: Quota) -> None:
    blobs = await open_blobs()
    assert (blobs.ids(), blobs.used_bytes(), blobs.size(ID)) == ([], 0, None)
    for text in ("c", "a", "b", ""):
        await blobs.put(name(text), [text.encode() * 10])
    assert blobs.ids() == sorted(name(text) for text in ("a", "b", "c", ""))
    assert (blobs.size(name("a")), blobs.size(name(""))) == (10, 0)
    assert blobs.used_bytes() == quota.used_bytes == 30
    assert files.size(f"blobs/{name('a').hex()[:2]}/{name('a').hex()}") == 10


async def test_an_existing_blob_is_left_as_it_is(open_blobs: Open, quota: Quota) -> None:
    blobs = await open_blobs()
    await blobs.put(ID, [b"first"])
    await blobs.put(ID, [b"another"])
    assert await blobs.read(ID) == b"first"
    assert blobs.used_bytes() == quota.used_bytes == 5


async def test_what_is_missing_is_not_found(open_blobs: Open, files: Files) -> None:
    blobs = await open_blobs()
    with pytest.raises(NotFound):
        await blobs.read(ID)
    with pytest.raises(NotFound):
        await blobs.settle(ID)
    await blobs.put(ID, [b"x"])
    await blobs.settle(ID)
    files.remove(PATH)
    with pytest.raises(NotFound):
        await blobs.read(ID)


async def test_remove(open_blobs: Open, files: Files, quota: Quota) -> None:
    blobs = await open_blobs()
    await blobs.put(ID, [b"12345"])
    await blobs.put(name("two"), [b"123"])
    await blobs.remove([ID, ID, name("never")])
    assert blobs.ids() == [name("two")]
    assert blobs.used_bytes() == quota.used_bytes == 3
    with pytest.raises(NotFound):
        await blobs.read(ID)
    await blobs.put(ID, [b"again"])
    assert await blobs.read(ID) == b"again"


async def test_remove_counts_what_vanished_by_itself(open_blobs: Open, files: Files, quota: Quota) -> None:
    blobs = await open_blobs()
    await blobs.put(ID, [b"12345"])
    files.remove(PATH)
    await blobs.remove([ID])
    assert (blobs.used_bytes(), quota.used_bytes, blobs.ids()) == (0, 0, [])


async def test_reopening_finds_blobs_and_sweeps_what_is_unfinished(
    open_blobs: Open, files: Files, offload: InlineOffload
) -> None:
    await (await open_blobs()).put(ID, [b"12345"])
    files.create(f"blobs/unfinished/{name('x').hex()}", [b"half"])
    quota = Quota()
    blobs = await FileBlobs.open(files, offload, quota)
    assert (blobs.ids(), blobs.used_bytes(), quota.used_bytes) == ([ID], 5, 5)
    assert files.list_dir("blobs/unfinished") == []
    assert await blobs.read(ID) == b"12345"


async def test_foreign_names_are_left_alone(open_blobs: Open, files: Files) -> None:
    foreign = [
        "blobs/readme",
        "blobs/ab/note",
        f"blobs/00/{ID.hex()}",
        f"blobs/{ID.hex()[:2]}/{ID.hex().upper()}x",
    ]
    foreign += ["blobs/unfinished/note", "blobs/lost+found".replace("+", "-")]
    for path in foreign:
        files.create(path, [b"foreign"])
    blobs = await open_blobs()
    assert (blobs.ids(), blobs.used_bytes()) == ([], 0)
    assert [files.read(path) for path in foreign] == [b"foreign"] * len(foreign)


async def test_quota_is_never_exceeded_and_a_refusal_leaves_no_trace(
    files: Files, offload: InlineOffload
) -> None:
    quota = Quota(8 << 20)
    blobs = await FileBlobs.open(files, offload, quota)
    room = (7 << 20) - 10
    await blobs.put(ID, [bytes(room)])
    with pytest.raises(StoreFull):
        await blobs.put(name("two"), [bytes(11)])
    assert (blobs.ids(), blobs.used_bytes(), quota.used_bytes) == ([ID], room, room)
    assert blobs.size(name("two")) is None
    assert files.list_dir("blobs/unfinished") == []
    await blobs.put(name("two"), [bytes(10)])
    with pytest.raises(StoreFull):
        await blobs.put(name("three"), [b"1"])
    await blobs.remove([ID])
    await blobs.put(name("three"), [b"1"])


async def test_puts_side_by_side_share_one_budget(files: Files, offload: InlineOffload) -> None:
    quota = Quota(1 << 20)
    blobs = await FileBlobs.open(files, offload, quota)
    results = await asyncio.gather(
        *(blobs.put(name(str(n)), [bytes(1 << 17)]) for n in range(12)), return_exceptions=True
    )
    kept = [result for result in results if result is None]
    assert len(kept) == 7
    assert all(result is None or isinstance(result, StoreFull) for result in results)
    assert blobs.used_bytes() == quota.used_bytes == 7 << 17
    assert len(blobs.ids()) == 7


async def test_the_same_blob_twice_at_once_is_stored_and_counted_once(open_blobs: Open, quota: Quota) -> None:
    blobs = await open_blobs()
    await asyncio.gather(*(blobs.put(ID, [b"12345"]) for _ in range(5)))
    assert blobs.used_bytes() == quota.used_bytes == 5


async def test_bad_arguments_are_refused(open_blobs: Open) -> None:
    blobs = await open_blobs()
    for bad in (b"", b"short", bytes(33)):
        with pytest.raises(UsageError):
            await blobs.put(bad, [b"x"])
        with pytest.raises(UsageError):
            await blobs.read(bad)
        with pytest.raises(UsageError):
            await blobs.remove([bad])
    with pytest.raises(UsageError):
        await blobs.put(ID, [bytes(MAX_BLOB_BYTES), b"1"])
    await blobs.put(ID, [b"x"])
    for offset, size_bytes in ((-1, None), (0, -1)):
        with pytest.raises(UsageError):
            await blobs.read(ID, offset, size_bytes)
    assert blobs.ids() == [ID]


async def test_a_file_that_is_no_blob_by_its_size_is_not_read_into_memory(
    open_blobs: Open, files: Files
) -> None:
    files.create(PATH, [bytes(MAX_BLOB_BYTES), b"1"])
    blobs = await open_blobs()
    with pytest.raises(StoreDamaged):
        await blobs.read(ID)


async def test_a_blob_that_grew_is_read_no_further_than_it_was(open_blobs: Open, files: Files) -> None:
    blobs = await open_blobs()
    await blobs.put(ID, [b"12345"])
    files.append(PATH, [b"67890"])
    assert await blobs.read(ID) == b"12345"
