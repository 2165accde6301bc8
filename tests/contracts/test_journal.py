"""What `FileJournal` does, over every `Files`."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kernel.errors import StoreDamaged, StoreError, StoreFull, StoreTooNew, UsageError
from kernel.ports import Files, JournalContents
from storage import journal_format
from storage.inline import InlineOffload
from storage.journal import FileJournal
from storage.journal_format import HEADER_BYTES, MAX_PAYLOAD_BYTES, RECORD_BYTES
from storage.quota import Quota

Open = Callable[[], Awaitable[FileJournal]]
S = "ab/abcd/facts"
PATH = f"journal/{S}.log"


def intact(*payloads: bytes, first: int = 0) -> JournalContents:
    return JournalContents(list(enumerate(payloads, first)), [], 0)


@pytest.fixture
def open_journal(files: Files, offload: InlineOffload) -> Open:
    return lambda: FileJournal.open(files, offload, Quota())


@pytest.fixture
async def journal(open_journal: Open) -> FileJournal:
    return await open_journal()


async def test_append_and_read(journal: FileJournal) -> None:
    assert await journal.read(S) == intact()
    await journal.append(S, [b"one", b""])
    await journal.append(S, [b"three"])
    assert await journal.read(S) == intact(b"one", b"", b"three")


async def test_sequence_numbers_go_on_after_reopening(open_journal: Open) -> None:
    await (await open_journal()).append(S, [b"one", b"two"])
    journal = await open_journal()
    await journal.append(S, [b"three"])
    assert await journal.read(S) == intact(b"one", b"two", b"three")


async def test_appending_nothing_makes_no_stream(journal: FileJournal) -> None:
    await journal.append(S, [])
    assert (journal.streams(), journal.size(S)) == ([], 0)


async def test_streams_and_sizes(open_journal: Open, files: Files) -> None:
    journal = await open_journal()
    for stream in ("b", "a/x", "a/y", "a", "ab/c/d"):
        await journal.append(stream, [b"12345"])
    for reader in (journal, await open_journal()):
        assert reader.streams() == ["a", "a/x", "a/y", "ab/c/d", "b"]
        assert reader.streams("a/") == ["a/x", "a/y"]
        assert reader.streams("c") == []
        assert reader.size("a/x") == files.size("journal/a/x.log") == HEADER_BYTES + RECORD_BYTES + 5
        assert reader.used_bytes() == 5 * reader.size("a")
        assert reader.size("missing") == 0


async def test_drop(journal: FileJournal, files: Files) -> None:
    await journal.append("a/b/c", [b"x"])
    await journal.append("a/d", [b"x"])
    await journal.drop("a/b/c")
    await journal.drop("a/b/c")
    await journal.drop("never/was")
    assert journal.streams() == ["a/d"]
    assert journal.used_bytes() == journal.size("a/d")
    assert files.list_dir("journal/a") == ["d.log"]
    await journal.append("a/b/c", [b"new"])
    assert await journal.read("a/b/c") == intact(b"new")
    await journal.drop("a/b/c")
    await journal.drop("a/d")
    assert (journal.streams(), journal.used_bytes(), files.list_dir("journal")) == ([], 0, [])


async def test_sync_of_what_is_there_and_what_is_not(journal: FileJournal) -> None:
    await journal.sync(S)
    await journal.append(S, [b"x"])
    await journal.sync(S)
    await journal.drop(S)
    await journal.sync(S)
    assert journal.streams() == []


async def test_a_torn_end_must_be_trimmed_first(open_journal: Open, files: Files) -> None:
    await (await open_journal()).append(S, [b"one", b"two"])
    files.truncate(PATH, files.size(PATH) - 1)
    journal = await open_journal()
    assert await journal.read(S) == JournalContents([(0, b"one")], [], RECORD_BYTES + 2)
    with pytest.raises(StoreError) as refused:
        await journal.append(S, [b"three"])
    assert "trim" in refused.value.hint
    await journal.trim(S)
    assert await journal.read(S) == intact(b"one")
    await journal.append(S, [b"three"])
    assert await journal.read(S) == intact(b"one", b"three")
    assert journal.used_bytes() == files.size(PATH)


async def test_a_torn_header_is_trimmed_to_nothing(open_journal: Open, files: Files) -> None:
    files.create(PATH, [journal_format.compute_header()[:20]])
    journal = await open_journal()
    assert await journal.read(S) == JournalContents([], [], 20)
    await journal.trim(S)
    await journal.append(S, [b"one"])
    assert await journal.read(S) == intact(b"one")
    assert journal.used_bytes() == files.size(PATH)


async def test_trim_of_what_needs_none(journal: FileJournal) -> None:
    await journal.trim("missing")
    await journal.append(S, [b"one"])
    await journal.trim(S)
    await journal.append(S, [b"two"])
    assert await journal.read(S) == intact(b"one", b"two")


async def test_a_flip_anywhere_costs_at_most_the_record_it_hits(open_journal: Open, files: Files) -> None:
    payloads = [b"first", b"", b"third" * 9, b"LJR1 inside", b"last"]
    await (await open_journal()).append(S, payloads)
    whole = files.read(PATH)
    ends = [HEADER_BYTES]
    for payload in payloads:
        ends.append(ends[-1] + RECORD_BYTES + len(payload))
    for at in range(len(whole)):
        files.create(PATH, [whole[:at], bytes([whole[at] ^ (1 << at % 8)]), whole[at + 1 :]])
        contents = await (await open_journal()).read(S)
        hit = sum(at >= end for end in ends) - 1
        expected = [(n, payload) for n, payload in enumerate(payloads) if n != hit]
        assert contents.records == expected, at
        if hit == -1:
            assert contents.damaged == ["the header of the file"]
        elif hit == len(payloads) - 1:
            assert contents == JournalContents(expected, [], RECORD_BYTES + len(payloads[-1]))
        else:
            assert contents == JournalContents(expected, [f"record {hit}"], 0)


async def test_a_hole_is_reported_as_the_records_it_took(open_journal: Open, files: Files) -> None:
    await (await open_journal()).append(S, [b"%d" % n for n in range(6)])
    whole = files.read(PATH)
    size_bytes = RECORD_BYTES + 1
    first = HEADER_BYTES + size_bytes
    files.create(PATH, [whole[:first], bytes(3 * size_bytes), whole[first + 3 * size_bytes :]])
    contents = await (await open_journal()).read(S)
    assert contents == JournalContents([(0, b"0"), (4, b"4"), (5, b"5")], ["records 1 to 3"], 0)


async def test_damage_to_the_last_record_is_known_while_the_writer_lives(
    journal: FileJournal, files: Files
) -> None:
    await journal.append(S, [b"one", b"two"])
    files.truncate(PATH, files.size(PATH) - 5)
    contents = await journal.read(S)
    assert contents.records == [(0, b"one")]
    assert contents.damaged == ["the last 5 bytes of the file are gone", "record 1"]


async def test_a_vanished_file_is_damage(journal: FileJournal, files: Files) -> None:
    await journal.append(S, [b"one"])
    files.remove(PATH)
    with pytest.raises(StoreDamaged):
        await journal.read(S)
    with pytest.raises(StoreDamaged):
        await journal.sync(S)
    with pytest.raises(StoreDamaged):
        await journal.trim(S)


async def test_records_of_another_stream_are_none(open_journal: Open, files: Files) -> None:
    await (await open_journal()).append("a", [b"one"])
    files.create("journal/b.log", [files.read("journal/a.log")])
    contents = await (await open_journal()).read("b")
    assert contents == JournalContents([], [], RECORD_BYTES + 3)


async def test_a_record_repeated_by_the_disk_counts_once(open_journal: Open, files: Files) -> None:
    await (await open_journal()).append(S, [b"one"])
    files.append(PATH, [files.read(PATH, HEADER_BYTES)])
    contents = await (await open_journal()).read(S)
    assert contents == JournalContents([(0, b"one")], [], RECORD_BYTES + 3)


async def test_a_newer_format_is_refused(
    open_journal: Open, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(journal_format, "VERSION", 2)
        await (await open_journal()).append(S, [b"one"])
    journal = await open_journal()
    with pytest.raises(StoreTooNew):
        await journal.read(S)
    with pytest.raises(StoreTooNew):
        await journal.append(S, [b"two"])


async def test_a_file_forged_to_be_slow_is_given_up(
    open_journal: Open, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_format, "_SEARCH_BYTES", 1 << 20)
    beginning = b"LJR1" + bytes(8) + (1 << 16).to_bytes(4, "big")
    files.create(PATH, [beginning * (1 << 13)])
    with pytest.raises(StoreDamaged):
        await (await open_journal()).read(S)


async def test_appends_to_one_stream_are_serialised(journal: FileJournal) -> None:
    await asyncio.gather(*(journal.append(S, [b"%d" % n, b"%d+" % n]) for n in range(20)))
    contents = await journal.read(S)
    assert [sequence for sequence, _ in contents.records] == list(range(40))
    payloads = [payload for _, payload in contents.records]
    assert all(second == first + b"+" for first, second in zip(payloads[::2], payloads[1::2], strict=True))


async def test_quota(files: Files, offload: InlineOffload) -> None:
    quota = Quota(8 << 20)
    journal = await FileJournal.open(files, offload, quota, reserved=frozenset({"facts"}))
    for _ in range(6):
        await journal.append("tail", [bytes(1 << 20)])
    for stream in ("tail", "x/facts"):
        with pytest.raises(StoreFull):
            await journal.append(stream, [bytes(1 << 20)])
    assert journal.streams() == ["tail"]
    assert journal.used_bytes() == quota.used_bytes == journal.size("tail") == files.size("journal/tail.log")


async def test_small_facts_may_use_the_reserve_and_nothing_else(files: Files, offload: InlineOffload) -> None:
    quota = Quota(1 << 20)
    quota.adopt((1 << 20) - 5000)
    journal = await FileJournal.open(files, offload, quota, reserved=frozenset({"facts"}))
    with pytest.raises(StoreFull):
        await journal.append("ab/tail", [b"x"])
    await journal.append(S, [b"closing", b"words"])
    assert await journal.read(S) == intact(b"closing", b"words")
    with pytest.raises(StoreFull):
        await journal.append(S, [bytes(5000)])
    assert await journal.read(S) == intact(b"closing", b"words")


async def test_what_frees_space_is_never_refused_for_want_of_it(files: Files, offload: InlineOffload) -> None:
    quota = Quota(1 << 20)
    quota.adopt(2 << 20)
    names = {"reserved": frozenset({"facts"}), "freeing": frozenset({"deletions"})}
    journal = await FileJournal.open(files, offload, quota, **names)
    for stream in ("ab/tail", S):
        with pytest.raises(StoreFull):
            await journal.append(stream, [b"x"])
    with pytest.raises(StoreFull):
        await journal.append("deletions", [bytes(65 << 10)])
    await journal.append("deletions", [b"one"])
    assert await journal.read("deletions") == intact(b"one")
    assert quota.used_bytes == (2 << 20) + journal.used_bytes()


async def test_bad_arguments_are_refused(journal: FileJournal) -> None:
    for stream in ("", "/a", "../a", "a//b", "a b", "a/" * 8 + "a"):
        with pytest.raises(UsageError):
            await journal.append(stream, [b"x"])
        with pytest.raises(UsageError):
            await journal.read(stream)
        with pytest.raises(UsageError):
            await journal.drop(stream)
    with pytest.raises(UsageError):
        await journal.append(S, [b"fine", bytes(MAX_PAYLOAD_BYTES + 1)])
    await journal.append(S, [bytes(MAX_PAYLOAD_BYTES)])
    assert journal.streams() == [S]


async def test_foreign_names_are_left_alone(open_journal: Open, files: Files) -> None:
    foreign = ["journal/readme", "journal/.log", "journal/a/b/c/d/e/f/g/h/i/j.log", "journal/x.log.bak"]
    for path in foreign:
        files.create(path, [b"foreign"])
    journal = await open_journal()
    assert (journal.streams(), journal.used_bytes()) == ([], 0)
    assert [files.read(path) for path in foreign] == [b"foreign"] * len(foreign)
