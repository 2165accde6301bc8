"""Documents hold together: links lead somewhere, commands exist, decisions have their sections."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
MENTION = re.compile(r"\bdocs/[\w./-]+\.(?:md|svg)\b")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
ADR_SECTIONS = ["## Context", "## Decision", "## Consequences"]


def compute_anchor(heading: str) -> str:
    """The anchor that Git hosts give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", "")).replace(" ", "-")


def find_anchors(text: str) -> set[str]:
    return {compute_anchor(heading) for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M)}


def find_broken_links(path: str, documents: dict[str, str], root: Path) -> list[str]:
    """Targets of relative links in `path` that name no file, or no heading of one."""
    broken = []
    for target in LINK.findall(FENCE.sub("", documents[path])):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (root / path).parent / name if name else root / path
        known = documents.get(file.resolve().relative_to(root).as_posix())
        if not file.exists() or (anchor and (known is None or anchor not in find_anchors(known))):
            broken.append(target)
    return broken


def find_make_targets(text: str) -> set[str]:
    """Targets of `make` in code spans and fenced blocks; prose may make what it likes."""
    spans = re.findall(r"`(make [^`\n]+)`", FENCE.sub("", text))
    lines = re.findall(r"^\s*\$?\s*(make .+)$", "\n".join(FENCE.findall(text)), re.M)
    words = [word for command in spans + lines for word in shlex.split(command, comments=True)[1:]]
    return {word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)}


def test_broken_links_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.md").touch()
    documents = {"a.md": "# One `two`\n[x](#one-two) [y](b.md) [z](a.md#three) [w](https://example.org/x)"}
    assert find_broken_links("a.md", documents, tmp_path) == ["b.md", "a.md#three"]


def test_make_targets_are_seen() -> None:
    text = "make haste: `make test ARGS='-x unit'` and\n```\n$ make lint demo # now\nmake clean\n```\n"
    assert find_make_targets(text) == {"test", "lint", "demo", "clean"}


def test_links_lead_somewhere(documents: dict[str, str], root: Path) -> None:
    broken = {path: found for path in documents if (found := find_broken_links(path, documents, root))}
    assert broken == {}


def test_documents_that_files_name_exist(texts: dict[str, str], root: Path) -> None:
    missing = {(path, name) for path, text in texts.items() for name in MENTION.findall(text)}
    assert {(path, name) for path, name in missing if not (root / name).exists()} == set()


def test_documents_name_only_targets_that_exist(documents: dict[str, str], root: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.M))
    named = {(path, name) for path, text in documents.items() for name in find_make_targets(text)}
    assert named
    assert {(path, name) for path, name in named if name not in targets} == set()


def test_every_document_is_in_the_index(documents: dict[str, str], root: Path) -> None:
    index = (root / "docs/README.md").resolve()
    targets = [target.partition("#")[0] for target in LINK.findall(index.read_text())]
    listed = {(index.parent / target).resolve() for target in targets}
    docs = {(root / path).resolve() for path in documents if path.startswith("docs/")} - {index}
    assert docs - listed == set()


def test_decisions_have_their_sections(documents: dict[str, str], root: Path) -> None:
    decisions = [path for path in documents if path.startswith("docs/adr/") and Path(path).name[0].isdigit()]
    assert len(decisions) >= 2
    for path in decisions:
        text = documents[path]
        number = Path(path).name[:4]
        assert text.startswith(f"# {number}. "), path
        assert re.search(r"^Status: (proposed|accepted|superseded by \d{4})", text, re.M), path
        assert re.search(r"^Date: \d{4}-\d\d-\d\d$", text, re.M), path
        assert [line for line in text.splitlines() if line in ADR_SECTIONS] == ADR_SECTIONS, path


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "docs/threat-model.md"]
)
def test_what_a_reader_looks_for_is_there(name: str, root: Path) -> None:
    assert len((root / name).read_text()) > 1000


def test_the_picture_is_the_one_that_the_script_draws(root: Path) -> None:
    command = [sys.executable, "scripts/picture.py"]
    drawn = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert drawn == (root / "docs/recording.svg").read_text()
