"""Whether probabilities are kept: ranks of truths among draws, reliability of probabilities, and their growth."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binom

from ppl_hmm import schema
from ppl_hmm.plots.style import BLUE, ORANGE, REFERENCE, SETTINGS, SMALL, VERMILION

_BAND = 0.95  # of counts that chance alone gives


def draw_ranks(ranks: xr.Dataset, n_bins: int = 10) -> Figure:
    """Draw histograms of the ranks of truths among posterior draws: flat where the posterior is calibrated.

    Parameters
    ----------
    ranks
        By name of a quantity, the share (simulation,) of draws below the truth.
    n_bins
        Bars of each histogram.
    """
    with mpl.rc_context(SETTINGS):
        figure, panels = plt.subplots(
            1, len(ranks.data_vars), figsize=(3.2 * len(ranks.data_vars), 2.8), layout="constrained", squeeze=False
        )
        for axes, (name, shares) in zip(panels[0], ranks.data_vars.items(), strict=True):
            values = shares.dropna("simulation").values
            low, high = binom.interval(_BAND, len(values), 1 / n_bins)
            axes.axhspan(low, high, color="0.88", label=f"{_BAND:.0%} of bars, by chance")
            axes.hist(values, np.linspace(0, 1, n_bins + 1), color=BLUE, edgecolor="white")
            axes.axhline(len(values) / n_bins, **REFERENCE)
            axes.set(title=str(shares.attrs.get("long_name", name)), xlabel="rank of the truth", xlim=(0, 1))
        panels[0][0].set_ylabel("simulations")
        panels[0][0].legend(fontsize=SMALL, frameon=False, loc="lower left")
        return figure


def draw_reliability(data: xr.Dataset, n_bins: int = 5) -> Figure:
    """Draw how often an event happened against how probable it was said to be.

    Parameters
    ----------
    data
        ``probability`` and ``happened``, 0 or 1, of each ``simulation``.
    n_bins
        Groups of as many simulations each, from the least probable to the most.
    """
    with mpl.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(4, 3.8), layout="constrained")
        order = np.argsort(data[schema.PROBABILITY].values, kind="stable")
        groups = np.array_split(order, n_bins)
        said = np.array([data[schema.PROBABILITY].values[group].mean() for group in groups])
        happened = np.array([data["happened"].values[group].mean() for group in groups])
        sizes = np.array([len(group) for group in groups])
        low, high = (np.array(each) / sizes for each in binom.interval(_BAND, sizes, said))
        axes.plot([0, 1], [0, 1], **REFERENCE)
        axes.errorbar(
            said, said, np.stack([said - low, high - said]).clip(0), fmt="none", color="0.6", capsize=3,
            label=f"{_BAND:.0%} by chance, if calibrated",
        )  # fmt: skip
        axes.plot(said, happened, "o-", color=BLUE, label=f"groups of {sizes.max()}")
        axes.set(xlabel="probability that was said", ylabel="share that happened")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.legend(fontsize=SMALL, frameon=False, loc="upper left")
        return figure


def draw_by_corpus_size(data: xr.Dataset) -> Figure:
    """Draw what a corpus tells of a task by its size: P(half-range ≤ budget), and accuracy across draws and on truth.

    Parameters
    ----------
    data
        By ``n_sequences``: ``probability`` with ``probability_error``, also by ``budget``; ``cross_draw_accuracy``,
        and ``accuracy`` on the truth where it is known.
    """
    with mpl.rc_context(SETTINGS):
        figure, (chances, accuracy) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
        sizes = data["n_sequences"].values
        for budget, colour in zip(data[schema.BUDGET].values, (BLUE, ORANGE, VERMILION), strict=False):
            own = data.sel({schema.BUDGET: budget})
            error = 2 * own[schema.PROBABILITY_ERROR].values
            chances.errorbar(
                sizes, own[schema.PROBABILITY].values, error, fmt="o-", capsize=2, color=colour, label=f"{budget:g}"
            )
        chances.set(ylim=(-0.03, 1.03), ylabel="P(half-range ≤ budget)")
        chances.legend(title="budget", fontsize=SMALL, title_fontsize=SMALL, frameon=False)
        accuracy.plot(sizes, data[schema.CROSS_DRAW_ACCURACY].values, "o-", color=BLUE, label="on other draws")
        if schema.ACCURACY in data:
            accuracy.plot(sizes, data[schema.ACCURACY].values, "^--", color=ORANGE, label="on the truth")
        accuracy.set_ylabel("accuracy of a draw's head")
        accuracy.legend(fontsize=SMALL, frameon=False, loc="lower right")
        for axes in (chances, accuracy):
            _log_sizes(axes, sizes)
        return figure


def _log_sizes(axes: Axes, sizes: np.ndarray) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("texts of the corpus")
