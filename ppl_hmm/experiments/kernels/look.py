"""What the experiment found: pooled over tasks and draws, as labelled data, a table and two figures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from rich.console import Group
from rich.table import Table

from ppl_hmm import schema
from ppl_hmm.experiments.kernels.cells import KIND_OF
from ppl_hmm.experiments.kernels.configuration import NETWORK
from ppl_hmm.experiments.look.tables import empty_table
from ppl_hmm.fine_tuning.dynamics import pooled_share, with_interval
from ppl_hmm.plots.figure import Figure
from ppl_hmm.plots.style import BLUE, GREEN, REFERENCE, SETTINGS, SMALL, VERMILION

_POINT = (*NETWORK, schema.SHOTS, schema.READOUT, schema.OPTIMIZER)
_DRAW = (schema.TASK, schema.SEED)
_STYLES = {"cloze": (VERMILION, "o"), "fresh": (BLUE, "s"), "probed": (GREEN, "^")}
_NAMES = {"cloze": "words at the mask (cloze)", "fresh": "fresh linear head", "probed": "probed linear head"}
_Fill = Literal["full", "none", "left"]
_FILLED: dict[str, _Fill] = {"sgd": "full", "sign": "none", "adam": "left"}
_FILLS: tuple[_Fill, ...] = ("none", "full", "left")  # of numbers of examples
_STAGES = {"before": "before", "after": "after", "linear": "expansion", schema.KERNEL: "kernel"}
_SCORES = {schema.LINEARIZATION: "share", schema.R2: "R²", schema.DISTANCE: "distance"}
_SYMBOLS = {
    schema.N_STATES: "K =",
    schema.WIDTH: "width",
    schema.OBJECTIVE: "on",
    schema.TRAINING_STEPS: "steps",
}
_CAPTION = (
    "expansion: first order, at the fine-tuned parameters\n"
    "share: of the gain that it recovers, pooled; – where nothing was gained\n"
    "R²: of the expansion against fine-tuning; distance: of the kernels, relative"
)
_MEASURES = {
    schema.LINEARIZATION: "share of the gain that\nthe expansion recovers",
    schema.R2: "R² of the expansion\nagainst fine-tuning",
    schema.DISTANCE: "relative distance of\nthe kernels",
}


def summary(tree: xr.DataTree) -> xr.Dataset:
    """Return means over the draws that are there, tasks and seeds together, with 95 % intervals over ``bound``.

    Returns
    -------
    xarray.Dataset
        By (regime, n_states, architecture, width, objective, training_steps, shots, readout, optimizer):
        ``before``, ``linear``, ``after``, ``kernel``, mean accuracies; ``linearization``, the pooled share; ``r2``;
        ``distance``; the last three with an interval.
    """
    results = tree[schema.RESULTS].to_dataset()
    accuracy, optimizers = results[schema.ACCURACY], results[schema.OPTIMIZER].values
    kernel = xr.concat(
        [results["kernel_accuracy"].sel({schema.KERNEL: KIND_OF[each]}, drop=True) for each in optimizers],
        results[schema.OPTIMIZER],
    )
    found = {stage: accuracy.sel({schema.STAGE: stage}, drop=True).mean(_DRAW) for stage in schema.STAGES}
    found[schema.KERNEL] = kernel.mean(_DRAW)
    stages = [accuracy.sel({schema.STAGE: stage}, drop=True) for stage in schema.STAGES]
    for name, columns, statistic in (
        (schema.LINEARIZATION, stages, pooled_share),
        (schema.R2, [results[schema.R2]], _mean),
        (schema.DISTANCE, [results[schema.DISTANCE]], _mean),
    ):
        value, interval = _over_draws(columns, statistic)
        found[name], found[f"{name}_interval"] = value, interval
    n_draws = int(results["total_variation"].notnull().sum(_DRAW).max())
    return xr.Dataset(found).transpose(*_POINT, ...).assign_attrs(tree[schema.SETTINGS].attrs, n_draws=n_draws)


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _over_draws(columns: list[xr.DataArray], statistic: Callable[..., float]) -> tuple[xr.DataArray, xr.DataArray]:
    """Return a statistic of columns over all draws that are there, and its interval."""

    def of(*values: np.ndarray) -> tuple[float, np.ndarray]:
        flat = [each.reshape(-1) for each in values]
        there = ~np.isnan(flat[0])
        if not there.any():
            return np.nan, np.full(2, np.nan)
        return with_interval(lambda chosen: statistic(*(each[there][chosen] for each in flat)), int(there.sum()), 500)

    dims = [list(_DRAW)] * len(columns)
    value, interval = xr.apply_ufunc(
        of, *columns, input_core_dims=dims, output_core_dims=[[], [schema.BOUND]], vectorize=True
    )
    return value, interval.assign_coords({schema.BOUND: [schema.LOWER, schema.UPPER]})


def table(tree: xr.DataTree) -> Group:
    """Return the tables of an experiment: accuracies of fine-tuning and of its kernel, and how linear it is."""
    found = summary(tree)
    draws = f"means over {found.attrs['n_draws']} draws of tasks and examples; k: examples of each class"
    accuracies = _table("Fine-tuning against its kernel: test accuracy in %", _STAGES.values(), draws)
    scores = _table("How linear fine-tuning is, 95 % intervals", _SCORES.values(), _CAPTION)
    points = found.stack(point=_POINT)
    for place in range(points.sizes["point"]):
        row = points.isel(point=place)
        if row["after"].isnull():
            continue
        *network, shots, readout, optimizer = row["point"].item()
        point = _name(found, network).replace(", ", "\n"), str(shots), readout, optimizer  # for narrow terminals
        accuracies.add_row(*point, *(f"{100 * row[each].item():.1f}" for each in _STAGES))
        scores.add_row(*point, *(_with_interval(row, each) for each in _SCORES))
    return Group(accuracies, scores)


def _name(found: xr.Dataset, network: Sequence[object]) -> str:
    """Return what a network is called: its architecture, and of its other properties those that vary."""
    regime, _, architecture, *_ = network
    varying = [
        f"{_SYMBOLS[name]} {value}"
        for name, value in zip(NETWORK, network, strict=True)
        if name in _SYMBOLS and found[name].size > 1
    ]
    return ", ".join([str(architecture), str(regime), *varying])


def _table(title: str, headings: Iterable[str], caption: str) -> Table:
    return empty_table(title, ("network", "k", "head", "steps", *headings), caption)


def _with_interval(row: xr.Dataset, name: str) -> str:
    value, (low, high) = row[name].item(), row[f"{name}_interval"].values
    if np.isnan(value):
        return "–"
    return f"{value:.2f}" if np.isnan(low) else f"{value:.2f}\n{low:.2f}–{high:.2f}"


def figures(tree: xr.DataTree) -> Iterator[tuple[str, Figure]]:
    """Yield the figures by name: accuracies of fine-tuning and of its kernel, and how linear fine-tuning is."""
    found = summary(tree)
    with mpl.rc_context(SETTINGS):
        yield schema.KERNEL_VIEW, _accuracies(found)
        yield f"{schema.KERNEL_VIEW}-linearity", _linearity(found)


def _networks(found: xr.Dataset) -> list[tuple[str, xr.Dataset]]:
    """Return what each network that is there is called, and its points."""
    networks = found.stack(network=NETWORK)
    each = (networks.isel(network=number) for number in range(networks.sizes["network"]))
    return [(_name(found, one["network"].item()), one) for one in each if one["after"].notnull().any()]


def _accuracies(found: xr.Dataset) -> Figure:
    """Draw fine-tuned against kernel accuracy: a column for each network, a row for each number of examples."""
    networks, shots = _networks(found), found[schema.SHOTS].values
    figure = Figure(figsize=(max(0.8 + 2.7 * len(networks), 5.6), 1.2 + 3.1 * len(shots)), layout="constrained")
    grid = figure.subplots(len(shots), len(networks), squeeze=False)
    for column, (name, network) in zip(grid.T, networks, strict=True):
        both = 100 * xr.concat([network["after"], network[schema.KERNEL]], "of")
        low, high = both.min().item(), both.max().item()
        margin = 0.06 * (high - low) + 0.5
        for axes, k in zip(column, shots, strict=True):
            axes.plot([0, 100], [0, 100], **REFERENCE)
            _draw_accuracies(axes, network.sel({schema.SHOTS: k}))
            limits = (low - margin, high + margin)
            axes.set(title=f"{name}\nk = {k}", xlim=limits, ylim=limits, aspect="equal")
        column[-1].set_xlabel("kernel, test accuracy (%)")
    for axes in grid[:, 0]:
        axes.set_ylabel("fine-tuning, test accuracy (%)")
    _legend(figure, _FILLED)
    return figure


def _draw_accuracies(axes: Axes, points: xr.Dataset) -> None:
    for readout in points[schema.READOUT].values:
        colour, marker = _STYLES[readout]
        for optimizer in points[schema.OPTIMIZER].values:
            point = points.sel({schema.READOUT: readout, schema.OPTIMIZER: optimizer})
            style = {"color": colour, "marker": marker, "fillstyle": _FILLED[optimizer], "markersize": 8}
            axes.plot(100 * point[schema.KERNEL], 100 * point["after"], linestyle="none", **style)


def _linearity(found: xr.Dataset) -> Figure:
    """Draw the three measures of kernel behaviour by optimiser, head and examples, a column for each network."""
    networks = _networks(found)
    names = [f"k = {k}" for k in found[schema.SHOTS].values]
    fills: dict[str, _Fill] = {name: _FILLS[number % len(_FILLS)] for number, name in enumerate(names)}
    figure = Figure(figsize=(max(1.2 + 2.9 * len(networks), 5.6), 6.6), layout="constrained")
    grid = figure.subplots(len(_MEASURES), len(networks), squeeze=False, sharex=True, sharey="row")
    for axes, (measure, label) in zip(grid[:, 0], _MEASURES.items(), strict=True):
        axes.set_ylabel(label, fontsize=SMALL)
        if measure != schema.R2 and _largest(found, measure) > 1:
            axes.set_yscale("symlog", linthresh=1.0)  # of the whole row
    for column, (title, network) in zip(grid.T, networks, strict=True):
        for axes, measure in zip(column, _MEASURES, strict=True):
            _draw_measure(axes, network, measure, list(fills.values()))
        column[0].set_title(title)
    _legend(figure, fills)
    return figure


def _largest(found: xr.Dataset, measure: str) -> float:
    """Return the largest size that is drawn: shares of small gains explode, and kernels of high learning rates."""
    return max(float(np.abs(found[name]).max()) for name in (measure, f"{measure}_interval"))


def _draw_measure(axes: Axes, network: xr.Dataset, name: str, fills: Sequence[_Fill]) -> None:
    optimizers, readouts = list(network[schema.OPTIMIZER].values), list(network[schema.READOUT].values)
    kinds = list(itertools.product(readouts, zip(network[schema.SHOTS].values, fills, strict=True)))
    for offset, (readout, (shots, fill)) in zip(np.linspace(-0.33, 0.33, len(kinds)), kinds, strict=True):
        colour, marker = _STYLES[readout]
        row = network.sel({schema.READOUT: readout, schema.SHOTS: shots})
        value, interval = row[name].values, row[f"{name}_interval"].values
        low, high = (np.nan_to_num(np.abs(interval[:, side] - value)) for side in (0, 1))
        style = {"color": colour, "marker": marker, "fillstyle": fill, "linestyle": "none", "capsize": 2}
        axes.errorbar(np.arange(len(optimizers)) + offset, value, (low, high), **style)
    axes.set_xticks(np.arange(len(optimizers)), optimizers)
    if name == schema.LINEARIZATION:
        axes.axhline(0.5, **REFERENCE)
    axes.axhline(0 if name == schema.DISTANCE else 1, color="0.85", linewidth=0.8, zorder=0)


def _legend(figure: Figure, fills: Mapping[str, _Fill]) -> None:
    """Say what colours and fills stand for: heads above, fills below."""
    heads: list[Line2D | None] = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", label=_NAMES[readout])
        for readout, (colour, marker) in _STYLES.items()
    ]
    others = [
        Line2D([], [], color="0.3", marker="o", fillstyle=fill, linestyle="none", label=name)
        for name, fill in fills.items()
    ]
    pairs = itertools.zip_longest(heads, others)
    handles = [each for column in pairs for each in column if each is not None]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
