"""Cones of heads: a finite set of them that covers every head, and the ways to split one in two.

Heads b ∈ R^V read G with ΣG = 1, so the all-ones vector 1 is the bias. With w* a token where b is smallest,

    b = Σ_w (b_w − b_w*) e_w + b_w*·1,

so the 2V cones spanned by {e_w : w ≠ w*} and by 1, or by −1, cover all heads. Splitting a cone at a point between two
of its generators gives two cones that cover it. Generators are integers: rounded ones would leave gaps between halves.

A *cover* is a list of nodes in preorder, the 2V roots one after the other: an inner node says how its cone is split, a
leaf that it is not. Whatever the list says, the cones of its leaves cover all heads, once for each time that the roots
come.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

Generator = tuple[int, ...]
Cone = tuple[Generator, ...]


class Split(NamedTuple):
    """Where a cone is split: at share_i·g_i + share_j·g_j, which replaces g_i in one half and g_j in the other."""

    i: int
    j: int
    share_i: int
    share_j: int


#: What a cover has in place of a split at a leaf.
LEAF = Split(0, 0, 0, 0)


def roots(vocabulary_size: int) -> list[Cone]:
    """Return the 2V cones of V generators that cover all heads b (V,)."""
    unit = [tuple(int(v == w) for v in range(vocabulary_size)) for w in range(vocabulary_size)]
    return [
        (*unit[:smallest], *unit[smallest + 1 :], (sign,) * vocabulary_size)
        for smallest in range(vocabulary_size)
        for sign in (1, -1)
    ]


def halves(cone: Cone, split: Split) -> tuple[Cone, Cone]:
    """Return the two cones that a cone is split into."""
    i, j, share_i, share_j = split
    between = tuple(share_i * first + share_j * second for first, second in zip(cone[i], cone[j], strict=True))
    return (*cone[:i], between, *cone[i + 1 :]), (*cone[:j], between, *cone[j + 1 :])


def leaves(cover: np.ndarray, vocabulary_size: int, times: int) -> Iterator[tuple[int, Cone]]:
    """Yield the cones of the leaves of a cover (n,4), each with the number of the time that the roots come.

    Raises
    ------
    ValueError
        The list is no cover: it ends too early or too late, or a node splits at no point between two generators.
    """
    waiting = [(time, root) for time in reversed(range(times)) for root in reversed(roots(vocabulary_size))]
    for number, node in enumerate(cover.tolist()):
        if not waiting:
            raise ValueError(f"node {number} is one too many")
        time, cone = waiting.pop()
        if (split := Split(*node)) == LEAF:
            yield time, cone
            continue
        if split.i == split.j or not {split.i, split.j} <= set(range(vocabulary_size)) or min(node[2:]) < 1:
            raise ValueError(f"node {number} splits at {tuple(split)}")
        waiting.extend((time, half) for half in reversed(halves(cone, split)))
    if waiting:
        raise ValueError(f"{len(waiting)} cones are missing")


def rays(cone: Cone) -> np.ndarray:
    """Return the generators (V,J), each divided by its largest absolute entry; entries are right to half an ulp."""
    return np.array([[entry / size(generator) for entry in generator] for generator in cone]).T


def spreads(cone: Cone) -> np.ndarray:
    """Return N(b) = Σ_w (b_w − min b) of the rays (J,), likewise right; N is linear on each cone of a cover."""
    return np.array([spread(generator) / size(generator) for generator in cone])


def spread(generator: Generator) -> int:
    """Return N of a generator."""
    return sum(generator) - len(generator) * min(generator)


def size(generator: Generator) -> int:
    """Return the largest absolute entry of a generator."""
    return max(map(abs, generator))
