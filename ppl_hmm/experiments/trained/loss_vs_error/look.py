"""Tables and a figure of loss against downstream error."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from rich.console import Group
from rich.table import Table

from ppl_hmm import schema
from ppl_hmm.experiments.look.tables import empty_table
from ppl_hmm.experiments.trained.loss_vs_error.summary import SMALL_EXCESS, checks, sampled_excess, slopes
from ppl_hmm.plots.figure import Figure
from ppl_hmm.plots.style import BLUE, GREEN, ORANGE, PURPLE, REFERENCE, SETTINGS, SMALL, VERMILION

_STYLES = dict(zip(schema.READ, ((BLUE, "o"), (GREEN, "^"), (VERMILION, "s"), (ORANGE, "v")), strict=True))
_NAMES = dict(zip(schema.READ, ("features f", "conditional means Φp", "law p", "random projection of p"), strict=True))
_LETTERS = dict(zip(schema.READ, ("f", "Φp", "p", "Rp"), strict=True))
_TASKS = {schema.LAST_STATE: "state", schema.COMPLETION: "completion"}
_TEMPLATES = {schema.NO_TEMPLATE: "", schema.TEMPLATE: ", z"}
#: Objectives by the names of their losses, which tables and figures show.
LOSS_NAMES = {"tokens": "cross-entropy", "quad": "quadratic loss"}
_CAPTION = "z: after a template; Rp: a random projection of p"
_BINS = 9  # of log ε, in lines of means


def table(tree: xr.DataTree) -> Group:
    """Return the tables of an experiment: errors at the end of training, slopes, and how the bounds held."""
    return Group(_errors(tree), _slopes(tree), _bounds(tree))


def _questions(data: xr.Dataset) -> Iterator[tuple[str, str, xr.Dataset]]:
    """Yield the names of loss and question, and the data, of each objective, task and template."""
    for objective in data[schema.OBJECTIVE].values:
        for task, of_task in _TASKS.items():
            for template, after in _TEMPLATES.items():
                place = {schema.OBJECTIVE: objective, schema.TASK: task, schema.TEMPLATE: template}
                yield LOSS_NAMES[objective], of_task + after, data.sel(place)


def _fill(made: Table, data: xr.Dataset, cells: Callable[[xr.Dataset], Iterable[str]]) -> Table:
    """Return a table with a row for each question, below the name of its loss."""
    for loss, rows in itertools.groupby(_questions(data), key=lambda each: each[0]):
        made.add_row(loss, style="bold")
        for _, question, row in rows:
            made.add_row(question, *cells(row))
    return made


def _errors(tree: xr.DataTree) -> Table:
    results = tree[schema.RESULTS].to_dataset()
    headings = ("task", "ε, nats", "exact", *_LETTERS.values())
    caption = f"means over models; ε: excess where the head reads\nexact: on the exact laws; {_CAPTION}"
    made = empty_table("Error of logistic heads at the end of training, in %", headings, caption)

    def cells(row: xr.Dataset) -> Iterator[str]:
        yield f"{row[schema.EXCESS_AT_READ_POSITION].mean().item():.4f}"
        errors = (row[schema.ERROR].sel({schema.FEATURES: each}) for each in schema.READ)
        for error in (row[schema.EXACT_ERROR], *errors):
            yield f"{100 * error.mean().item():.1f}"

    return _fill(made, results.isel({schema.STEP: -1}), cells)


def _slopes(tree: xr.DataTree) -> Table:
    headings = ("task", "n", *_LETTERS.values())
    caption = f"√ε has ½; n: networks with ε ≤ {SMALL_EXCESS} nats\n{_CAPTION}"
    made = empty_table("Slope of log error in log ε, 95 % intervals over models", headings, caption)

    def cells(row: xr.Dataset) -> Iterator[str]:
        yield str(row["n_networks"].item())
        for each in schema.READ:
            yield _slope(row.sel({schema.FEATURES: each}))

    return _fill(made, slopes(tree), cells)


def _slope(column: xr.Dataset) -> str:
    slope, (low, high) = column[schema.SLOPE].item(), column[f"{schema.SLOPE}_interval"].values
    if np.isnan(slope):
        return "–"
    shown = f"{slope:.2f}" if np.isnan(low) else f"{slope:.2f}\n{low:.2f}–{high:.2f}"
    return shown.replace("-", "−")


def _bounds(tree: xr.DataTree) -> Table:
    found, excess = checks(tree), sampled_excess(tree)
    counts, medians = ("n_checked", "n_violated", "n_below_one", "n_below_guess"), ("bound", "bounded", "attained")
    headings = ("", "checked", "violated", "< 1", "< guess", "bound", "bounded", "ratio")
    caption = (
        "medians at the end of training; natural: of hinge loss; transfer: of error\n"
        f"Φp: of networks on {LOSS_NAMES['tokens']}; f: of those on the {LOSS_NAMES['quad']}\n"
        "< guess: below the share of the smaller class\n"
        f"transferred to other texts: {found['n_unseen_violated'].item()} violated by more than two standard errors\n"
        f"excess of the tokens: below zero by more than two, {excess['n_below']} of {excess['n_checked']}"
    )
    made = empty_table("Bounds, over all networks, tasks and templates", headings, caption)
    for name in found["bounds"].values:
        row = found.sel(bounds=name)
        shown = (str(row[each].item()) for each in counts), (_number(row[each].item()) for each in medians)
        made.add_row(name, *itertools.chain(*shown))
    return made


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def figures(tree: xr.DataTree) -> Iterator[tuple[str, Figure]]:
    """Yield the figure: error against ε, a panel for each objective, task and template."""
    results = tree[schema.RESULTS].to_dataset()
    least = 0.5 / tree[schema.SETTINGS].attrs["n_test"]
    n_rows, panels = results.sizes[schema.OBJECTIVE], list(_questions(results))
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(11.5, 1.3 + 2.8 * n_rows), layout="constrained")
        grid = figure.subplots(n_rows, len(panels) // n_rows, squeeze=False, sharex=True, sharey=True)
        for axes, (loss, question, panel) in zip(grid.flat, panels, strict=True):
            _draw(axes, panel, least)
            axes.set_title(f"{question.replace(', z', ' after a template')}\n({loss})", fontsize=10)
        exact = results[schema.EXACT_ERROR].mean([schema.N_STATES, schema.SEED])
        lowest = max(min(float(exact.min()), float(results[schema.ERROR].min())), least)
        grid[0, 0].set_ylim(0.7 * lowest, 1.3)  # of all panels
        for axes in grid[-1]:
            axes.set_xlabel("excess loss ε where the head reads (nats)", fontsize=SMALL)
        for axes in grid[:, 0]:
            axes.set_ylabel("error on test texts")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=SMALL, frameon=False)
        yield schema.LOSS_VS_ERROR, figure


def _draw(axes: Axes, panel: xr.Dataset, least: float) -> None:
    """Draw errors and bounds of one question; no error is drawn below half a text."""
    excess = panel[schema.EXCESS_AT_READ_POSITION]
    for name, (colour, marker) in _STYLES.items():
        error = panel[schema.ERROR].sel({schema.FEATURES: name}).clip(min=least)
        axes.scatter(*_flat(excess, error), s=6, color=colour, marker=marker, alpha=0.25, linewidth=0)
        axes.plot(*_means(excess, error), color=colour, marker=marker, markersize=4, linewidth=1.2, label=_NAMES[name])
    natural, of_layer = (panel.sel({schema.HEADS_OF: each}) for each in (schema.ANY_HEAD, schema.HEAD_OF_LAYER))
    lines = {
        "natural bound τ + B√(2ε)": (natural[schema.NATURAL_BOUND], "black", "-"),
        "natural bound of the last layer": (of_layer[schema.NATURAL_BOUND], "black", ":"),
        "transfer bound": (panel[schema.TRANSFER_BOUND], PURPLE, "-"),
        "error of the transferred head": (panel[schema.TRANSFER_ERROR], PURPLE, "--"),
        "error of the natural head": (natural[schema.NATURAL_ERROR], "black", "--"),
    }
    for label, (column, colour, style) in lines.items():
        axes.plot(*_means(excess, column.clip(min=least)), color=colour, linestyle=style, linewidth=1, label=label)
    exact = max(float(panel[schema.EXACT_ERROR].mean()), least)
    axes.axhline(exact, **REFERENCE, label="logistic head on the exact laws")
    x, y = _flat(excess, panel[schema.ERROR].sel({schema.FEATURES: schema.LAWS_READ}).clip(min=least))
    guide = np.exp(np.log(y).mean() - 0.5 * np.log(x).mean()) * np.sqrt(np.sort(x))
    axes.plot(np.sort(x), guide, color="0.6", linewidth=0.8, zorder=0, label="slope of √ε")
    axes.set(xscale="log", yscale="log")


def _flat(excess: xr.DataArray, column: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Return ε and a column of all networks that are there, one-dimensional."""
    x, y = (each.values.ravel() for each in xr.broadcast(excess, column))
    there = ~np.isnan(x) & ~np.isnan(y)
    return x[there], y[there]


def _means(excess: xr.DataArray, column: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Return geometric means of ε and of a column, over networks of like ε."""
    x, y = (np.log(each) for each in _flat(excess, column))
    number = np.digitize(x, np.linspace(x.min(), x.max(), _BINS + 1)[1:-1])
    bins = [number == each for each in np.unique(number)]
    return np.exp([x[each].mean() for each in bins]), np.exp([y[each].mean() for each in bins])
