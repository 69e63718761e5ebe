"""Beliefs that texts leave as points of a simplex, and what texts of each length predict."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Polygon
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput
from ppl_hmm.plots.simplex import simplex_coordinates
from ppl_hmm.plots.style import BLUE, REFERENCE, SMALL

# Points are drawn smaller the more there are: their area in all, and the largest and smallest of one.
_AREA, _LARGEST, _SMALLEST = 6000, 40.0, 0.5
_MOST_WITH_ARROWS = 64  # mixed states whose transitions can be told apart


class BeliefMap(NamedTuple):
    """Where laws of K states are drawn: in a triangle for K = 3, by two principal axes of given beliefs otherwise."""

    centre: np.ndarray  # (K,)
    axes: np.ndarray  # (K,3): the third one is seen in colours alone
    n_states: int

    @classmethod
    def of(cls, beliefs: ArrayLike) -> BeliefMap:
        """Return the map of beliefs (N,K)."""
        laws = np.asarray(beliefs, dtype=float)
        if laws.ndim != 2 or not laws.size:
            raise InvalidInput("beliefs to draw", "shape (N, K)", f"shape {laws.shape}", "pass one law a row")
        centre = laws.mean(0)
        principal = np.linalg.svd(laws - centre, full_matrices=False)[2][:3]
        signs = np.sign(principal[np.arange(len(principal)), np.abs(principal).argmax(1)])
        axes = np.pad(principal * signs[:, None], ((0, 3 - len(principal)), (0, 0))).T
        return cls(centre, axes, laws.shape[1])

    @property
    def in_triangle(self) -> bool:
        """Whether corners stand for states."""
        return self.n_states == 3

    def points(self, beliefs: ArrayLike) -> np.ndarray:
        """Return the points (N,2) of beliefs (N,K)."""
        laws = np.asarray(beliefs, dtype=float)
        return simplex_coordinates(laws) if self.in_triangle else (laws - self.centre) @ self.axes[:, :2]

    def colours(self, beliefs: ArrayLike) -> np.ndarray:
        """Return a colour (N,3) for each belief: red, green and blue for three states, or three principal axes."""
        laws = np.asarray(beliefs, dtype=float)
        shades = laws if self.in_triangle else (laws - self.centre) @ self.axes
        spread = np.ptp(shades, axis=0)
        return 0.9 * (shades - shades.min(0)) / np.where(spread > 1e-9, spread, 1)


def draw_mixed_states(found: xr.Dataset, *, axes: Axes | None = None) -> Axes:
    """Draw mixed states as points, and, where they are few, a line for each token that leads on.

    Beliefs of three states are points of a triangle with a corner for certainty of each. Of more states two principal
    axes are drawn; points of one place may differ along the others, which colours show. Beliefs of two states are drawn
    by the tokens of the shortest text that leads to them.

    Parameters
    ----------
    found
        What :func:`ppl_hmm.mixed_states` returns.
    axes
        Where to draw; a new figure by default.
    """
    axes = axes or pyplot.subplots(figsize=(4.5, 4.2), layout="constrained")[1]
    beliefs = found[schema.BELIEF].values
    where = BeliefMap.of(beliefs)
    by_depth = where.n_states < 3
    points = np.stack([beliefs[:, -1], found[schema.DEPTH]], axis=1) if by_depth else where.points(beliefs)
    if len(points) <= _MOST_WITH_ARROWS:
        source, token = (found[schema.SUCCESSOR].values >= 0).nonzero()
        ends = np.stack([points[source], points[found[schema.SUCCESSOR].values[source, token]]], axis=1)
        axes.add_collection(LineCollection(list(ends), colors="0.75", linewidths=0.8, zorder=1))
    size = np.clip(_AREA / len(points), _SMALLEST, _LARGEST)
    axes.scatter(*points.T, s=size, c=where.colours(beliefs), linewidths=0, rasterized=True, zorder=2)
    if by_depth:
        axes.set(xlabel=f"probability of {_state_names(found)[-1]}", ylabel="tokens of the shortest text")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return axes
    axes.set_aspect("equal", adjustable="datalim")
    if where.in_triangle:
        corners = simplex_coordinates(np.eye(3))
        axes.add_patch(Polygon(corners.tolist(), closed=True, fill=False, edgecolor="0.4", linewidth=0.8))
        for name, corner in zip(_state_names(found), corners, strict=True):
            shift, side = (4, "bottom") if corner[1] > 0 else (-4, "top")
            axes.annotate(name, corner, (0, shift), textcoords="offset points", ha="center", va=side)
        axes.set_axis_off()
    else:
        axes.set(xlabel="first principal axis", ylabel="second principal axis", xticks=[], yticks=[])
    return axes


def _state_names(found: xr.Dataset) -> list[str]:
    if schema.STATE in found.coords:
        return [str(name) for name in found[schema.STATE].values]
    return [f"state {state}" for state in range(found.sizes[schema.STATE])]


def draw_myopic_entropies(found: xr.Dataset, *, axes: Axes | None = None) -> Axes:
    """Draw the loss of a perfect prediction by the tokens it has read, beside the entropy rate.

    Parameters
    ----------
    found
        What :func:`ppl_hmm.entropies` returns.
    axes
        Where to draw; a new figure by default.
    """
    axes = axes or pyplot.subplots(figsize=(4.5, 3.2), layout="constrained")[1]
    lower, upper = found[schema.MYOPIC_ENTROPY].transpose(schema.BOUND, ...).values
    n_read = np.arange(len(lower))
    axes.fill_between(n_read, lower, upper, color=BLUE, alpha=0.25, linewidth=0)
    loss = r"$H(X_{t+1} \mid x_1 \ldots x_t)$"
    axes.plot(n_read, (lower + upper) / 2, color=BLUE, marker="o", markersize=4, label=loss)
    least, most = found[schema.ENTROPY_RATE].values
    axes.axhspan(least, most, color="0.85", zorder=0)
    axes.axhline((least + most) / 2, **REFERENCE, label="entropy rate")
    axes.set(xlabel="tokens read", ylabel="loss of a perfect prediction (nats)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=SMALL, frameon=False)
    return axes
