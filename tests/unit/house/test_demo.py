"""What the demo goes over, and what it says of that."""

from pathlib import Path

import pytest

from kernel.errors import Unavailable, UsageError
from node.transport.tor import program
from scripts.demo_transport import Way, choose_way, tell_way


def plant_tor(folder: Path, version: str) -> None:
    for name in ("tor", "tor-gencert"):
        (folder / name).write_text(f"#!/bin/sh\necho Tor version {version}.\n")
        (folder / name).chmod(0o755)


def test_it_goes_over_tor_unless_something_else_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_tor(tmp_path, "0.4.9.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose_way("") == choose_way("tor") == Way("tor")
    assert not choose_way("tor").mark
    assert choose_way("loopback").name == "loopback"
    with pytest.raises(UsageError):
        choose_way("Tor")


@pytest.mark.parametrize("version", ["", "0.4.7.16"])
def test_without_a_tor_it_says_so_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    monkeypatch.setattr(program, "MORE_PLACES", ())
    if version:
        plant_tor(tmp_path, version)
    monkeypatch.setenv("PATH", str(tmp_path))
    way = choose_way("")
    assert (way.name, way.mark) == ("loopback", "  [over loopback, NOT Tor]")
    tell_way(way)
    said = capsys.readouterr().out
    assert ("is too old" if version else "there is no program tor") in said
    assert "sudo apt-get install -y tor\n" in said
    with pytest.raises(Unavailable):
        choose_way("tor")
