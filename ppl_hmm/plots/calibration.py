"""Whether probabilities are kept: ranks of truths among draws, reliability of probabilities, and their growth."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from scipy.stats import binom

from ppl_hmm import schema
from ppl_hmm.plots.figure import Figure
from ppl_hmm.plots.style import BLUE, ORANGE, REFERENCE, SETTINGS, SMALL, VERMILION

_BAND = 0.95  # of counts that chance alone gives


def ranks_on(axes: Axes, ranks: np.ndarray, name: str, n_bins: int = 10) -> None:
    """Draw the histogram of the ranks of truths among posterior draws: flat where the posterior is calibrated.

    Parameters
    ----------
    axes
        To draw on.
    ranks
        (n,): of each simulation the share of draws below its truth.
    name
        Of the quantity.
    n_bins
        Bars.
    """
    low, high = binom.interval(_BAND, len(ranks), 1 / n_bins)
    axes.axhspan(low, high, color="0.6", alpha=0.35, linewidth=0, zorder=2, label=f"{_BAND:.0%} of bars, by chance")
    axes.hist(ranks, np.linspace(0, 1, n_bins + 1).tolist(), color=BLUE, edgecolor="white")
    axes.axhline(len(ranks) / n_bins, **REFERENCE)
    axes.set(title=name, xlabel="rank of the truth among draws", xlim=(0, 1), ylabel="simulations")
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # the legend has its place above the bars


def reliability_on(axes: Axes, probability: np.ndarray, happened: np.ndarray, n_bins: int = 6) -> None:
    """Draw how often an event happened against how probable it was said to be.

    Parameters
    ----------
    axes
        To draw on.
    probability, happened
        (n,): what was said of each simulation, and whether it was so.
    n_bins
        Groups of about as many simulations each, from the least probable to the most.
    """
    groups = np.array_split(np.argsort(probability, kind="stable"), min(n_bins, len(probability)))
    said, share = (np.array([values[group].mean() for group in groups]) for values in (probability, happened))
    sizes = np.array([len(group) for group in groups])
    low, high = (np.array(each) / sizes for each in binom.interval(_BAND, sizes, said))
    axes.plot([0, 1], [0, 1], **REFERENCE)
    axes.fill_between(said, low, high, color="0.9", label=f"{_BAND:.0%} of groups, by chance")
    axes.plot(said, share, "o-", color=BLUE, label=f"groups of {sizes.max()} simulations")
    axes.set(xlabel="probability that was said", ylabel="share that happened", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.legend(fontsize=SMALL, frameon=False, loc="upper left")


def draw_by_corpus_size(data: xr.Dataset) -> Figure:
    """Draw what a corpus tells of a task by its size: P(half-range ≤ budget), and accuracy across draws and on truth.

    Parameters
    ----------
    data
        By ``n_sequences``: ``probability`` with ``probability_error``, also by ``budget``; ``cross_draw_accuracy``,
        and ``accuracy`` on the truth where it is known.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        chances, accuracy = figure.subplots(1, 2)
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
