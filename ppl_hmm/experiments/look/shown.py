"""What the command line shows of each experiment: its figures and its table."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr
from matplotlib.figure import Figure
from rich.console import RenderableType

from ppl_hmm import schema
from ppl_hmm.experiments.kernels import look as kernels
from ppl_hmm.experiments.look import drawing, tables


def figures(name: str, tree: xr.DataTree) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of an experiment, by the names of their files."""
    if name == schema.KERNEL_VIEW:
        yield from kernels.figures(tree)
    else:
        yield name, drawing.draw(name, tree)


def table(name: str, tree: xr.DataTree) -> RenderableType:
    """Return the table of an experiment."""
    return kernels.table(tree) if name == schema.KERNEL_VIEW else tables.table(name, tree)
