"""Draw the figures; what they show is computed in :mod:`ppl_hmm.experiments.look.data`."""

from __future__ import annotations

from typing import Any, NamedTuple

import matplotlib as mpl
import xarray as xr
from matplotlib.axes import Axes

from ppl_hmm import schema
from ppl_hmm.errors import one_of
from ppl_hmm.experiments.look import data
from ppl_hmm.plots.figure import Figure
from ppl_hmm.plots.style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SETTINGS,
    SKY,
    VERMILION,
    save as save,  # by its path of version 0.1
)


class _Style(NamedTuple):
    label: str
    line: dict[str, Any]
    band: bool = True


# Heads on several masks: the more, the darker.
_MASKS = (("0.6", "P"), ("0.35", "X"), ("0.0", "*"))
# Settings of the experiment are filled into labels.
_STYLES = {
    schema.HEAD: _Style("head on probabilities, exact G", {"color": BLUE, "marker": "o"}),
    schema.HEAD_LOG: _Style("head on log-probabilities, exact G", {"color": GREEN, "marker": "^"}),
    schema.PROMPT: _Style("learned prompt + head, exact G", {"color": VERMILION, "marker": "s"}),
    # Means over the models that meet the condition only, others at each size: points, not curves.
    schema.PROMPT_THEOREM: _Style(
        "constructed prompt + head, where certified",
        {"color": PURPLE, "marker": "D", "linestyle": "none"},
        band=False,
    ),
    schema.PROMPT_THEOREM_THRESHOLD: _Style(
        "constructed with δ = {support_threshold:g}, where its condition holds",
        {"color": SKY, "marker": "v", "linestyle": "none"},
        band=False,
    ),
    **{
        approach: _Style(
            f"head on {n_masks} masks, exact G",
            {"color": colour, "marker": marker, "markersize": 6, "linestyle": "-.", "linewidth": 1},
            band=False,
        )
        for (n_masks, approach), (colour, marker) in zip(schema.HEAD_ON_MASKS.items(), _MASKS, strict=True)
    },
    schema.HEAD_TRAINED: _Style(
        "head on probabilities, trained {language_model} ({objective})", {"color": SKY, "marker": "v"}
    ),
    schema.PROMPT_TRAINED: _Style(
        "learned prompt + head, trained {language_model} ({objective})", {"color": ORANGE, "marker": "D"}
    ),
    schema.ATTENTION_TRAINED: _Style(
        "memory: softmax attention, trained {language_model} ({objective})", {"color": ORANGE, "marker": "D"}
    ),
    schema.VANILLA_TRAINED: _Style(
        "vanilla: linear head, trained {language_model} ({objective})", {"color": SKY, "marker": "v"}
    ),
    schema.ATTENTION_SOFTMAX: _Style("memory: softmax attention, exact G", {"color": VERMILION, "marker": "s"}),
    schema.ATTENTION_HARD: _Style("memory: hard attention, exact G", {"color": GREEN, "marker": "^"}),
    schema.ATTENTION_THEOREM: _Style(
        "memory: constructed attention, where Theorem M's condition holds",
        {"color": PURPLE, "marker": "D", "linestyle": "none"},
        band=False,
    ),
    schema.VANILLA_LINEAR: _Style("vanilla: linear head, exact G", {"color": BLUE, "marker": "o"}),
}


class _Layout(NamedTuple):
    sizes: str  # label of the x axis
    shares: dict[str, str]  # titles of the panels of shares, by variable
    width: float  # inches


FIGURES = {
    "head-vs-prompt": _Layout(
        "number of hidden states K",
        {"separable": "Training text linearly separable", "condition": "Theorem's condition holds"},
        12.5,
    ),
    "head-vs-prompt-trained": _Layout(
        "number of hidden states K", {"separable": "Training text linearly separable"}, 11.5
    ),
    "memory-vs-vanilla": _Layout(
        "total states: 4·m with a memory, K without",
        {"condition": "Condition holds: Theorem M, or H (vanilla)"},
        11.5,
    ),
    "memory-vs-vanilla-trained": _Layout(
        "total states: 4·m with a memory, K without",
        {"separable": "Vanilla training text linearly separable"},
        11.5,
    ),
}


def draw(name: str, tree: xr.DataTree) -> Figure:
    """Return the figure ``name`` of an experiment's tree.

    Raises
    ------
    InvalidInput
        No such figure (with the list).
    """
    one_of("figure", name, FIGURES)
    with mpl.rc_context(SETTINGS):
        return _draw(data.curves(tree), FIGURES[name])


def _draw(curves: xr.Dataset, layout: _Layout) -> Figure:
    figure = Figure(figsize=(layout.width, 4.8), layout="constrained")
    accuracy, *panels = figure.subplots(1, 1 + len(layout.shares), width_ratios=(3, *(2 for _ in layout.shares)))
    for method in map(str, curves[schema.APPROACH].values):
        curve, style = curves.sel({schema.APPROACH: method}), _STYLES[method]
        _draw_accuracy(accuracy, curve, style)
        for axes, variable in zip(panels, layout.shares, strict=True):
            _draw_share(axes, curve[variable], style)
    for axes in (accuracy, *panels):
        _mark_vocabulary(axes, curves.attrs["vocabulary_size"])
        axes.set_xlabel(layout.sizes)
        axes.set_xticks(curves[schema.N_STATES].values)
    accuracy.set(
        ylabel="test accuracy (%)",
        ylim=(48, 102),
        title=f"Mean accuracy of {curves.attrs['n_seeds']} models, 95 % interval",
    )
    for axes, title in zip(panels, layout.shares.values(), strict=True):
        axes.set(ylabel="models (%)", ylim=(-9, 104), title=title)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
    return figure


def _draw_accuracy(axes: Axes, curve: xr.Dataset, style: _Style) -> None:
    states, mean, label = curve[schema.N_STATES].values, 100 * curve["mean"], style.label.format(**curve.attrs)
    # Points lie over the error bars of others.
    axes.plot(states, mean, label=label, zorder=2 if style.band else 3, **style.line)
    if style.band:
        axes.fill_between(states, 100 * curve["low"], 100 * curve["high"], color=style.line["color"], alpha=0.15, lw=0)
    if curve["published"].notnull().any():
        axes.errorbar(
            states,
            100 * curve["published"],
            100 * curve["published_half_width"],
            **{**style.line, "markerfacecolor": "white", "linestyle": "--", "linewidth": 1},
            capsize=2,
            label=f"{label.split(',')[0]}, published (trained transformer)",
        )


def _draw_share(axes: Axes, share: xr.DataArray, style: _Style) -> None:
    if share.notnull().any():
        axes.plot(share[schema.N_STATES].values, 100 * share, **{**style.line, "linestyle": "-"})


def _mark_vocabulary(axes: Axes, vocabulary_size: int) -> None:
    axes.axvline(vocabulary_size, color="0.6", linestyle=":", linewidth=1, zorder=0)
    axes.annotate(
        f"K = V = {vocabulary_size}",
        (vocabulary_size, 0),
        xycoords=("data", "axes fraction"),
        xytext=(3, 3),
        textcoords="offset points",
        fontsize=8,
        color="0.4",
    )
