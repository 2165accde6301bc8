"""The Tor that is installed."""

from pathlib import Path

import pytest

from kernel.errors import Unavailable
from node.transport.tor import program
from node.transport.tor.program import ask_version, check_version, find_program, parse_version


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder where programs are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(program, "MORE_PLACES", ())
    return tmp_path


def plant(folder: Path, script: str) -> None:
    (folder / "tor").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "tor").chmod(0o755)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.4.9.11", (0, 4, 9, 11)),
        ("0.4.8.1-alpha (git-1234)", (0, 4, 8, 1)),
        ("1.0.0", (1, 0, 0)),
        ("four", ()),
        ("", ()),
    ],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("name", ["tor", "tor-gencert"])
def test_what_is_missing_is_one_line_to_run(bin_folder: Path, name: str) -> None:
    with pytest.raises(Unavailable, match=f"there is no program {name}") as caught:
        find_program(name)
    assert caught.value.hint == "Install it: sudo apt-get install -y tor"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo Tor version 0.4.7.16.", "0.4.7.16 is too old"),
        ("echo something", "does not say its version"),
        ("exit 1", "does not say its version"),
    ],
)
def test_an_old_or_strange_tor_is_refused(bin_folder: Path, script: str, message: str) -> None:
    plant(bin_folder, script)
    with pytest.raises(Unavailable, match=message) as caught:
        check_version(ask_version(find_program("tor")))
    assert "apt-get install -y tor" in caught.value.hint


def test_a_tor_that_cannot_run_is_told_of(bin_folder: Path) -> None:
    plant(bin_folder, "")
    (bin_folder / "tor").write_bytes(b"\x7fELF nonsense")
    with pytest.raises(Unavailable, match="does not run"):
        ask_version(find_program("tor"))


def test_a_new_tor_is_found(bin_folder: Path) -> None:
    plant(bin_folder, "echo Tor version 0.4.8.0.")
    assert find_program("tor") == str(bin_folder / "tor")
    check_version(ask_version(find_program("tor")))


def test_it_is_found_where_only_root_looks(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bin_folder / "sbin").mkdir()
    plant(bin_folder / "sbin", "echo Tor version 0.4.8.0.")
    monkeypatch.setattr(program, "MORE_PLACES", (str(bin_folder / "sbin"),))
    assert find_program("tor") == str(bin_folder / "sbin" / "tor")
