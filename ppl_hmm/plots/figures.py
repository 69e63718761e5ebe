"""Draw the figures; what they show is computed in :mod:`ppl_hmm.plots.data`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppl_hmm import schema
from ppl_hmm.errors import ForeignFile, one_of
from ppl_hmm.plots import data

# Colours told apart by colour-blind readers (Okabe & Ito).
_STYLES = {
    schema.HEAD: ("#0072B2", "o", "head on probabilities"),
    schema.HEAD_LOG: ("#009E73", "^", "head on log-probabilities"),
    schema.PROMPT: ("#D55E00", "s", "learned prompt + head"),
}
_SETTINGS = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "ppl_hmm"}


def draw(name: str, tree: xr.DataTree) -> Figure:
    """Return the figure ``name`` of an experiment's tree.

    Raises
    ------
    InvalidInput
        No such figure (with the list).
    """
    one_of("figure", name, FIGURES)
    with mpl.rc_context(_SETTINGS):
        return FIGURES[name](tree)


def save(figure: Figure, path: str | Path) -> list[Path]:
    """Write the figure beside ``path`` as PNG (200 dpi) and SVG, and return both paths."""
    paths = [Path(path).with_suffix(suffix) for suffix in (".png", ".svg")]
    try:
        with mpl.rc_context(_SETTINGS):
            figure.savefig(paths[0], dpi=200)
            figure.savefig(paths[1], metadata={"Date": None})
    except OSError as error:
        raise ForeignFile(f"figure {path}", "a place that can be written", str(error), "choose another --out") from None
    return paths


def _head_vs_prompt(tree: xr.DataTree) -> Figure:
    curves = data.head_vs_prompt(tree)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    accuracy, share = figure.subplots(1, 2, width_ratios=(3, 2))
    for method in map(str, curves[schema.METHOD].values):
        curve = curves.sel({schema.METHOD: method})
        colour, marker, label = _STYLES[method]
        states = curve[schema.N_STATES].values
        accuracy.plot(states, 100 * curve["mean"], color=colour, marker=marker, label=f"{label}, exact G")
        accuracy.fill_between(states, 100 * curve["low"], 100 * curve["high"], color=colour, alpha=0.15, linewidth=0)
        if curve["published"].notnull().any():
            accuracy.errorbar(
                states,
                100 * curve["published"],
                100 * curve["published_half_width"],
                color=colour,
                marker=marker,
                markerfacecolor="white",
                linestyle="--",
                linewidth=1,
                capsize=2,
                label=f"{label.replace('learned ', '').replace(' on probabilities', '')}, "
                "published (trained transformer)",
            )
        if curve["separable"].notnull().any():
            share.plot(
                states,
                100 * curve["separable"],
                color=colour,
                marker=marker,
                label={schema.HEAD: "without a prompt", schema.PROMPT: "after the learned prompt"}[method],
            )
    for axes in (accuracy, share):
        _mark_vocabulary(axes, curves.attrs["vocabulary_size"])
        axes.set_xlabel("number of hidden states K")
        axes.set_xticks(curves[schema.N_STATES].values)
    n_seeds = curves.attrs["n_seeds"]
    accuracy.set(
        ylabel="test accuracy (%)",
        ylim=(48, 102),
        title=f"Can the task be solved? Mean of {n_seeds} models, 95 % interval",
    )
    accuracy.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, fontsize=8, frameon=False)
    share.set(ylabel="models (%)", ylim=(-4, 104), title="Training text linearly separable")
    share.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, fontsize=8, frameon=False)
    return figure


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


FIGURES: dict[str, Callable[[xr.DataTree], Figure]] = {"head-vs-prompt": _head_vs_prompt}
