"""Draw the figures; what they show is computed in :mod:`ppl_hmm.plots.data`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppl_hmm import schema
from ppl_hmm.errors import ForeignFile, one_of
from ppl_hmm.plots import data


class _Style(NamedTuple):
    label: str
    line: dict[str, Any]
    band: bool = True


# Colours told apart by colour-blind readers (Okabe & Ito).
_STYLES = {
    schema.HEAD: _Style("head on probabilities, exact G", {"color": "#0072B2", "marker": "o"}),
    schema.HEAD_LOG: _Style("head on log-probabilities, exact G", {"color": "#009E73", "marker": "^"}),
    schema.PROMPT: _Style("learned prompt + head, exact G", {"color": "#D55E00", "marker": "s"}),
    # Means over the models that meet the condition only, others at each size: points, not curves.
    schema.PROMPT_THEOREM: _Style(
        "constructed prompt + head, where certified",
        {"color": "#CC79A7", "marker": "D", "linestyle": "none"},
        band=False,
    ),
    schema.PROMPT_THEOREM_THRESHOLD: _Style(
        "constructed with δ = DELTA, where its condition holds",
        {"color": "#56B4E9", "marker": "v", "linestyle": "none"},
        band=False,
    ),
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
    figure = Figure(figsize=(12.5, 4.8), layout="constrained")
    accuracy, separable, condition = figure.subplots(1, 3, width_ratios=(3, 2, 2))
    for method in map(str, curves[schema.METHOD].values):
        curve = curves.sel({schema.METHOD: method})
        _draw_accuracy(accuracy, curve, _STYLES[method])
        _draw_share(separable, curve["separable"], _STYLES[method])
        _draw_share(condition, curve["condition"], _STYLES[method])
    for axes in (accuracy, separable, condition):
        _mark_vocabulary(axes, curves.attrs["vocabulary_size"])
        axes.set_xlabel("number of hidden states K")
        axes.set_xticks(curves[schema.N_STATES].values)
    accuracy.set(
        ylabel="test accuracy (%)",
        ylim=(48, 102),
        title=f"Mean accuracy of {curves.attrs['n_seeds']} models, 95 % interval",
    )
    separable.set(ylabel="models (%)", ylim=(-9, 104), title="Training text linearly separable")
    condition.set(ylabel="models (%)", ylim=(-9, 104), title="Theorem's condition holds")
    handles, labels = accuracy.get_legend_handles_labels()
    delta = f"{curves.attrs['support_threshold']:g}"
    figure.legend(
        handles,
        [label.replace("DELTA", delta) for label in labels],
        loc="outside lower center",
        ncols=3,
        fontsize=8.5,
        frameon=False,
    )
    return figure


def _draw_accuracy(axes: Axes, curve: xr.Dataset, style: _Style) -> None:
    states, mean = curve[schema.N_STATES].values, 100 * curve["mean"]
    axes.plot(states, mean, label=style.label, **style.line)
    if style.band:
        axes.fill_between(states, 100 * curve["low"], 100 * curve["high"], color=style.line["color"], alpha=0.15, lw=0)
    if curve["published"].notnull().any():
        axes.errorbar(
            states,
            100 * curve["published"],
            100 * curve["published_half_width"],
            **{**style.line, "markerfacecolor": "white", "linestyle": "--", "linewidth": 1},
            capsize=2,
            label=f"{style.label.split(',')[0]}, published (trained transformer)",
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


FIGURES: dict[str, Callable[[xr.DataTree], Figure]] = {"head-vs-prompt": _head_vs_prompt}
