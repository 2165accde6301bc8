"""What is installed: pinned exactly, licensed, explained, and started by the names that are promised."""

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return loaded


@pytest.fixture(scope="module")
def named(project: dict[str, Any]) -> set[str]:
    """Every package that the project asks for by name."""
    return {*project["dependencies"], *project["optional-dependencies"]["dev"]}


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_pins_are_exact_and_sorted(root: Path) -> None:
    lines = (root / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.]*", line)] == []
    assert lines == sorted(lines, key=str.lower)


def test_every_dependency_is_pinned(root: Path, named: set[str]) -> None:
    pinned = {normalise(line.split("==")[0]) for line in (root / "constraints.txt").read_text().splitlines()}
    assert named
    assert {normalise(name) for name in named} - pinned == set()


def test_every_dependency_has_a_reason(root: Path, named: set[str]) -> None:
    decision = (root / "docs/adr/0002-dependencies.md").read_text()
    explained = {normalise(name) for name in re.findall(r"^\| `([^`]+)` \|", decision, re.M)}
    assert {normalise(name) for name in named} == explained


def test_licence_is_apache_2(root: Path, project: dict[str, Any]) -> None:
    text = (root / "LICENSE").read_text()
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_console_scripts_start_something(project: dict[str, Any]) -> None:
    installed = {point.name: point for point in entry_points(group="console_scripts")}
    assert set(project["scripts"]) == {"lucid-node", "lucid-shell", "lucid-simnet"}
    for name, target in project["scripts"].items():
        assert installed[name].value == target
        assert callable(installed[name].load())
