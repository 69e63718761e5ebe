"""How far an experiment is, on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress_bar(name: str, unit: str = "cells") -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows on standard error how many cells are done, and the time left."""
    columns = (
        SpinnerColumn(),  # moves before the first cell is done
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(name, total=None)

    def report(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        bar.start()  # at the first report: errors before it stay one line

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()
