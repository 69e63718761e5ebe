"""Where a cone of heads is split, so that few cones are needed to refute all heads.

A head b counts by what it reads, Wb, and a mixture λ (K,J) that no weights of texts exclude shows what is in the way. A
split takes the pair of generators that both have a share in λ and read differently. Edges chosen by λ alone were split
for ever, as λ can move between generators that read nearly the same; edges chosen by length alone need some times more
cones.

A head is *blind* where some state k that a prompt can leave moves only to states that it reads nothing in:
Wb = 0 on supp A_k. Behind v = e_k its score is zero for all texts, so that no weights refute it, and near it the other
heads need weights that change with the direction from it. With blind heads in the inside of a cone no split ends that;
with blind heads as generators, each direction has cones of its own.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ppl_hmm.recoverability.cones import Cone, Split, rays, size
from ppl_hmm.recoverability.farkas import nearest

_SMALLEST_SHARE = 0.05  # of an edge, that a split leaves on either side
_LARGEST_DENOMINATOR = 8
# What heads read, beside their largest entry, that counts as nothing; and the fineness of splits at blind heads.
_NOTHING, _FINEST = 1e-12, 1 << 40


def blind_emissions(transition: np.ndarray, emission: np.ndarray, states: np.ndarray) -> list[np.ndarray]:
    """Return the rows of W (·,V) that a state k of ``states`` (K,) moves to, once each, where some b ≠ 0 reads none."""
    reached = np.unique(transition[states] > 0, axis=0)
    return [rows for rows in map(emission.__getitem__, reached) if np.linalg.matrix_rank(rows) < emission.shape[1]]


def where_to_split(cone: Cone, mixture: np.ndarray, emission: np.ndarray, blind: list[np.ndarray]) -> Split:
    """Return where to split a cone with λ (K,J): at a blind head inside, or else where λ has heads that read apart."""
    heads = rays(cone)
    for rows in blind:
        shares = _blind_shares(rows @ heads)
        i, j = map(int, np.argsort(-shares)[:2])
        if shares[j] > _NOTHING:
            return _split(cone, i, j, Fraction(shares[i]) / Fraction(shares[j]), _FINEST)
    reads = emission @ heads
    sizes = np.linalg.norm(reads, axis=0)
    seeing = sizes > _NOTHING
    sizes = np.where(seeing, sizes, 1)
    shares = mixture.sum(0) * sizes
    shares = (shares / (shares.sum() or 1)).clip(_SMALLEST_SHARE)
    i, j = _furthest(reads / sizes, shares * seeing)
    return _split(cone, i, j, Fraction(shares[i] * sizes[j]) / Fraction(shares[j] * sizes[i]), _LARGEST_DENOMINATOR)


def _furthest(reads: np.ndarray, shares: np.ndarray) -> tuple[int, int]:
    """Return the two rays of the largest squared distance of reads (K,J) times the geometric mean of their shares."""
    worth = ((reads[:, :, None] - reads[:, None, :]) ** 2).sum(0) * np.sqrt(np.outer(shares, shares))
    np.fill_diagonal(worth, -1)
    i, j = map(int, np.unravel_index(worth.argmax(), worth.shape))
    return i, j


def _blind_shares(reads: np.ndarray) -> np.ndarray:
    """Return shares (J,) that rays have in a blind head, of what they read (·,J); zero where none is in the cone.

    Rays that are blind have no share.
    """
    shares = np.zeros(reads.shape[1])
    seeing = np.abs(reads).max(0) > _NOTHING
    if seeing.any():
        equations = np.r_[reads[:, seeing], np.ones((1, seeing.sum()))]
        one = np.eye(len(equations))[-1]
        found = nearest(equations, one)
        shares[seeing] = found * (np.linalg.norm(equations @ found - one) <= _NOTHING)
    return shares


def _split(cone: Cone, i: int, j: int, ratio: Fraction, largest: int) -> Split:
    """Return the split at ratio : 1 of the rays i and j, to integers one of which is at most so large."""
    return Split(i, j, *_simple(ratio * Fraction(size(cone[j]), size(cone[i])), largest))


def _simple(ratio: Fraction, largest: int) -> tuple[int, int]:
    """Return positive integers, one of them at most so large, whose quotient is near a positive ratio."""
    if ratio < 1:
        above, below = _simple(1 / ratio, largest)
        return below, above
    near = ratio.limit_denominator(largest)
    return near.numerator, near.denominator
