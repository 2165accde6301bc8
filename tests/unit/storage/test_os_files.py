import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.errors import StoreError, StoreFull
from storage.os_files import OsFiles

ROOT = Path(__file__).parents[3]


@pytest.fixture
def files(tmp_path: Path) -> OsFiles:
    return OsFiles(tmp_path)


def test_modes_are_private_whatever_the_umask(files: OsFiles, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.create("a/b/c", [b"x"])
        files.rename("a/b/c", "d/e/f")
        files.append("g/h", [b"x"])
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_short_writes_are_continued(files: OsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    real, real_at = os.writev, os.pwrite
    monkeypatch.setattr(os, "writev", lambda descriptor, parts: real(descriptor, [bytes(parts[0])[:3]]))
    monkeypatch.setattr(os, "pwrite", lambda descriptor, view, at: real_at(descriptor, view[:3], at))
    parts = [b"", b"0123456789", b"abc", b"", b"defg" * 5]
    files.create("a", parts)
    files.append("a", parts)
    assert files.read("a") == b"".join(parts) * 2


def test_short_writes_that_end_inside_a_later_part(files: OsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda descriptor, parts: real(descriptor, [b"".join(parts)[:7]]))
    parts = [b"abc", b"de", b"fghijklmn", b"o"]
    files.append("a", parts)
    assert files.read("a") == b"".join(parts)


def test_short_reads_are_continued(files: OsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    files.create("a", [b"0123456789"])
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: real(descriptor, min(size, 3), offset))
    assert files.read("a", 1) == b"123456789"
    assert files.read("a", 1, 5) == b"12345"


FAILING: list[tuple[str, Callable[[OsFiles], object]]] = [
    ("pwrite", lambda files: files.create("a", [b"x"])),
    ("writev", lambda files: files.append("a", [b"x"])),
    ("fsync", lambda files: files.fsync("there")),
    ("fsync", lambda files: files.fsync_dir("")),
    ("ftruncate", lambda files: files.truncate("there", 0)),
    ("pread", lambda files: files.read("there")),
    ("scandir", lambda files: files.list_dir("")),
    ("open", lambda files: files.append("a", [b"x"])),
]


@pytest.mark.parametrize(
    ("code", "full"),
    [
        (errno.ENOSPC, True),
        (errno.EDQUOT, True),
        (errno.EFBIG, True),
        (errno.EIO, False),
        (errno.EROFS, False),
    ],
)
@pytest.mark.parametrize(("call", "attempt"), FAILING)
def test_failures_of_the_system_are_typed_and_say_why(
    files: OsFiles,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    attempt: Callable[[OsFiles], object],
    code: int,
    full: bool,
) -> None:
    files.create("there", [b"x"])

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StoreFull if full else StoreError, match=os.strerror(code)) as error:
        attempt(files)
    assert isinstance(error.value, StoreFull) == full


def test_the_limit_on_file_sizes_is_full(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
from pathlib import Path
from kernel.errors import StoreFull
from storage.os_files import OsFiles
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
files = OsFiles(Path(sys.argv[1]))
try:
    files.create("a", [bytes(600), bytes(600)])
except StoreFull as error:
    print("full", files.size("a"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "full 1000\n"


def test_symbolic_links_are_not_followed(files: OsFiles, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(target)
    for attempt in (
        lambda: files.create("link", [b"x"]),
        lambda: files.append("link", [b"x"]),
        lambda: files.read("link"),
        lambda: files.truncate("link", 0),
        lambda: files.fsync("link"),
    ):
        with pytest.raises(StoreError):
            attempt()
    assert target.read_bytes() == b"precious"
    assert files.size("link") != 8
    files.create("new", [b"new"])
    files.rename("new", "link")
    assert (target.read_bytes(), files.read("link")) == (b"precious", b"new")


def test_a_link_to_a_directory_is_not_listed_as_one(files: OsFiles, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert files.list_dir("") == ["link", "real/"]


def test_a_planted_pipe_blocks_nobody(files: OsFiles, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for attempt in (
        lambda: files.read("pipe"),
        lambda: files.create("pipe", [b"x"]),
        lambda: files.append("pipe", [b"x"]),
        lambda: files.fsync("pipe"),
    ):
        with pytest.raises(StoreError):
            attempt()


def test_no_descriptor_is_left_or_inherited(files: OsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    flags = []
    real = os.open

    def record(path: Path, flag: int, mode: int = 0o777) -> int:
        flags.append(flag)
        return real(path, flag, mode)

    monkeypatch.setattr(os, "open", record)
    files.create("d/a", [b"x"])
    files.append("d/a", [b"x"])
    files.read("d/a")
    files.truncate("d/a", 1)
    files.fsync("d/a")
    files.fsync_dir("d")
    with pytest.raises(FileNotFoundError):
        files.read("missing")
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert len(flags) >= 7
    assert all(flag & os.O_CLOEXEC for flag in flags)


def test_a_directory_that_vanishes_before_use_is_made_again(
    files: OsFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = Path.mkdir, [3]

    def vanish(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        real(path, mode, parents, exist_ok)
        if left[0] and path.name in ("d", "e"):
            left[0] -= 1
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", vanish)
    files.append("d/a", [b"x"])
    assert files.read("d/a") == b"x"
    left[0] = 3
    files.remove("d/a")
    files.remove_dir("d")
    files.create("b", [b"y"])
    files.rename("b", "d/b")
    assert files.read("d/b") == b"y"
    left[0] = 5
    files.append("e/d/a", [b"z"])
    assert files.read("e/d/a") == b"z"
    left[0] = 10**6
    files.remove("d/b")
    files.remove_dir("d")
    with pytest.raises(StoreError, match="vanishes"):
        files.append("d/a", [b"x"])
