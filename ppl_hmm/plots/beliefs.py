"""What a probe of beliefs found: points in the simplex, R² by layer beside controls, loss over the optimal one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.heads.probe_tree import control_labels, require_probe
from ppl_hmm.plots.simplex import simplex_coordinates
from ppl_hmm.plots.style import BLUE, GREEN, ORANGE, PURPLE, SMALL
from ppl_hmm.schema import Control

# Dashes tell lines apart without colour.
_LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, ":"), (PURPLE, "-."))
# From a line to its label, which is moved where others would overlap it.
_LEADER = {"arrowstyle": "-", "color": ORANGE, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
# Points are drawn smaller the more there are: their area in all, and the largest and smallest of one.
_AREA, _LARGEST, _SMALLEST = 6000, 14.0, 1.0


class Triptych(NamedTuple):
    """Points of N prefixes, drawn three times."""

    points: dict[str, np.ndarray]  # (N,2) by title
    colours: np.ndarray  # (N,3), by the exact belief
    in_triangle: bool


def triptych(tree: xr.DataTree, layer: str | None = None) -> Triptych:
    """Return exact beliefs, those that a layer's probe predicts, and those of the last tokens alone, as points.

    Beliefs of three states are points of a triangle. Of others the first two principal components of the exact ones are
    drawn, and predictions by the same map.

    Parameters
    ----------
    tree
        What :func:`ppl_hmm.belief_probe` returns.
    layer
        The last by default.

    Raises
    ------
    InvalidInput
        The tree of something else, a layer that it does not have.
    """
    require_probe(tree)
    layers, controls = tree[schema.LAYERS].dataset, tree[schema.CONTROLS].dataset
    names = layers[schema.LAYER].values.tolist()
    layer = names[-1] if layer is None else layer
    one_of("layer", layer, names)
    labels = dict(zip(controls[schema.CONTROL].values.tolist(), control_labels(controls), strict=True))
    raw, probed = controls.sel(control=str(Control.RAW_TOKENS)), layers.sel(layer=layer)
    exact = tree[schema.PREFIXES].dataset[schema.BELIEFS].values
    laws = {
        "exact beliefs": exact,
        f"{layer}, $R^2$ = {float(probed[schema.R2]):.3f}": probed[schema.PREDICTIONS].values,
        f"{labels[Control.RAW_TOKENS]}, $R^2$ = {float(raw[schema.R2]):.3f}": raw[schema.PREDICTIONS].values,
    }
    in_triangle = exact.shape[-1] == 3
    coordinates = np.eye(3) if in_triangle else _components(exact)
    place = simplex_coordinates if in_triangle else lambda points: (points - exact.mean(0)) @ coordinates[:, :2]
    shades = exact @ coordinates
    spread = np.ptp(shades, axis=0)
    colours = (shades - shades.min(axis=0)) / np.where(spread > 0, spread, 1)
    return Triptych({title: place(each) for title, each in laws.items()}, colours, in_triangle)


def _components(laws: np.ndarray) -> np.ndarray:
    """Return the first three principal components (K,3) of laws (N,K); zeros where there are fewer."""
    components = np.linalg.svd(laws - laws.mean(axis=0), full_matrices=False)[2][:3]
    return np.pad(components, ((0, 3 - len(components)), (0, 0))).T


def draw_belief_triptych(
    tree: xr.DataTree, layer: str | None = None, *, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """Draw exact beliefs, those that a probe predicts, and those of raw tokens, each prefix in one colour.

    Parameters
    ----------
    tree, layer
        As in :func:`triptych`.
    figure
        Where to draw; a new figure by default.
    """
    drawn = triptych(tree, layer)
    figure = figure or pyplot.figure(figsize=(10, 3.4), layout="constrained")
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    size = np.clip(_AREA / len(drawn.colours), _SMALLEST, _LARGEST)
    for axes, (title, points) in zip(panels, drawn.points.items(), strict=True):
        axes.scatter(*points.T, s=size, c=drawn.colours, linewidths=0, rasterized=True)
        axes.set_title(title, fontsize=SMALL + 1)
        axes.set_aspect("equal")
        if drawn.in_triangle:
            corners = simplex_coordinates(np.eye(3)).tolist()
            axes.add_patch(Polygon(corners, closed=True, fill=False, edgecolor="0.4", linewidth=0.8))
            axes.set_axis_off()
        else:
            axes.set(xlabel="first component", xticks=[], yticks=[])
    if not drawn.in_triangle:
        panels[0].set_ylabel("second component")
    return figure


def draw_probe_layers(tree: xr.DataTree, *, axes: Axes | None = None) -> Axes:
    """Draw held-out R² by layer, with a line for each control, and R² of shuffled beliefs.

    Parameters
    ----------
    tree
        What :func:`ppl_hmm.belief_probe` returns.
    axes
        Where to draw; a new figure by default.

    Raises
    ------
    InvalidInput
        The tree of something else.
    """
    require_probe(tree)
    axes = axes or pyplot.subplots(figsize=(5.5, 3.4), layout="constrained")[1]
    layers, controls = tree[schema.LAYERS].dataset, tree[schema.CONTROLS].dataset
    places = np.arange(layers.sizes[schema.LAYER])
    axes.plot(places, layers[schema.R2], color=BLUE, marker="o", zorder=3, label="probe")
    axes.plot(places, layers[schema.SHUFFLED_R2], color="0.5", marker="x", zorder=3, label="shuffled beliefs")
    heights = controls[schema.R2].values
    for height in heights:
        axes.axhline(height, color=ORANGE, linewidth=1, linestyle="--", zorder=1)
    low, high = min(0.0, *heights, *layers[schema.SHUFFLED_R2].values) - 0.05, 1.05
    for label, height, place in zip(control_labels(controls), heights, _apart(heights, (high - low) / 16), strict=True):
        axes.annotate(
            f"{label} {height:.3f}",
            (1, height),
            (1.04, place),
            xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"),
            fontsize=SMALL,
            va="center",
            arrowprops=_LEADER,
        )
    axes.set_xticks(places, layers[schema.LAYER].values)
    axes.set(ylabel="held-out $R^2$", ylim=(low, high), xlim=(-0.5, len(places) - 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=SMALL, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return axes


def _apart(heights: np.ndarray, distance: float) -> np.ndarray:
    """Return heights moved as little as need be for labels that are a distance apart, in the same order."""
    order = np.argsort(heights)
    steps = distance * np.arange(len(heights))
    spread = np.empty(len(heights))
    # Non-decreasing heights less their steps: blocks of labels that would overlap are centred on their mean.
    blocks: list[tuple[float, int]] = []
    for height in heights[order] - steps:
        mean, size = float(height), 1
        while blocks and blocks[-1][0] >= mean:
            other, others = blocks.pop()
            mean, size = (mean * size + other * others) / (size + others), size + others
        blocks.append((mean, size))
    spread[order] = np.concatenate([np.full(size, mean) for mean, size in blocks]) + steps
    return spread


def excess_loss(log_probabilities: ArrayLike | Tensor, laws: ArrayLike | Tensor) -> xr.Dataset:
    """Return by how much a next-token model's loss exceeds the optimal one, by position, in nats.

    Given the text so far, the excess is the divergence Σ_v p(v) log(p(v)/q(v)) of the exact law p from the model's q;
    what is returned is its mean over texts.

    Parameters
    ----------
    log_probabilities
        (B,N,V): log q, or logits.
    laws
        (B,N,V): exact next-token laws, e.g. ``beliefs(...).next_token``.

    Returns
    -------
    Dataset
        ``excess`` and its ``standard_error`` (position).

    Raises
    ------
    InvalidInput
        Shapes that do not match.
    """
    exact = as_tensor(laws, what="laws").detach().cpu().double()
    logits = as_tensor(log_probabilities, what="log probabilities").detach().cpu().double()
    if logits.shape != exact.shape or exact.ndim != 3:
        got = f"shapes {tuple(logits.shape)} and {tuple(exact.shape)}"
        raise InvalidInput("log probabilities and laws", "both (B, N, V)", got, "laws have T+1 entries, as beliefs")
    divergence = torch.where(exact > 0, exact * (exact.log() - logits.log_softmax(-1)), 0).sum(-1).numpy()
    if not np.isfinite(divergence).all():
        got = f"no finite number after prefix {np.argwhere(~np.isfinite(divergence))[0].tolist()}"
        raise InvalidInput("log probabilities", "finite where the exact law is positive", got, "smooth the model")
    error = divergence.std(axis=0, ddof=1) / np.sqrt(len(divergence)) if len(divergence) > 1 else 0 * divergence[0]
    return xr.Dataset({"excess": (schema.POSITION, divergence.mean(0)), "standard_error": (schema.POSITION, error)})


def draw_excess_loss(losses: Mapping[str, xr.Dataset], *, axes: Axes | None = None) -> Axes:
    """Draw by how much losses exceed the optimal one, by the number of tokens read, with two standard errors.

    Parameters
    ----------
    losses
        What :func:`excess_loss` returns, by the name of at most four models.
    axes
        Where to draw; a new figure by default.

    Raises
    ------
    InvalidInput
        No model, or more than four.
    """
    if not 1 <= len(losses) <= len(_LINES):
        raise InvalidInput("losses to draw", f"one to {len(_LINES)} models", str(len(losses)), "draw the others apart")
    axes = axes or pyplot.subplots(figsize=(4.5, 3.2), layout="constrained")[1]
    for (name, loss), (colour, style) in zip(losses.items(), _LINES, strict=False):
        read, mean, error = np.arange(loss.sizes[schema.POSITION]), loss["excess"].values, loss["standard_error"].values
        axes.plot(read, mean, color=colour, linestyle=style, label=name)
        axes.fill_between(read, (mean - 2 * error).clip(min=mean / 10), mean + 2 * error, color=colour, alpha=0.2, lw=0)
    axes.set(yscale="log", xlabel="tokens read", ylabel="loss over the optimal one (nats)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=SMALL, frameon=False)
    return axes
