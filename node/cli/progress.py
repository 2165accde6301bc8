"""Progress on a terminal: a bar with rate and time left on standard error; into anything else, silence."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnProgress = Callable[[int, int], None]


@contextmanager
def show_progress(what: str, *, quiet: bool, unit: str = "") -> Iterator[OnProgress]:
    """Gives a function that takes how much is done and how much there is in all (0: unknown).

    Args:
        what: stands before the bar.
        quiet: True shows nothing.
        unit: what is counted; bytes if empty.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts: tuple[ProgressColumn, ...] = (
        (MofNCompleteColumn(), TextColumn(unit))
        if unit
        else (DownloadColumn(binary_units=True), TransferSpeedColumn())
    )
    columns = (TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)
