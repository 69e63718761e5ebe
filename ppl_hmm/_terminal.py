"""What commands share: how they wait, show results and read lists."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from ppl_hmm.errors import ForeignFile, InvalidInput


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on a terminal that something is going on."""
    with Console(stderr=True).status(what):
        yield


def require_one(command: str, expected: str, first: object, second: object) -> None:
    """Raise :class:`InvalidInput` unless one of two arguments is given."""
    if (first is None) == (second is None):
        raise InvalidInput(command, expected, "neither" if first is None else "both", "give one")


def require_new(out: Path) -> None:
    """Raise :class:`ForeignFile` where ``--out`` exists: what is there may be somebody's."""
    if out.exists():
        raise ForeignFile(f"--out {out}", "a new directory", "one that exists", "remove it, or choose another name")


@contextmanager
def dask(scheduler: str | None) -> Iterator[Executor | None]:
    """Connect to a Dask scheduler, if there is one."""
    if scheduler is None:
        yield None
        return
    from ppl_hmm.experiments.engine.cluster import dask_executor

    with dask_executor(scheduler) as executor:
        yield executor


def show_experiment(name: str, tree, out: Path) -> None:
    """Write the figures of a finished experiment and print its table."""
    from ppl_hmm.experiments.look import shown
    from ppl_hmm.plots import style

    console = Console()
    try:
        paths = [path for stem, figure in shown.figures(name, tree) for path in style.save(figure, out / stem)]
    finally:
        console.print(shown.table(name, tree))
        console.print(f"results: {out}", soft_wrap=True)
    console.print("figure:  " + ", ".join(map(str, paths)), soft_wrap=True)


def parse_states(text: str) -> list[int]:
    """Return numbers of states, as ``--states`` has them."""
    return parse_numbers("--states", text)


def parse_numbers(option: str, text: str) -> list[int]:
    """Return the whole numbers of an option."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInput(option, "whole numbers separated by commas", repr(text), "write e.g. 8,28") from None
