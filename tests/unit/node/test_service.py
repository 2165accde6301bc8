import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kernel.errors import Conflict, NotFound, UsageError
from node import service
from node.home import Home
from node.service import install_unit, make_unit, uninstall_unit


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text("x")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("user", [0, 1000])
def test_systemd_takes_the_unit(
    home: Home, passphrase: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    unit = make_unit(home, passphrase, tmp_path / "units")
    install_unit(unit)
    assert unit.is_system == (user == 0)
    assert f"LoadCredential=passphrase:{passphrase}" in unit.text
    assert shutil.which("systemd-analyze"), "this test needs the package systemd"
    scope = [] if user == 0 else ["--user"]
    done = subprocess.run(
        ["systemd-analyze", *scope, "verify", str(unit.path)],
        capture_output=True,
        text=True,
        check=False,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if unit.path.name in line]) == (0, [])


def test_a_system_unit_runs_as_the_owner_of_the_home(
    home: Home, passphrase: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    text = make_unit(home, passphrase, None).text
    assert f"User={home.root.owner()}" in text
    assert f"ReadWritePaths={home.root}" in text


def test_paths_that_unit_files_read_differently_are_refused(tmp_path: Path, passphrase: Path) -> None:
    for name in ("with space", "per%cent", 'quote"', "new\nline", "dollar$"):
        with pytest.raises(UsageError):
            make_unit(Home(tmp_path / name), passphrase, None)


def test_a_passphrase_file_that_others_read_is_refused(home: Home, passphrase: Path) -> None:
    passphrase.chmod(0o644)
    with pytest.raises(UsageError) as caught:
        make_unit(home, passphrase, None)
    assert "chmod 600" in caught.value.hint
    with pytest.raises(UsageError):
        make_unit(home, passphrase.with_name("missing"), None)


def test_our_unit_is_replaced_and_removed_that_of_others_is_not(
    home: Home, passphrase: Path, tmp_path: Path
) -> None:
    units = tmp_path / "units"
    unit = make_unit(home, passphrase, units)
    install_unit(unit)
    install_unit(unit)
    assert [path.name for path in units.iterdir()] == [service.UNIT_NAME]
    wants = units / "multi-user.target.wants"
    wants.mkdir()
    (wants / service.UNIT_NAME).symlink_to(unit.path)
    removed = uninstall_unit(units)
    assert any("stop lucid-node" in command for command in removed.removal_commands)
    assert not unit.path.exists()
    assert list(wants.iterdir()) == []
    wants.rmdir()
    with pytest.raises(NotFound):
        uninstall_unit(units)
    unit.path.write_text("[Unit]\n")
    with pytest.raises(Conflict):
        install_unit(unit)
    with pytest.raises(Conflict):
        uninstall_unit(units)
    assert unit.path.read_text() == "[Unit]\n"
