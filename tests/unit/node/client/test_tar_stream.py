import os
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from node.client import tar_stream
from node.client.tar_stream import write_tar


def collect(top: Path) -> tuple[dict[str, bytes | None], list[tuple[str, str]]]:
    data, reports = bytearray(), list[tuple[str, str]]()
    write_tar(top, data.extend, 4096, lambda path, reason: reports.append((path, reason)))
    found: dict[str, bytes | None] = {}
    with tarfile.open(fileobj=BytesIO(bytes(data))) as tar:
        for member in tar:
            contents = tar.extractfile(member) if member.isreg() else None
            found[member.name] = contents.read() if contents else None
    return found, reports


def intercept_open(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], None]) -> None:
    """Runs `act` right before `name` is opened."""
    real = os.open

    def fake(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == name:
            act()
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", fake)


def test_unreadable_entries_are_reported_and_the_rest_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "locked").write_text("secret")
    (tmp_path / "z").write_text("z")

    def refuse() -> None:
        raise PermissionError(13, "Permission denied")

    intercept_open(monkeypatch, "locked", refuse)
    found, reports = collect(tmp_path)
    top = tmp_path.name
    assert found == {top: None, f"{top}/a": b"a", f"{top}/z": b"z"}
    assert reports == [(f"{top}/locked", "Permission denied")]


def test_a_directory_exchanged_for_a_link_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)

    def exchange() -> None:
        (top / "sub").rmdir()
        (top / "sub").symlink_to(outside)

    intercept_open(monkeypatch, "sub", exchange)
    found, reports = collect(top)
    assert found == {"top": None}
    assert [path for path, _ in reports] == ["top/sub"]


def test_a_file_exchanged_for_a_pipe_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("x")

    def exchange() -> None:
        file.unlink()
        os.mkfifo(file)

    intercept_open(monkeypatch, "file", exchange)
    found, reports = collect(tmp_path)
    assert found == {tmp_path.name: None}
    assert "exchanged" in reports[0][1]


def test_a_file_that_shrinks_keeps_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").write_bytes(b"x" * 50_000)
    (tmp_path / "next").write_bytes(b"n")
    real = os.fstat

    def fake(descriptor: int) -> os.stat_result:
        info = real(descriptor)
        if info.st_size == 50_000:
            os.truncate(tmp_path / "log", 20_000)
        return info

    monkeypatch.setattr(os, "fstat", fake)
    found, reports = collect(tmp_path)
    top = tmp_path.name
    assert found[f"{top}/log"] == b"x" * 20_000 + bytes(30_000)
    assert found[f"{top}/next"] == b"n"
    assert [path for path, _ in reports] == [f"{top}/log"]


def test_a_very_deep_tree_ends(tmp_path: Path) -> None:
    descriptors = [os.open(tmp_path, os.O_RDONLY)]
    for _ in range(tar_stream.MAX_DEPTH + 5):
        os.mkdir("d", dir_fd=descriptors[-1])
        descriptors.append(os.open("d", os.O_RDONLY, dir_fd=descriptors[-1]))
        if len(descriptors) > 2:
            os.close(descriptors.pop(0))
    for descriptor in descriptors:
        os.close(descriptor)
    found, reports = collect(tmp_path)
    assert len(found) == tar_stream.MAX_DEPTH + 1
    assert len(reports) == 1
