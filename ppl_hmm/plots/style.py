"""What all figures share: colours, settings, points by class, files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ppl_hmm.base.atomic import write_bytes

# Colours told apart by colour-blind readers (Okabe & Ito).
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
VERMILION, SKY = "#D55E00", "#56B4E9"

#: Colour and marker of each class of texts: markers tell them apart without colour.
CLASS_STYLES = ((SKY, "o"), (ORANGE, "^"), (GREEN, "s"))

#: Settings of matplotlib that figures are drawn and saved with.
SETTINGS = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "ppl_hmm"}
#: Size of letters in legends and notes, and the style of lines to compare with.
SMALL = 8.5
_FEW_NAMES = 4  # that find room side by side
REFERENCE: dict[str, Any] = {"color": "0.45", "linestyle": ":", "linewidth": 1.2}


def scatter_by_class(axes: Axes, x: np.ndarray, y: np.ndarray, labels: np.ndarray, legend: bool = True) -> None:
    """Draw points (B,) in the colour and with the marker of each one's class, named in the legend."""
    for c in np.unique(labels):
        colour, marker = class_style(c)
        axes.scatter(
            x[labels == c],
            y[labels == c],
            s=14,
            color=colour,
            marker=marker,
            edgecolor="black",
            linewidth=0.2,
            alpha=0.8,
            rasterized=True,
            label=f"class {c}" if legend else None,
        )


def class_style(c: int) -> tuple[str, str]:
    """Colour and marker of a class; they repeat after those there are."""
    return CLASS_STYLES[c % len(CLASS_STYLES)]


def number_or_name(axes: Axes, values: xr.DataArray) -> None:
    """Put whole numbers below places 0, 1, … of an axis, or the labels of values (n,) where they have some."""
    if values.dims[0] not in values.coords:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    names = list(map(str, values[values.dims[0]].values))
    axes.set_xticks(np.arange(len(names)), names, rotation=90 if len(names) > _FEW_NAMES else 0, fontsize=SMALL)


def save(figure: Figure, path: str | Path) -> list[Path]:
    """Write the figure beside ``path`` as PNG (200 dpi) and SVG, and return both paths."""
    paths = [Path(path).with_suffix(suffix) for suffix in (".png", ".svg")]
    options: list[dict[str, Any]] = [{"dpi": 200}, {"metadata": {"Date": None}}]
    for file, own in zip(paths, options, strict=True):
        drawn = io.BytesIO()
        with mpl.rc_context(SETTINGS):
            figure.savefig(drawn, format=file.suffix[1:], **own)
        write_bytes(drawn.getvalue(), file, "figure", "choose another --out")
    return paths
