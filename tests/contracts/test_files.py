"""What every `Files` does."""

import pytest

from kernel.errors import LucidError, StoreError, UsageError
from kernel.ports import Files


def test_create_writes_all_parts_and_makes_directories(files: Files) -> None:
    files.create("a/b/c", [b"one", b"", b"two", bytes(70_000)])
    assert files.read("a/b/c") == b"onetwo" + bytes(70_000)
    assert files.size("a/b/c") == 70_006


def test_create_replaces(files: Files) -> None:
    files.create("a", [b"long contents"])
    files.create("a", [b"short"])
    assert files.read("a") == b"short"


def test_create_of_nothing_is_an_empty_file(files: Files) -> None:
    files.create("a", [])
    assert files.read("a") == b""
    assert files.list_dir("") == ["a"]


def test_create_takes_more_parts_than_one_system_call(files: Files) -> None:
    parts = [bytes([n % 256]) * (n % 7) for n in range(3000)]
    files.create("a", parts)
    assert files.read("a") == b"".join(parts)


def test_append_makes_and_extends(files: Files) -> None:
    files.append("d/a", [b"one"])
    files.append("d/a", [b"two", b"three"])
    assert files.read("d/a") == b"onetwothree"


@pytest.mark.parametrize(
    ("offset", "size_bytes", "expected"),
    [(0, None, b"0123456789"), (3, None, b"3456789"), (3, 4, b"3456"), (8, 9, b"89"), (10, 5, b""),
     (99, None, b""), (0, 0, b"")],
)  # fmt: skip
def test_read_ranges(files: Files, offset: int, size_bytes: int | None, expected: bytes) -> None:
    files.create("a", [b"0123456789"])
    assert files.read("a", offset, size_bytes) == expected


def test_truncate_cuts(files: Files) -> None:
    files.create("a", [b"0123456789"])
    files.truncate("a", 4)
    files.append("a", [b"x"])
    assert files.read("a") == b"0123x"


def test_rename_replaces_and_makes_directories(files: Files) -> None:
    files.create("a", [b"new"])
    files.create("b", [b"old"])
    files.rename("a", "b")
    assert files.list_dir("") == ["b"]
    files.rename("b", "c/d/e")
    assert files.read("c/d/e") == b"new"
    assert files.list_dir("") == ["c/"]


def test_remove(files: Files) -> None:
    files.create("d/a", [b"x"])
    files.remove("d/a")
    assert files.list_dir("d") == []


def test_remove_dir_takes_only_empty_ones(files: Files) -> None:
    files.create("d/a", [b"x"])
    files.remove_dir("d")
    assert files.list_dir("d") == ["a"]
    files.remove("d/a")
    files.remove_dir("d")
    files.remove_dir("d")
    assert files.list_dir("") == []


def test_list_dir_is_sorted_and_marks_directories(files: Files) -> None:
    for path in ("z", "b/x", "a.log", "A", "b.c"):
        files.create(path, [])
    assert files.list_dir("") == ["A", "a.log", "b.c", "b/", "z"]
    assert files.list_dir("missing") == []


def test_fsync_of_what_is_there(files: Files) -> None:
    files.create("d/a", [b"x"])
    files.fsync("d/a")
    files.fsync_dir("d")
    files.fsync_dir("")
    assert files.read("d/a") == b"x"


def test_what_is_missing_is_file_not_found(files: Files) -> None:
    files.create("there", [])
    for attempt in (
        lambda: files.read("a"),
        lambda: files.size("a"),
        lambda: files.truncate("d/a", 0),
        lambda: files.fsync("a"),
        lambda: files.fsync_dir("a"),
        lambda: files.rename("a", "there"),
        lambda: files.rename("d/a", "e/b"),
        lambda: files.remove("a"),
    ):
        with pytest.raises(FileNotFoundError):
            attempt()
    assert files.list_dir("") == ["there"]


def test_a_directory_is_no_file_and_a_file_no_directory(files: Files) -> None:
    files.create("d/a", [b"x"])
    for attempt in (
        lambda: files.read("d"),
        lambda: files.append("d", [b"x"]),
        lambda: files.create("d/a/b", [b"x"]),
        lambda: files.list_dir("d/a"),
    ):
        with pytest.raises(StoreError):
            attempt()
    assert files.read("d/a") == b"x"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "../a",
        "a/.",
        "a\0b",
        "a b",
        "ü",
        "x" * 256,
        "a\n",
        "a/" * 600,
    ],
)
def test_paths_that_are_none_are_refused(files: Files, path: str) -> None:
    for attempt in (
        lambda: files.create(path, [b"x"]),
        lambda: files.append(path, [b"x"]),
        lambda: files.read(path),
        lambda: files.size(path),
        lambda: files.truncate(path, 0),
        lambda: files.fsync(path),
        lambda: files.rename(path, "b"),
        lambda: files.rename("there", path),
        lambda: files.remove(path),
        lambda: files.remove_dir(path),
    ):
        files.create("there", [])
        with pytest.raises(UsageError):
            attempt()
    if path:
        with pytest.raises(LucidError):
            files.list_dir(path)
        with pytest.raises(UsageError):
            files.fsync_dir(path)
    assert files.list_dir("") == ["there"]
