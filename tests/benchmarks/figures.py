"""Draw the measurements: time by size, and own beside each of the others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.records import OWN, Comparison, Measurements
from ppl_hmm.plots.style import BLUE, GREEN, PURPLE, REFERENCE, SETTINGS, SMALL, VERMILION

#: Line and marker of each curve; markers tell them apart without colour.
CURVES = {
    OWN: {"color": BLUE, "marker": "o", "linewidth": 2.2},
    "dynamax": {"color": VERMILION, "marker": "s"},
    "hmmlearn": {"color": GREEN, "marker": "^", "linestyle": "--"},
    "roofline": {"color": "0.4", "marker": "", "linestyle": ":"},
}
LABELS = {"hmmlearn": "hmmlearn (float64)", "roofline": "roofline: torch.mm + one write"}
DIMENSIONS = {"texts": "texts B", "length": "length T", "states": "states K"}


def draw(measurements: Measurements, folder: Path) -> None:
    """Save peers.svg, and scaling.svg where growth was measured."""
    figures = {"peers": peers, "scaling": scaling} if measurements.scalings else {"peers": peers}
    with mpl.rc_context(SETTINGS | {"font.size": 9}):
        for name, drawn in figures.items():
            drawn(measurements).savefig(folder / f"{name}.svg", metadata={"Date": None})  # same numbers, same file


def scaling(measurements: Measurements) -> Figure:
    """Return a panel of time per token for each dimension."""
    figure = Figure(figsize=(7.2, 3.3), layout="constrained")
    panels = figure.subplots(1, len(measurements.scalings), sharey=True, squeeze=False)[0]
    for axes, one in zip(panels, measurements.scalings, strict=True):
        for name in one.curves:
            times = one.nanoseconds(name)
            axes.plot(list(times), list(times.values()), markersize=4.5, label=LABELS.get(name, name), **CURVES[name])
        fixed = {"texts": "B", "length": "T", "states": "K"}
        others = [f"{letter} = {getattr(one.shape, size)}" for size, letter in fixed.items() if size != one.dimension]
        axes.set(xscale="log", yscale="log", xlabel=DIMENSIONS[one.dimension])
        axes.set_title(", ".join(others), fontsize=SMALL)
        axes.grid(color="0.92", linewidth=0.6)
    panels[0].set_ylabel("ns per token")
    named = _legend(panels)
    figure.legend(named.values(), named, loc="outside lower center", ncols=len(named), fontsize=SMALL, frameon=False)
    return figure


def peers(measurements: Measurements) -> Figure:
    """Return a row for each comparison: how many times our time another takes, and the aim."""
    pairs = [(one, other) for one in measurements.by_section() for other in one.seconds if other in _targets(one)]
    figure = Figure(figsize=(7.2, 1.1 + 0.21 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    for row, (one, other) in enumerate(pairs):
        _pair(axes, row, one, other)
    axes.axvline(1, **REFERENCE)
    axes.set(
        xscale="log",
        xlabel="its time ÷ time of ppl_hmm",
        ylim=(len(pairs) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(pairs)), [_label(*pair) for pair in pairs], fontsize=SMALL)
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.grid(axis="x", color="0.92", linewidth=0.6)
    named = _legend([axes])
    figure.legend(named.values(), named, loc="outside upper center", ncols=len(named), fontsize=SMALL, frameon=False)
    return figure


def _legend(panels: Iterable[Axes]) -> dict[str, Any]:
    """Return each label once, with what it names."""
    handles, labels = [], []
    for axes in panels:
        for found, part in zip((handles, labels), axes.get_legend_handles_labels(), strict=True):
            found.extend(part)
    return dict(zip(labels, handles, strict=True))


def _targets(one: Comparison) -> dict[str, float | None]:
    """Return the ratios aimed at."""
    return one.faster | {other: 1 / times for other, times in one.within.items()}


def _pair(axes: Axes, row: int, one: Comparison, other: str) -> None:
    ratios = [b / a for a, b in zip(one.seconds[OWN], one.seconds[other], strict=True)]
    limit = other in one.within
    style = {"color": PURPLE, "marker": "D"} if limit else {"color": BLUE, "marker": "o"}
    axes.plot([min(ratios), max(ratios)], [row, row], color=style["color"], linewidth=1.2, alpha=0.5)
    label = "limit" if limit else "peer"
    axes.plot(one.ratio(other), row, linestyle="none", markersize=5, label=f"{label}, median of rounds", **style)
    aim = _targets(one)[other]
    if aim is not None:
        axes.plot(aim, row, "|", color="black", markersize=9, markeredgewidth=1.6, label="aim: here or to the right")


def _label(one: Comparison, other: str) -> str:
    precision = "" if one.dtype == "float32" else ", float64"
    return f"{one.quantity}, {one.shape}{precision} · {other}"
