import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import Conflict, NotFound, StoreError, StoreFull, UsageError
from kernel.ports import Entropy
from node.identity import secret_file
from node.identity.secret_file import create_file, read_regular_file, replace_file

STEPS = 6  # open, fdopen, fsync, link or replace, open and fsync of the directory


class FailingOs:
    """The module `os`, whose n-th call to something that touches the disk fails."""

    def __init__(self, fail_at: int, error: int) -> None:
        self.calls = 0
        self.reached = False
        self._fail_at, self._error = fail_at, error

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in {"open", "fdopen", "fsync", "link", "replace"}:
            return real

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls == self._fail_at:
                self.reached = True
                raise OSError(self._error, os.strerror(self._error))
            return real(*arguments, **named)

        return call


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_new_file_is_private_and_whole(tmp_path: Path, entropy: Entropy) -> None:
    path = tmp_path / "secret"
    previous = os.umask(0)
    try:
        create_file(path, b"contents", entropy)
    finally:
        os.umask(previous)
    assert read_regular_file(path, 8) == (b"contents", 0o600)
    assert names(tmp_path) == ["secret"]
    assert path.stat().st_nlink == 1


def test_nothing_is_overwritten(tmp_path: Path, entropy: Entropy) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    with pytest.raises(Conflict, match="exists already"):
        create_file(path, b"new", entropy)
    assert path.read_bytes() == b"old"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(Conflict):
        create_file(path, b"new", entropy)
    assert names(tmp_path) == ["secret"]


def test_what_is_called_before_the_name_sees_no_file_and_can_stop_it(
    tmp_path: Path, entropy: Entropy
) -> None:
    path = tmp_path / "secret"
    seen: list[bool] = []

    def refuse() -> None:
        seen.append(path.exists())
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        create_file(path, b"new", entropy, refuse)
    assert seen == [False]
    assert names(tmp_path) == []


def test_replacing_gives_the_new_contents_and_mode(tmp_path: Path, entropy: Entropy) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o644)
    replace_file(path, b"new", entropy)
    assert read_regular_file(path, 8) == (b"new", 0o600)
    assert names(tmp_path) == ["secret"]


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path, entropy: Entropy) -> None:
    (tmp_path / "secret.0123456789abcdef.tmp").write_bytes(b"torn")
    kept = ["secret.0123456789abcdef.tmpx", "secret.backup.tmp", "x.0123456789abcdef.tmp"]
    for name in kept:
        (tmp_path / name).write_bytes(b"mine")
    create_file(tmp_path / "secret", b"new", entropy)
    assert names(tmp_path) == sorted(["secret", *kept])


@pytest.mark.parametrize(
    ("error", "kind"), [(errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull), (errno.EIO, StoreError)]
)
@pytest.mark.parametrize("write", [create_file, replace_file])
def test_a_disk_that_fails_at_any_step_leaves_the_old_file_or_the_new(
    tmp_path: Path,
    entropy: Entropy,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path, bytes, Entropy], None],
    error: int,
    kind: type[StoreError],
) -> None:
    path = tmp_path / "secret"
    for step in range(1, 100):
        path.unlink(missing_ok=True)
        if write is replace_file:
            path.write_bytes(b"old")
        failing = FailingOs(step, error)
        with monkeypatch.context() as patch:
            patch.setattr(secret_file, "os", failing)
            if step <= STEPS:
                with pytest.raises(kind, match="cannot be written"):
                    write(path, b"new", entropy)
            else:
                write(path, b"new", entropy)
        allowed = [b"old", b"new"] if write is replace_file else [None, b"new"]
        assert (path.read_bytes() if path.exists() else None) in allowed
        assert set(names(tmp_path)) <= {"secret"}
        if not failing.reached:
            assert path.read_bytes() == b"new"
            break
    assert step == STEPS + 1


def test_reading_is_bounded_and_takes_regular_files_only(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    path.chmod(0o640)
    assert read_regular_file(path, 5) == (b"12345", 0o640)
    with pytest.raises(UsageError, match="longer than 4"):
        read_regular_file(path, 4)
    with pytest.raises(UsageError, match="no regular file"):
        read_regular_file(tmp_path, 5)
    with pytest.raises(NotFound):
        read_regular_file(tmp_path / "missing", 5)
    with pytest.raises(NotFound):
        read_regular_file(path / "below", 5)
    with pytest.raises(StoreError, match="cannot be read"):
        read_regular_file(tmp_path / ("n" * 300), 5)


def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(UsageError, match="no regular file"):
        read_regular_file(pipe, 5)


def test_a_device_that_never_ends_is_refused() -> None:
    with pytest.raises(UsageError, match="no regular file"):
        read_regular_file(Path("/dev/zero"), 5)
