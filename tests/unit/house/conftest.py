"""What is in the repository: its files, as they are checked in or about to be."""

from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Made by tools; .gitignore has the same list.
MADE = {"__pycache__", "build", "node_modules"}


def walk(folder: Path) -> Iterator[Path]:
    """Files below `folder`, without what tools make: caches, .venv, .git."""
    for path in sorted(folder.iterdir()):
        if path.name in MADE or path.name.endswith(".egg-info"):
            continue
        if path.is_dir() and (not path.name.startswith(".") or path.name == ".ci"):
            yield from walk(path)
        elif path.is_file() and path.name != ".git":
            yield path


def read_text(path: Path) -> str | None:
    """The text of a file, None if it is binary."""
    data = path.read_bytes()
    return None if b"\0" in data[:8192] else data.decode(errors="replace")


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    """Every text file by its path from the top."""
    return {
        path.relative_to(ROOT).as_posix(): text
        for path in walk(ROOT)
        if (text := read_text(path)) is not None
    }


@pytest.fixture(scope="session")
def documents(texts: dict[str, str]) -> dict[str, str]:
    """Every Markdown file by its path from the top."""
    return {path: text for path, text in texts.items() if path.endswith(".md")}
