"""The figures of an audit of labelled texts: what was learned beside random labels, and learning curves."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.ticker import NullFormatter

from ppl_hmm import schema
from ppl_hmm.audits.tree import Audited
from ppl_hmm.plots.figure import Figure
from ppl_hmm.plots.style import BLUE, GREEN, ORANGE, PURPLE, REFERENCE, SMALL
from ppl_hmm.schema import Remedy

_STYLES = {
    Remedy.BAG_OF_TOKENS: (PURPLE, "s", "counts of tokens"),
    schema.HEAD: (BLUE, "o", "head"),
    Remedy.LOG_PROBABILITIES: (GREEN, "^", "head on logarithms"),
    schema.PROMPT: (ORANGE, "D", "prompt and head"),
}
_OTHER_AUDIT = "draw it of audit_features or audit_language_model"


def learned(tree: xr.DataTree) -> xr.Dataset:
    """Return accuracies on held-out texts (approach) with intervals, on true and on random labels.

    Raises
    ------
    InvalidInput
        The audit is one of a model, which has no such labels.
    """
    return Audited(tree).group(f"{schema.DIAGNOSTICS}/{schema.LEARNED}", _OTHER_AUDIT)


def learning_curve(tree: xr.DataTree) -> xr.Dataset:
    """Return accuracies by labelled texts (approach, n_texts), with intervals, and of the most frequent class.

    Raises
    ------
    InvalidInput
        As :func:`learned`.
    """
    found = Audited(tree).group(f"{schema.DIAGNOSTICS}/{schema.LEARNING_CURVE}", _OTHER_AUDIT)
    return found.assign(majority_accuracy=learned(tree)["majority_accuracy"])


def draw_learned(data: xr.Dataset) -> Figure:
    """Draw accuracies on true and random labels, with their intervals, a row for each approach."""
    names = list(map(str, data[schema.APPROACH].values))
    figure = Figure(figsize=(7, 1.5 + 0.6 * len(names)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        colour, marker, _ = _STYLES[name]
        row = data.sel({schema.APPROACH: name})
        for variable, height, own in ((schema.ACCURACY, 0.12, colour), (schema.CONTROL_ACCURACY, -0.12, "0.6")):
            value, low, high = (100 * row[f"{variable}{end}"].item() for end in ("", "_low", "_high"))
            axes.plot([low, high], [place + height] * 2, color=own, linewidth=2)
            axes.plot(value, place + height, color=own, marker=marker if own == colour else "|", markersize=8)
    axes.plot([], [], color="black", marker="o", label="the labels, with 95 % interval")
    axes.plot([], [], color="0.6", marker="|", markersize=8, label="random labels of the same frequencies")
    axes.axvline(100 * data["majority_accuracy"].item(), label="most frequent class", **REFERENCE)
    axes.set_yticks(np.arange(len(names)), [_STYLES[name][2] for name in names])
    axes.set(ylim=(-0.6, len(names) - 0.4), xlabel=f"right answers on {int(data['n_tested'])} held-out texts (%)")
    axes.set_xlim(right=min(100.5, axes.get_xlim()[1]))
    figure.legend(loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    return figure


def draw_learning_curve(data: xr.Dataset) -> Figure:
    """Draw accuracy against the number of labelled texts, with intervals, a line for each approach."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes, sizes = figure.subplots(), data[schema.N_TEXTS].values
    for name in map(str, data[schema.APPROACH].values):
        colour, marker, label = _STYLES[name]
        row = data.sel({schema.APPROACH: name})
        axes.fill_between(sizes, 100 * row["low"], 100 * row["high"], color=colour, alpha=0.15, linewidth=0)
        axes.plot(sizes, 100 * row["mean"], color=colour, marker=marker, markersize=5, label=label)
    axes.axhline(100 * data["majority_accuracy"].item(), label="most frequent class", **REFERENCE)
    axes.set(xscale="log", xlabel="labelled texts", ylabel="right answers on held-out texts (%)")
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(top=min(101, axes.get_ylim()[1]))
    figure.legend(loc="outside lower center", ncols=4, fontsize=SMALL, frameon=False)
    return figure
