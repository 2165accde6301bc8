"""The repository speaks of the project alone: not of a machine, not of where packages come from."""

import re

import pytest

MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:work|root|home/[a-z]\w*)/")
# Joined here, so that this file does not name them either.
HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
        ("maven", "org"),
        ("deb", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("ports", "ubuntu", "com"),
    )
]


def find_machine_paths(text: str) -> list[str]:
    return [match.group() for match in MACHINE_PATH.finditer(text)]


def find_registry_hosts(text: str) -> list[str]:
    return [host for host in HOSTS if host in text.lower()]


@pytest.mark.parametrize("path", ["work", "root", "home/ann"])
def test_machine_paths_are_seen(path: str) -> None:
    assert find_machine_paths(f"cp x /{path}/y")
    assert find_machine_paths(f'"/{path}/"')
    assert not find_machine_paths(f"a ~/{path}/y docs/{path}/y {{root}}/{path}/x")


def test_registry_hosts_are_seen() -> None:
    assert find_registry_hosts("get it from https://PyPI." + "org/simple") == [HOSTS[0]]


def test_no_machine_path_in_any_file(texts: dict[str, str]) -> None:
    assert {path: found for path, text in texts.items() if (found := find_machine_paths(text))} == {}


def test_no_registry_host_in_any_file(texts: dict[str, str]) -> None:
    assert {path: found for path, text in texts.items() if (found := find_registry_hosts(text))} == {}


def test_files_end_with_one_newline_and_have_no_carriage_return(texts: dict[str, str]) -> None:
    wrong = [
        path
        for path, text in texts.items()
        # Vectors and generated stubs are as their makers write them.
        if text and "_pb2" not in path and not path.startswith("tests/vectors/")
        if "\r" in text or not text.endswith("\n") or text.endswith("\n\n")
    ]
    assert wrong == []
