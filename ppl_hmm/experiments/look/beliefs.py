"""What ``ppl-hmm beliefs`` computes, prints and draws of a process."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import xarray as xr

from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.base import atomic
from ppl_hmm.errors import at_least
from ppl_hmm.inference.entropies import entropies
from ppl_hmm.inference.mixed_states import mixed_states
from ppl_hmm.models import HMM, MealyHMM
from ppl_hmm.plots.figure import Figure
from ppl_hmm.plots.mixed_states import draw_mixed_states, draw_myopic_entropies
from ppl_hmm.plots.style import SETTINGS, save
from ppl_hmm.storage import netcdf

_DECIMALS = 7
_NAME = "beliefs"  # of the files


def belief_tree(model: HMM | MealyHMM, depth: int) -> xr.DataTree:
    """Return ``/mixed_states`` and ``/entropies`` of texts of up to ``depth`` tokens, and ``/model``.

    Raises
    ------
    InvalidInput
        As :func:`~ppl_hmm.mixed_states` and :func:`~ppl_hmm.entropies`; a depth below one.
    """
    depth = at_least("depth", depth, 1)
    tree = xr.DataTree.from_dict(
        {
            f"/{schema.MIXED_STATES}": mixed_states(model, depth),
            f"/{schema.ENTROPIES}": entropies(model, depth),
            f"/{schema.MODEL}": model.to_dataset(),
        }
    )
    tree.attrs = {"package": "ppl_hmm", "version": __version__, "depth": depth}
    return tree


def report(tree: xr.DataTree) -> str:
    """Return what the command prints: how many beliefs there are, and entropies between their bounds."""
    found, measured = (tree.children[name].to_dataset() for name in (schema.MIXED_STATES, schema.ENTROPIES))
    depth, n_found = tree.attrs["depth"], found.sizes[schema.MIXED_STATE]
    all_or_more = f"all that differ by {found.attrs['tolerance']:g}" if found.attrs["complete"] else "there are more"
    behind = f"by texts of {measured.attrs['rate_length']} tokens"
    lines = {
        "states": f"{found.sizes[schema.STATE]}, of {found.sizes[schema.TOKEN]} tokens",
        "beliefs": f"{n_found} in texts of up to {depth} tokens; {all_or_more}",
        "by length": ", ".join(map(str, found[schema.N_BELIEFS].values)),
        "entropy rate": f"{_between(measured, schema.ENTROPY_RATE)} nats, {behind}",
        "optimal loss": f"{_between(measured, schema.MEAN_LOSS)} nats, mean of predictions from 1 to {depth} tokens",
        "excess entropy": f"{_between(measured, schema.EXCESS_ENTROPY)} nats, what the past tells of the future",
    }
    return "\n".join(f"{name:<16}{line}" for name, line in lines.items())


def write(tree: xr.DataTree, out: Path, title: str) -> None:
    """Write the figure (PNG, SVG) and the numbers (netCDF) into a new directory, all or nothing."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw_mixed_states(tree.children[schema.MIXED_STATES].to_dataset(), axes=left)
        draw_myopic_entropies(tree.children[schema.ENTROPIES].to_dataset(), axes=right)
        figure.suptitle(f"{title}: beliefs after up to {tree.attrs['depth']} tokens", fontsize=11)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic.written_aside(out, "--out") as aside:
        aside.mkdir()
        save(figure, aside / _NAME)
        netcdf.write(tree, aside / f"{_NAME}.nc")


def _between(measured: xr.Dataset, name: str) -> str:
    """Return bounds in decimals that are rounded outwards."""
    lower, upper = measured[name].values
    unit = 10.0**_DECIMALS
    return f"{math.floor(lower * unit) / unit:.{_DECIMALS}f} .. {math.ceil(upper * unit) / unit:.{_DECIMALS}f}"
