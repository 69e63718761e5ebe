"""Intervals of accuracies on held-out texts, at 95 %."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_Z = 1.959963984540054  # of the normal law, at 95 %, two-sided


class Interval(NamedTuple):
    """An estimate and the ends of its interval."""

    value: float
    low: float
    high: float


def wilson(share: float, n: float) -> Interval:
    """Return Wilson's score interval of a share of ``n`` trials. Source: Wilson (1927)."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return Interval(share, float(min(share, centre - half)), float(max(share, centre + half)))


def difference(first: Interval, second: Interval) -> Interval:
    """Return the interval of a difference of two shares, from theirs. Source: Newcombe (1998), method 10."""
    value = first.value - second.value
    low = value - np.hypot(first.value - first.low, second.high - second.value)
    high = value + np.hypot(first.high - first.value, second.value - second.low)
    return Interval(value, float(low), float(high))


def effective_size(right: np.ndarray, groups: np.ndarray | None) -> float:
    """Return how many independent texts tell as much as these (n,), whose groups (n,) may err together.

    n over the design effect, between the number of groups and n; the number of groups where all texts are right, or
    none. Source: Kish (1965).
    """
    n_texts = len(right)
    if groups is None:
        return n_texts
    numbers = np.unique(groups, return_inverse=True)[1]
    n_groups, share = int(numbers.max()) + 1, right.mean()
    if share in (0, 1) or n_groups == 1:
        return n_groups
    sums = np.bincount(numbers, right - share)  # of each group, less what its size would give
    variance = n_groups / (n_groups - 1) * (sums**2).sum() / n_texts**2
    return float(np.clip(share * (1 - share) / max(variance, 1e-12), min(n_groups, n_texts), n_texts))
