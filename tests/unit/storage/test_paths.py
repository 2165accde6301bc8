import pytest

from kernel.errors import UsageError
from storage.paths import check_directory, check_path, get_ancestors, get_parent, is_path


@pytest.mark.parametrize("path", ["a", "A-b_c.d", "a/b/c", "...", "..a", "a.", ".a", "x" * 255])
def test_portable_names_are_paths(path: str) -> None:
    assert is_path(path)
    check_path(path)


@pytest.mark.parametrize(
    "path", ["", "/", "a/", "/a", ".", "..", "a/..", "../a", "a//b", "a\\b", "a\n", "ä", "x" * 256]
)
def test_everything_else_is_none(path: str) -> None:
    assert not is_path(path)
    with pytest.raises(UsageError):
        check_path(path)


def test_the_root_is_a_directory() -> None:
    check_directory("")
    check_directory("a/b")
    with pytest.raises(UsageError):
        check_directory("a/../b")


def test_parents() -> None:
    assert (get_parent("a/b/c"), get_parent("a")) == ("a/b", "")
    assert (get_ancestors("a/b/c"), get_ancestors("a")) == (["a/b", "a", ""], [""])
