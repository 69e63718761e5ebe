"""Where heads look: attention weights along one text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ppl_hmm.errors import InvalidInput
from ppl_hmm.plots.style import BLUE, GREEN, ORANGE, PURPLE

# Hatches tell heads apart without colour.
_STYLES = ((BLUE, ""), (ORANGE, "//"), (GREEN, ".."), (PURPLE, "xx"))


def draw_attention(
    weights: ArrayLike,
    tokens: Sequence[str],
    *,
    names: Sequence[str],
    first_position: int = 0,
    axes: Axes | None = None,
) -> Axes:
    """Draw the attention of one to four heads on one text as bars, a group for each position.

    Parameters
    ----------
    weights
        α (heads,T), e.g. a row of ``AttentionHead.attend`` for each head: shares between 0 and 1.
    tokens
        T words, for the axis.
    names
        Of the heads, for the legend.
    first_position
        Position of the first word, where this is not the beginning of the text.
    axes
        Where to draw; a new figure by default.

    Raises
    ------
    InvalidInput
        Numbers of heads, names, positions and words that do not match, or more than four heads.
    """
    shares = np.atleast_2d(np.asarray(weights, dtype=float))
    n_heads, length = shares.shape[0], shares.shape[-1]
    if shares.ndim != 2 or length != len(tokens) or n_heads != len(names) or n_heads > len(_STYLES):
        raise InvalidInput(
            "attention to draw",
            f"weights (heads, T), a name for each of at most {len(_STYLES)} heads, a word for each position",
            f"weights {shares.shape}, {len(names)} names, {len(tokens)} words",
            "pass a row of attention for each name",
        )
    axes = axes or pyplot.subplots(figsize=(max(4.5, 0.55 * length), 2.6), layout="constrained")[1]
    width = 0.8 / n_heads
    positions = np.arange(length)
    for head, (name, (colour, hatch)) in enumerate(zip(names, _STYLES, strict=False)):
        left = positions + (head - (n_heads - 1) / 2) * width
        axes.bar(left, shares[head], width, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=name)
    axes.set_xticks(
        positions, [f"{word}\n{position}" for position, word in enumerate(tokens, first_position)], fontsize=8
    )
    axes.set(ylabel="attention", ylim=(0, 1.02), xlim=(-0.6, length - 0.4), xlabel="word and its position")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0, 1.22), ncols=n_heads)
    return axes
