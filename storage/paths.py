"""Paths inside a store.

Rules: "/"-separated, relative; each component is 1…255 characters of the portable set (letters, digits,
".", "_", "-") and neither "." nor "..". So no path leaves its store, and none means different things to
different file systems.
"""

import re

from kernel.errors import UsageError

_COMPONENT = r"(?!\.\.?(?:/|\Z))[A-Za-z0-9._-]{1,255}"
_PATH = re.compile(f"{_COMPONENT}(?:/{_COMPONENT})*")
_MAX_PATH_CHARACTERS = 1024


def is_path(text: str) -> bool:
    """True if `text` is a path of a file inside a store."""
    return len(text) <= _MAX_PATH_CHARACTERS and _PATH.fullmatch(text) is not None


def check_path(path: str) -> None:
    """Refuses what is no path of a file inside a store.

    Raises:
        UsageError: the path is empty, absolute, too long, climbs, or has characters beyond the portable set.
    """
    if not is_path(path):
        raise UsageError(f"{path[:80]!r} is no path inside a store")


def check_directory(path: str) -> None:
    """As `check_path`, but "" (the root) is fine.

    Raises:
        UsageError: see `check_path`.
    """
    if path:
        check_path(path)


def get_parent(path: str) -> str:
    """The directory of a path; "" is the root."""
    return path.rpartition("/")[0]


def get_ancestors(path: str) -> list[str]:
    """All directories above a path, the nearest first; "" (the root) comes last."""
    ancestors = []
    while path:
        path = get_parent(path)
        ancestors.append(path)
    return ancestors
