"""Large writes past the page cache give the same file as any other write."""

import errno
import fcntl
import os
import random
from pathlib import Path
from typing import Any

import pytest

from storage import direct_io
from storage.direct_io import BLOCK_BYTES, MIN_DIRECT_BYTES, write_at

DATA = random.Random(1).randbytes(3 << 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def write(path: Path, offset: int, parts: list[bytes]) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        write_at(descriptor, offset, parts)
        assert fcntl.fcntl(descriptor, fcntl.F_GETFL) == flags
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("offset", [0, 1, BLOCK_BYTES, 8 * BLOCK_BYTES + 5])
@pytest.mark.parametrize(
    "size", [0, 1, BLOCK_BYTES, MIN_DIRECT_BYTES - 1, MIN_DIRECT_BYTES, (1 << 20) + 77, len(DATA)]
)
def test_the_file_holds_what_was_written(path: Path, offset: int, size: int) -> None:
    write(path, offset, [DATA[:84], DATA[84:90], DATA[90:size]] if size > 90 else [DATA[:size]])
    expected = bytes(offset) + DATA[:size] if size else b""
    assert path.read_bytes() == expected


def test_what_stands_around_it_stays(path: Path) -> None:
    path.write_bytes(b"x" * (4 << 20))
    write(path, 1 << 20, [DATA[: (1 << 20) + 10]])
    found = path.read_bytes()
    assert found[: 1 << 20] == b"x" * (1 << 20)
    assert found[1 << 20 : (2 << 20) + 10] == DATA[: (1 << 20) + 10]
    assert set(found[(2 << 20) + 10 :]) == {ord("x")}
    assert len(found) == 4 << 20


@pytest.mark.parametrize("refusing", ["flag", "write", "short"])
def test_a_file_system_that_does_not_know_it_gets_the_usual_write(
    path: Path, monkeypatch: pytest.MonkeyPatch, refusing: str
) -> None:
    real_pwrite, real_fcntl = os.pwrite, fcntl.fcntl

    def is_direct(descriptor: int) -> bool:
        return bool(real_fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)

    def pwrite(descriptor: int, view: Any, offset: int) -> int:
        if is_direct(descriptor) and refusing == "write":
            raise OSError(errno.EINVAL, "no")
        if is_direct(descriptor) and refusing == "short":
            return real_pwrite(descriptor, view[:BLOCK_BYTES], offset)
        return real_pwrite(descriptor, view, offset)

    def set_flags(descriptor: int, command: int, flags: int = 0) -> int:
        if refusing == "flag" and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no")
        return real_fcntl(descriptor, command, flags)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(fcntl, "fcntl", set_flags)
    write(path, 0, [DATA])
    monkeypatch.undo()
    assert path.read_bytes() == DATA


def test_a_full_disk_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pwrite(descriptor: int, view: Any, offset: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match="full"):
        write(path, 0, [DATA])


def test_buffers_are_reused(path: Path) -> None:
    for _ in range(3):
        write(path, 0, [DATA])
    assert 1 <= len(direct_io._idle) <= 8
