"""Witnesses: texts that no linear head separates, with the weights that prove it.

By Farkas' lemma no heads b_c classify all texts i, of classes y_i and features G_i, iff there are λ_ic ≥ 0, not all
zero, with

    Σ_{y_i=k} Σ_{c≠k} λ_ic G_i  =  Σ_{y_i≠k} λ_ik G_i     for every class k.

For two classes: a mean of positive features that is a mean of negative ones, where the convex hulls meet. Anyone can
check such a λ with two matrix products. Source: Farkas (1902); Boyd & Vandenberghe (2004), §5.8.
"""

from __future__ import annotations

import dataclasses
import operator
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls

from ppl_hmm.errors import at_least
from ppl_hmm.recoverability.separation import (
    SEPARATION as SEPARATION,
    Separability as Separability,
    checked_texts,
    margin_forms,
    separability as separability,
    widest,
)

#: Sides of a witness whose coordinates differ by no more, relative to their sum, are equal: rounding of probabilities.
WITNESS_TOLERANCE = 1e-14
# Solutions that are looked at, each scaled to the coordinates of the one before.
_SCALINGS = 3
# Corrections of a solution; each gains the digits that the condition of the equations leaves of sixteen.
_REFINEMENTS = 6
# Weights below this share of the largest are rounding: they would give a class that takes no part a side of its own.
_NEGLIGIBLE_WEIGHT = 1e-15
# Axes of the texts below this share of a witness's tolerance are rounding: six roundings of a float, by default.
_AXIS_SHARE = 1 / 8


@dataclasses.dataclass(frozen=True, eq=False)
class Witness:
    """Some texts that no linear head classifies, and the weights that prove it.

    Attributes
    ----------
    texts
        (n,): their indices in the batch that was searched.
    features
        G (n,V).
    labels
        (n,): classes y_i in 0..C−1.
    weights
        λ (n,C) ≥ 0 with Σλ = 1; λ_ic weighs text i against class c, and λ_{i,y_i} = 0.

    See Also
    --------
    find_witness : Finds one.

    Examples
    --------
    >>> from ppl_hmm import find_witness
    >>> witness = find_witness([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], [0, 0, 1])  # the third is the others' middle
    >>> witness.weights.tolist()
    [[0.0, 0.25], [0.0, 0.25], [0.5, 0.0]]
    >>> witness.own_side.tolist() == witness.other_side.tolist()
    True
    """

    texts: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray

    @property
    def own_side(self) -> np.ndarray:
        """Σ_{y_i=k} Σ_{c≠k} λ_ic G_i (C,V): a matrix product."""
        is_class = self.labels[:, None] == np.arange(self.weights.shape[1])
        return (is_class * self.weights.sum(1, keepdims=True)).T @ self.features

    @property
    def other_side(self) -> np.ndarray:
        """Σ_{y_i≠k} λ_ik G_i (C,V): the other matrix product."""
        return self.weights.T @ self.features

    @property
    def residual(self) -> float:
        """Σ_kv |own side − other side|: some (b_{y_i} − b_c)ᵀG_i is at most ‖b‖_∞ times this, for every head b."""
        return float(np.abs(self.own_side - self.other_side).sum())

    @property
    def relative_residual(self) -> float:
        """max_kv |own side − other side| / (own side + other side): 0 where the two are equal.

        For every head b some (b_{y_i} − b_c)ᵀG_i is at most this share of (|b_{y_i}| + |b_c|)ᵀG_i, however small the
        coordinates that b reads: so small a score is rounding.
        """
        units = self.features.max(0)  # means of the smallest floats would vanish
        scaled = dataclasses.replace(self, features=self.features / np.where(units > 0, units, 1))
        own, other = scaled.own_side, scaled.other_side
        total = own + other
        return float((np.abs(own - other) / np.where(total > 0, total, 1)).max())


def find_witness(
    features: ArrayLike, labels: ArrayLike, *, n_classes: int | None = None, tolerance: float = WITNESS_TOLERANCE
) -> Witness | None:
    """Return a witness that no linear head classifies these texts, or None if they are separable.

    Parameters
    ----------
    features
        G (B,V), at whatever mask and after whatever prompt: the witness is about heads that read these.
    labels
        (B,) integers ≥ 0. Leave undecidable texts out.
    n_classes
        C, where classes may have no text; by default the largest label plus one.
    tolerance
        Largest relative residual that counts as zero, unless a head is found that classifies all texts in rational
        arithmetic. One that exists all the same scores some of the texts within tolerance·|b|ᵀG of the boundary.

    Raises
    ------
    InvalidInput
        Shapes that do not match, labels that are no classes, or more than ``n_classes``, non-finite features.

    See Also
    --------
    exact_witness : In rational arithmetic, from a model and texts.
    separability : The margin of the best head, where there is one.
    head_certificate : Of heads that classify all texts.

    Notes
    -----
    The weights are a basic solution, by non-negative least squares (Lawson & Hanson 1974) for its accuracy: at most
    V+1 texts for two classes, corrected in rationals to a relative residual of about 1e-16. Each coordinate counts in
    its own unit: separability does not depend on units, and a coordinate of 1e-15 may be what tells texts apart. 5000
    texts of V = 10 take some hundredths of a second.

    Examples
    --------
    >>> from ppl_hmm import find_witness
    >>> find_witness([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.2, 0.8]], [0, 0, 1, 0]).texts.tolist()
    [0, 1, 2]
    >>> print(find_witness([[1.0, 0.0], [0.0, 1.0]], [0, 1]))
    None
    """
    rows, classes = checked_texts(features, labels)
    n_seen = max(int(classes.max()) + 1, 2)
    if n_classes is not None:
        at_least("n_classes", n_classes, n_seen)
    pairs, forms = margin_forms(rows, classes)
    units = np.abs(forms).max(0)
    for _ in range(_SCALINGS):
        solution = _balance(forms, units)
        if not solution.any():
            return None
        used = np.flatnonzero(solution)
        solution[used] = _refined(forms[used], solution[used])
        if (solution >= 0).all():
            weights = np.zeros((len(rows), n_seen if n_classes is None else n_classes))
            weights[tuple(pairs.T)] = solution
            chosen = np.flatnonzero(weights.any(1))
            witness = Witness(chosen, rows[chosen], classes[chosen], weights[chosen])
            if witness.relative_residual <= tolerance:
                return None if _has_head(forms, _AXIS_SHARE * tolerance) else witness
        units = np.abs(solution) @ np.abs(forms)
    return None


def _has_head(forms: np.ndarray, rounding: float) -> bool:
    """Say whether a head is found whose forms (n,·) are all positive in rationals: a proof that one exists.

    It is sought along the principal axes of the forms, each in its own unit: what tells texts apart may be far smaller
    than what they share. Axes no longer than ``rounding`` times the first do not count.
    """
    units = np.abs(forms).max(0)
    units = np.where(units > 0, units, 1)
    _, sizes, axes = np.linalg.svd(forms / units, full_matrices=False)
    directions = axes[sizes > rounding * sizes[0]].T / units[:, None]
    along = (forms.astype(np.longdouble) @ directions).astype(float)  # sums that cancel, to more digits where there are
    lengths = np.abs(along).max(0)
    along, directions = along / lengths, directions / lengths
    found = widest(along)
    if (along @ found <= 0).any():
        return False
    steps = [Fraction(step) for step in found.tolist()]
    head = [sum(Fraction(share) * step for share, step in zip(row, steps, strict=True)) for row in directions.tolist()]
    return all(sum(Fraction(g) * b for g, b in zip(row, head, strict=True) if g) > 0 for row in forms.tolist())


def _balance(forms: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return λ ≥ 0 (n,) with Σλ = 1 and λᵀforms = 0 as nearly as can be, coordinates in these units; zeros if none."""
    equations = np.c_[forms / np.where(units > 0, units, 1), np.ones(len(forms))].T
    solution, _ = nnls(equations, np.r_[np.zeros(len(equations) - 1), 1.0])
    solution[solution < _NEGLIGIBLE_WEIGHT * solution.max()] = 0
    return solution / (solution.sum() or 1.0)


def _refined(forms: np.ndarray, solution: np.ndarray) -> np.ndarray:
    """Return λ (n,) nearer to λᵀforms = 0, Σλ = 1: corrected for its residual, which is computed in rationals.

    Sides that cancel to many digits are equal in each coordinate only for weights that are right to the last one.
    """
    units = np.abs(solution) @ np.abs(forms)
    _, exponents = np.frexp(np.where(units > 0, units, 1))
    equations = np.c_[np.ldexp(forms, -exponents), np.ones(len(forms))].T  # the same equations, exactly
    inverse = np.linalg.pinv(equations)
    exact = [[Fraction(entry) for entry in row] for row in equations.tolist()]
    refined = [Fraction(weight) for weight in solution.tolist()]
    for _ in range(_REFINEMENTS):
        sums = [sum(map(operator.mul, row, refined)) for row in exact]
        residual = -np.array([float(each) for each in (*sums[:-1], sums[-1] - 1)])
        changes = (inverse @ residual).tolist()
        refined = [weight + Fraction(change) for weight, change in zip(refined, changes, strict=True)]
    return np.array([float(weight) for weight in refined])
