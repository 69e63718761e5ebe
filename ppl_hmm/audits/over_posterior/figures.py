"""Figures of the audit of a fit: what probability a budget buys, and what the text told."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.words import NAMES
from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.plots.figure import Figure
from ppl_hmm.plots.style import BLUE, GREEN, ORANGE, REFERENCE, SETTINGS, SMALL

_COLOURS = {schema.HEAD: BLUE, schema.MASKS: ORANGE, schema.PROMPT: GREEN}
# Shares of draws that lie within the axis of half-ranges.
_SHOWN = (0.001, 0.999)


class FitFigure(NamedTuple):
    """A figure of the audit of a fit: its data, from the tree, and how they are drawn."""

    data: Callable[[xr.DataTree], xr.Dataset]  # raises InvalidInput where the tree has no such data
    draw: Callable[[xr.Dataset], Figure]


def draw_fit(name: str, tree: xr.DataTree) -> Figure:
    """Return the figure ``name`` of the audit of a fit.

    Raises
    ------
    InvalidInput
        No such figure (with the list), or one that the tree has no data of.
    """
    one_of("figure", name, FIT_FIGURES)
    with mpl.rc_context(SETTINGS):
        return FIT_FIGURES[name].draw(FIT_FIGURES[name].data(tree))


def budgets(tree: xr.DataTree) -> xr.Dataset:
    """Return P(half-range ≤ budget) of all draws, by group, question and budget, with its error at the budgets told.

    ``half_range`` (group, draw, question) and ``probability_error``; a draw without the task is NaN.
    """
    groups = {
        group: tree[name].to_dataset()
        for group, name in (
            (schema.POSTERIOR, schema.RECOVERABILITY_POSTERIOR),
            (schema.PRIOR, schema.RECOVERABILITY_PRIOR),
        )
        if name in tree.children
    }
    drawn = {group: dataset[schema.PROBABILITY] for group, dataset in groups.items()}
    error = groups[schema.POSTERIOR][schema.PROBABILITY_ERROR]
    found = xr.concat(list(drawn.values()), xr.IndexVariable("group", list(drawn)))
    shown = groups[schema.POSTERIOR].attrs["n_masks"]
    return xr.Dataset({schema.PROBABILITY: found, schema.PROBABILITY_ERROR: error}, attrs={"n_masks": shown})


def draw_budgets(data: xr.Dataset) -> Figure:
    """Draw the probability that a head's half-range is within the budget, posterior beside prior."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    budget = data[schema.BUDGET].values
    for question in map(str, data[schema.QUESTION].values):
        own = data.sel({schema.QUESTION: question})
        posterior = own[schema.PROBABILITY].sel(group=schema.POSTERIOR).values
        error, colour = own[schema.PROBABILITY_ERROR].values, _COLOURS[question]
        name = f"a linear head on {data.attrs['n_masks']} masks" if question == schema.MASKS else NAMES[question]
        axes.plot(budget, posterior, color=colour, label=name)
        low, high = np.clip(posterior - 2 * error, 0, 1), np.clip(posterior + 2 * error, 0, 1)
        axes.fill_between(budget, low, high, color=colour, alpha=0.2, linewidth=0)
        if schema.PRIOR in data["group"]:
            prior = own[schema.PROBABILITY].sel(group=schema.PRIOR).values
            axes.plot(budget, prior, color=colour, linestyle="--", linewidth=1)
    if schema.PRIOR in data["group"]:
        axes.plot([], [], color="0.3", linestyle="--", linewidth=1, label="before the text (prior)")
    axes.set(xscale="log", ylim=(-0.02, 1.02), xlim=_limits(data))
    axes.set_xlabel("budget: half-range over ‖μ‖$_∞$ that can be afforded")
    axes.set_ylabel("P(half-range ≤ budget)")
    axes.legend(fontsize=SMALL, frameon=False, loc="lower right")
    return figure


def _limits(data: xr.Dataset) -> tuple[float, float]:
    """Return the budgets between which probabilities change, with a margin of one step of the axis."""
    changing = data[schema.PROBABILITY]
    inside = ((changing > _SHOWN[0]) & (changing < _SHOWN[1])).any(("group", schema.QUESTION)).values
    where, last = np.flatnonzero(inside), len(inside) - 1
    if not len(where):
        return float(data[schema.BUDGET][0]), float(data[schema.BUDGET][-1])
    low, high = max(where[0] - 2, 0), min(where[-1] + 2, last)
    return float(data[schema.BUDGET][low]), float(data[schema.BUDGET][high])


def singular_value(tree: xr.DataTree) -> xr.Dataset:
    """Return σ_min(W) of all draws of posterior and prior: ``posterior`` and ``prior``, each in increasing order."""
    drawn = {}
    for group in (schema.POSTERIOR, schema.PRIOR):
        if group in tree.children and schema.SIGMA_MIN in tree[group]:
            drawn[group] = (f"{group}_draw", np.sort(tree[group].to_dataset()[schema.SIGMA_MIN].values.ravel()))
    if schema.POSTERIOR not in drawn:
        remedy = "audit the tree of fit_bayes"
        raise InvalidInput("figure 'sigma-min'", f"draws of {schema.SIGMA_MIN}", "none", remedy)
    return xr.Dataset(drawn)


def draw_singular_value(data: xr.Dataset) -> Figure:
    """Draw the density of σ_min(W) after the text and before."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    top = max(float(values.max()) for values in data.data_vars.values())
    bins = np.linspace(0, top * 1.02, 25).tolist()
    if schema.PRIOR in data:
        axes.hist(data[schema.PRIOR], bins, density=True, color="0.75", label="before the text (prior)")
    axes.hist(
        data[schema.POSTERIOR], bins, density=True, histtype="step", color=BLUE, linewidth=1.8, label="after the text"
    )
    axes.axvline(float(np.median(data[schema.POSTERIOR])), **REFERENCE)
    axes.set(xlabel="σ$_{min}$(W)", ylabel="density", xlim=(0, None))
    axes.legend(fontsize=SMALL, frameon=False)
    return figure


#: The figures of the audit of a fit, by name.
FIT_FIGURES = {
    "budgets": FitFigure(budgets, draw_budgets),
    "sigma-min": FitFigure(singular_value, draw_singular_value),
}
