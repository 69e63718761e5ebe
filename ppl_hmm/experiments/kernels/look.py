"""What the experiment found: pooled over tasks and draws, as labelled data, a table and two figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from ppl_hmm import schema
from ppl_hmm.experiments.kernels.cells import KIND_OF
from ppl_hmm.experiments.kernels.configuration import NETWORK
from ppl_hmm.fine_tuning.dynamics import pooled_share, with_interval
from ppl_hmm.plots.style import BLUE, GREEN, REFERENCE, SETTINGS, SMALL, VERMILION

_PANEL = (*NETWORK, schema.SHOTS)
_POINT = (*_PANEL, schema.READOUT, schema.OPTIMIZER)
_DRAW = (schema.TASK, schema.SEED)
_STYLES = {"cloze": (VERMILION, "o"), "fresh": (BLUE, "s"), "probed": (GREEN, "^")}
_NAMES = {"cloze": "words at the mask (cloze)", "fresh": "fresh linear head", "probed": "probed linear head"}
_FILLED: dict[str, Literal["full", "none", "left"]] = {"sgd": "full", "sign": "none", "adam": "left"}
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
        *network, shots, readout, optimizer = row["point"].item()
        point = _name(found, network), str(shots), readout, optimizer
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
    made = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, caption=caption, caption_justify="left")
    for heading in ("network", "k", "head", "steps", *headings):
        made.add_column(heading, justify="right", no_wrap=True)
    return made


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


def _panels(found: xr.Dataset) -> xr.Dataset:
    """Return one panel for each network and number of examples."""
    return found.stack(panel=_PANEL)


def _title(found: xr.Dataset, panel: xr.Dataset) -> str:
    *network, shots = panel["panel"].item()
    return f"{_name(found, network)}, k = {shots}"


def _accuracies(found: xr.Dataset) -> Figure:
    """Draw fine-tuned against kernel accuracy, a panel for each network and number of examples."""
    panels = _panels(found)
    n_panels = panels.sizes["panel"]
    figure = Figure(figsize=(1.2 + 2.9 * n_panels, 4.6), layout="constrained")
    axes_of = figure.subplots(1, n_panels, squeeze=False, sharex=True, sharey=True)[0]
    least = 100 * min(found["after"].min().item(), found[schema.KERNEL].min().item())
    for number, axes in enumerate(axes_of):
        panel = panels.isel(panel=number)
        axes.plot([0, 100], [0, 100], **REFERENCE)
        for readout in panel[schema.READOUT].values:
            colour, marker = _STYLES[readout]
            for optimizer in panel[schema.OPTIMIZER].values:
                point = panel.sel({schema.READOUT: readout, schema.OPTIMIZER: optimizer})
                style = {"color": colour, "marker": marker, "fillstyle": _FILLED[optimizer], "markersize": 8}
                axes.plot(100 * point[schema.KERNEL], 100 * point["after"], linestyle="none", **style)
        axes.set(title=_title(found, panel), xlabel="kernel, test accuracy (%)")
        axes.set(xlim=(least - 1.5, 101), ylim=(least - 1.5, 101), aspect="equal")
    axes_of[0].set_ylabel("fine-tuning, test accuracy (%)")
    _legend(figure)
    return figure


def _linearity(found: xr.Dataset) -> Figure:
    """Draw the three measures of kernel behaviour by optimiser and head, a column for each network."""
    columns = _panels(found)
    n_columns = columns.sizes["panel"]
    figure = Figure(figsize=(1.2 + 2.9 * n_columns, 6.6), layout="constrained")
    grid = figure.subplots(len(_MEASURES), n_columns, squeeze=False, sharex=True, sharey="row")
    for number in range(n_columns):
        panel = columns.isel(panel=number)
        for axes, (name, label) in zip(grid[:, number], _MEASURES.items(), strict=True):
            _draw_measure(axes, panel, name)
            if number == 0:
                axes.set_ylabel(label, fontsize=SMALL)
        grid[0, number].set_title(_title(found, panel))
    _legend(figure, optimizers=False)
    return figure


def _draw_measure(axes: Axes, panel: xr.Dataset, name: str) -> None:
    optimizers = list(panel[schema.OPTIMIZER].values)
    for offset, readout in zip((-0.2, 0.0, 0.2), panel[schema.READOUT].values, strict=True):
        colour, marker = _STYLES[readout]
        row = panel.sel({schema.READOUT: readout})
        value, interval = row[name].values, row[f"{name}_interval"].values
        low, high = (np.nan_to_num(np.abs(interval[:, side] - value)) for side in (0, 1))
        place = np.arange(len(optimizers)) + offset
        axes.errorbar(place, value, (low, high), color=colour, marker=marker, linestyle="none", capsize=2)
    axes.set_xticks(np.arange(len(optimizers)), optimizers)
    if name == schema.LINEARIZATION:
        axes.axhline(0.5, **REFERENCE)
    axes.axhline(0 if name == schema.DISTANCE else 1, color="0.85", linewidth=0.8, zorder=0)


def _legend(figure: Figure, optimizers: bool = True) -> None:
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", label=_NAMES[readout])
        for readout, (colour, marker) in _STYLES.items()
    ]
    if optimizers:
        steps = [
            Line2D([], [], color="0.3", marker="o", fillstyle=fill, linestyle="none", label=name)
            for name, fill in _FILLED.items()
        ]
        handles = [each for column in zip(handles, steps, strict=True) for each in column]  # heads above steps
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
