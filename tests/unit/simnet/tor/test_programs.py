"""The tor that is installed."""

from pathlib import Path

import pytest

from kernel.errors import Unavailable
from simnet.tor import programs
from simnet.tor.programs import find_program, find_tor, parse_version, read_tail


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder where programs are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def plant(folder: Path, script: str) -> None:
    (folder / "tor").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "tor").chmod(0o755)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Tor version 0.4.9.11.\nmore", (0, 4, 9, 11)),
        ("Tor version 0.4.8.1-alpha (git-1234).", (0, 4, 8, 1)),
        ("Tor version 1.0.0.", (1, 0, 0)),
        ("Tor version four", None),
        ("", None),
    ],
)
def test_versions(text: str, version: tuple[int, ...] | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("name", ["tor", "tor-gencert"])
def test_what_is_missing_is_one_line_to_run(bin_folder: Path, name: str) -> None:
    with pytest.raises(Unavailable, match=f"^{name} is not installed") as caught:
        find_program(name)
    assert caught.value.hint == "Run: sudo apt-get install -y tor"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo Tor version 0.4.7.16.", "version 0.4.8 is needed, it is 0.4.7.16"),
        ("echo something", "it is unknown"),
        ("exit 1", "it is unknown"),
    ],
)
def test_an_old_or_strange_tor_is_refused(bin_folder: Path, script: str, message: str) -> None:
    plant(bin_folder, script)
    with pytest.raises(Unavailable, match=message) as caught:
        find_tor()
    assert "apt-get install -y tor" in caught.value.hint


def test_a_tor_that_cannot_run_is_told_of(bin_folder: Path) -> None:
    plant(bin_folder, "")
    (bin_folder / "tor").write_bytes(b"\x7fELF nonsense")
    with pytest.raises(Unavailable, match="does not run"):
        find_tor()


def test_a_new_tor_is_found(bin_folder: Path) -> None:
    plant(bin_folder, "echo Tor version 0.4.8.0.")
    assert find_tor() == str(bin_folder / "tor")


def test_the_end_of_a_log(tmp_path: Path) -> None:
    assert read_tail(tmp_path / "log") == ""
    (tmp_path / "log").write_text("x" * 5000 + "\nthe end\n")
    assert len(read_tail(tmp_path / "log")) < programs.LOG_TAIL_BYTES
    assert read_tail(tmp_path / "log").endswith("x\nthe end")
