"""What the command line shows of each experiment: its figures and its table."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr
from matplotlib.figure import Figure
from rich.console import RenderableType

from ppl_hmm import schema
from ppl_hmm.experiments.kernels import look as kernels
from ppl_hmm.experiments.look import drawing, tables
from ppl_hmm.experiments.trained.loss_vs_error import look as losses

# Experiments that are no grid of accuracies by approach show themselves.
_OWN = {schema.KERNEL_VIEW: kernels, schema.LOSS_VS_ERROR: losses}


def figures(name: str, tree: xr.DataTree) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of an experiment, by the names of their files."""
    if name in _OWN:
        yield from _OWN[name].figures(tree)
    else:
        yield name, drawing.draw(name, tree)


def table(name: str, tree: xr.DataTree) -> RenderableType:
    """Return the table of an experiment."""
    return _OWN[name].table(tree) if name in _OWN else tables.table(name, tree)
