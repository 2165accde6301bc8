"""Progress of the commands, on standard error."""

import sys
from collections.abc import Callable

Report = Callable[[str, bool], None]
"""Is told what is being done, and whether the line is worth keeping."""

_CLEAR = "\x1b[K"


def report_steps(line: str, keep: bool = False) -> None:
    """The same for lines that are few: somewhere else than on a terminal all of them are kept."""
    report(line, keep or not sys.stderr.isatty())


def report(line: str, keep: bool = False) -> None:
    """Shows a line: on a terminal one that changes; what is worth keeping goes anywhere."""
    if sys.stderr.isatty():
        print(f"\r{_CLEAR}{line}", end="\n" if keep else "", file=sys.stderr, flush=True)
    elif keep:
        print(line, file=sys.stderr, flush=True)
