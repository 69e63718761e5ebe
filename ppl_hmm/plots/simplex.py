"""What a task asks and what a head sees: posteriors of three states in a triangle, margins against a prediction."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.errors import InvalidInput
from ppl_hmm.plots.style import CLASS_STYLES, VERMILION

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
_JOINED = {"color": "black", "linewidth": 1.2, "linestyle": "--", "zorder": 4}
_RINGED = {
    "color": "black",
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "linestyle": "none",
    "zorder": 5,
}


def simplex_coordinates(posteriors: ArrayLike) -> np.ndarray:
    """Return the points (…,2) of laws of three states (…,3) in the triangle with corners (0,0), (1,0), (½,√3/2).

    Raises :class:`InvalidInput` for a trailing dimension other than three.
    """
    laws = np.asarray(posteriors, dtype=float)
    if laws.shape[-1:] != (3,):
        raise InvalidInput(
            "laws in a triangle", "shape (…, 3)", f"shape {laws.shape}", "choose a model of three states"
        )
    return laws @ _CORNERS


def decision_boundary(contrast: ArrayLike) -> np.ndarray:
    """Return the two laws (2,3) between which μᵀp = 0 crosses the triangle; (0,3) where μ (3,) has only one sign.

    The ends are on the edges between a state with μ > 0 and one with μ ≤ 0, or the other way round.
    """
    mu = _array("contrast", contrast, (3,))
    ends = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        if mu[i] * mu[j] <= 0 and mu[i] != mu[j]:
            law = np.zeros(3)
            law[[i, j]] = np.abs(mu[[j, i]]) / np.abs(mu[[i, j]]).sum()
            if not any(np.allclose(law, end) for end in ends):
                ends.append(law)
    return np.array(ends) if len(ends) == 2 else np.empty((0, 3))


def decision_boundaries(weights: ArrayLike) -> np.ndarray:
    """Return the pieces (n,2,3) of lines in the triangle where the best of scores w_cᵀp, weights (C,3), changes.

    Each piece is given by the two laws it ends at; there is at most one for each pair of classes.
    """
    rows, pieces = _array("weights", weights, ("C", 3)), []
    for first, second in itertools.combinations(range(len(rows)), 2):
        ends = decision_boundary(rows[second] - rows[first])
        others = np.delete(rows, [first, second], axis=0)
        if not len(ends):
            continue
        # On the line these two classes tie; they are best where their lead over all others, linear in t, is positive.
        start, stop = (ends @ (rows[first] - others).T) if len(others) else np.ones((2, 1))
        crossing = np.divide(start, start - stop, out=np.zeros_like(start), where=start != stop)
        low = crossing[(start < 0) & (stop > 0)].max(initial=0)
        high = crossing[(start > 0) & (stop < 0)].min(initial=1)
        if low < high and not ((start <= 0) & (stop <= 0) & (start + stop < 0)).any():
            pieces.append([ends[0] + t * (ends[1] - ends[0]) for t in (low, high)])
    return np.array(pieces).reshape(-1, 2, 3)


def draw_posterior_simplex(
    posteriors: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    state_names: Sequence[str],
    group_names: Sequence[str] = (),
    contrast: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    joined: Sequence[int] = (),
    marked: Sequence[int] = (),
    axes: Axes | None = None,
) -> Axes:
    """Draw laws of three states (B,3) as points of a triangle, a corner for certainty of each state.

    Parameters
    ----------
    posteriors
        (B,3), e.g. P(H₀|x).
    groups
        (B,) in {0, 1, 2}: a colour and a marker for each, called ``group_names`` in the legend.
    state_names
        Three names, for the corners.
    contrast
        μ (3,): draws the line μᵀp = 0.
    weights
        (C,3), in the place of ``contrast``: draws where the class argmax_c w_cᵀp changes.
    joined
        Indices of points to join by a dashed line.
    marked
        Indices of points to ring: texts of a witness.
    axes
        Where to draw; a new figure by default.

    Raises
    ------
    InvalidInput
        Arrays of another shape (which), a text that is not there, too few names.
    """
    points = simplex_coordinates(_array("posteriors", posteriors, ("B", 3), "choose a model of three states"))
    if contrast is not None:
        weights = np.stack([np.zeros(3), _array("contrast", contrast, (3,))])
    boundaries = [] if weights is None else decision_boundaries(weights)
    members = _members(groups, len(points), group_names)
    dashed, ringed = _texts("joined", joined, len(points)), _texts("marked", marked, len(points))
    if len(state_names) != 3:
        raise InvalidInput("state_names", "three names", str(list(state_names)), "name each corner")
    axes = axes or pyplot.subplots(figsize=(4.5, 4.2), layout="constrained")[1]
    axes.add_patch(Polygon(_CORNERS.tolist(), closed=True, fill=False, edgecolor="0.4", linewidth=1))
    for name, corner, (side, above) in zip(
        state_names, _CORNERS, (("left", -0.03), ("right", -0.03), ("center", 0.03)), strict=True
    ):
        axes.text(corner[0], corner[1] + above, name, ha=side, va="bottom" if above > 0 else "top")
    _scatter(axes, points, members, group_names)
    for number, ends in enumerate(boundaries):
        label = None if number else "decision boundary"
        axes.plot(*simplex_coordinates(ends).T, color=VERMILION, linewidth=1.5, label=label, zorder=1)
    if len(dashed):
        axes.plot(*points[dashed].T, **_JOINED, label="equal $G$")
    if len(ringed):
        axes.plot(*points[ringed].T, **_RINGED, label="texts of the witness")
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.12, 0.98), aspect="equal")
    axes.set_axis_off()
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=2, fontsize=8, frameon=False)
    return axes


def draw_margins(
    predictions: ArrayLike,
    margins: ArrayLike,
    *,
    group_names: Sequence[str] = ("label 0", "label 1"),
    threshold: float | None = None,
    joined: Sequence[int] = (),
    axes: Axes | None = None,
) -> Axes:
    """Draw the margin μᵀP(H₀|x) of each text (B,) against one prediction of the language model (B,).

    A threshold on the prediction recovers the labels iff some vertical line has one sign of the margin on each side.

    Parameters
    ----------
    predictions, margins
        (B,) each; the sign of the margin is the label.
    threshold
        Where to draw a vertical line.
    group_names, joined, axes
        As in :func:`draw_posterior_simplex`; errors, too.
    """
    predicted = _array("predictions", predictions, ("B",), "choose the prediction of one token: G[:, token]")
    points = np.stack([predicted, _array("margins", margins, predicted.shape)], axis=-1)
    members, dashed = _members(points[:, 1] >= 0, len(points), group_names), _texts("joined", joined, len(points))
    axes = axes or pyplot.subplots(figsize=(4.5, 3.6), layout="constrained")[1]
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    _scatter(axes, points, members, group_names)
    if threshold is not None:
        axes.axvline(threshold, color=VERMILION, linewidth=1.5, label="the head's threshold", zorder=1)
    if len(dashed):
        axes.plot(*points[dashed].T, **_JOINED, label="the two texts")
    axes.set_ylabel(r"margin $\mu^\top P(H_0 \mid x)$")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return axes


def _scatter(axes: Axes, points: np.ndarray, members: np.ndarray, names: Sequence[str]) -> None:
    for group in np.unique(members):
        colour, marker = CLASS_STYLES[group]
        axes.scatter(
            *points[members == group].T,
            s=22,
            color=colour,
            marker=marker,
            edgecolor="black",
            linewidth=0.3,
            zorder=3,
            label=names[group] if len(names) else None,
        )


def _members(groups: ArrayLike | None, n_texts: int, names: Sequence[str]) -> np.ndarray:
    """Return the group of each text (B,); raise unless each has a style, and a name where there are names."""
    members = np.zeros(n_texts, dtype=int) if groups is None else _array("groups", groups, (n_texts,)).astype(int)
    found = np.unique(members)
    if not np.isin(found, range(len(CLASS_STYLES))).all():
        raise InvalidInput("groups of points", "0, 1 or 2", str(found.tolist()), "merge some groups")
    if len(names) and found.max(initial=0) >= len(names):
        raise InvalidInput("group_names", f"a name for each of {found.tolist()}", str(list(names)), "name every group")
    return members


def _texts(what: str, numbers: Sequence[int], n_texts: int) -> np.ndarray:
    """Return numbers of texts as an index; raise unless each is that of a text."""
    chosen = _array(what, numbers, ("n",)).astype(int)
    if not np.isin(chosen, range(-n_texts, n_texts)).all():
        raise InvalidInput(what, f"numbers of texts, 0..{n_texts - 1}", str(chosen.tolist()), "correct the numbers")
    return chosen


def _array(what: str, values: ArrayLike, shape: tuple[int | str, ...], remedy: str = "pass that shape") -> np.ndarray:
    """Return values as floats; raise unless they are of a shape, where a letter stands for any size."""
    array = as_tensor(values, what=what).detach().cpu().double().numpy()
    if array.ndim != len(shape) or any(
        size != wanted for size, wanted in zip(array.shape, shape, strict=True) if not isinstance(wanted, str)
    ):
        expected = f"shape {shape}".replace("'", "")
        raise InvalidInput(what, expected, f"shape {array.shape}", remedy)
    return array
