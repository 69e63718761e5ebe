"""The truth in rational arithmetic: what floats of a model say of each text, taken as exact numbers.

Every float is an integer times 2^-1074, so that products of floats are integers up to a power of two that all states
share: sums over states have exact signs and exact ratios, whatever their size. Nothing of the package is used.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import NamedTuple

import numpy as np


def integers(values) -> np.ndarray:
    """Return floats times 2^1074, as Python integers in an array of their shape."""
    array = np.asarray(values, float)
    exact = np.empty(array.shape, object)
    for index, value in np.ndenumerate(array):
        numerator, denominator = float(value).as_integer_ratio()
        exact[index] = numerator * (2**1074 // denominator)
    return exact


class Exact(NamedTuple):
    """One text: the margin, by how much a score exceeds the others, and the masked conditionals."""

    shares: np.ndarray  # P(H₀=h|x) (K,)
    conditionals: np.ndarray | None  # G (V,), None where the context of the mask is impossible


class ExactModel:
    """The floats of an HMM, after a prompt if there is one."""

    def __init__(self, model, prompt=None) -> None:
        self.initial, self.transition, self.emission = (
            integers(array.numpy()) for array in (model.initial, model.transition, model.emission)
        )
        self.law = self.initial
        for row in () if prompt is None else integers(prompt):
            self.law = (self.law @ self.transition) * row
        self.law = self.law @ self.transition

    def of(self, text) -> Exact | None:
        """Return the truth of a text, None if it is impossible."""
        message = np.full(len(self.initial), 1, object)
        for token in reversed(text):
            message = self.transition @ (self.emission[:, token] * message)
        joint = self.initial * message
        total = joint.sum()
        if total == 0:
            return None
        shares = np.array([Fraction(int(each), int(total)) for each in joint])
        conditionals = self.emission.T @ (self.law * message)
        normaliser = conditionals.sum()
        if normaliser == 0:
            return Exact(shares, None)
        return Exact(shares, np.array([Fraction(int(each), int(normaliser)) for each in conditionals]))


def fractions(values) -> np.ndarray:
    """Return floats as fractions, in an array of their shape."""
    array = np.asarray(values, float)
    exact = np.empty(array.shape, object)
    for index, value in np.ndenumerate(array):
        exact[index] = Fraction(float(value))
    return exact


def decision(heads: np.ndarray, read: np.ndarray) -> tuple[int, Fraction, Fraction]:
    """Return the class that heads (1 or C,n) choose, by how much, and the sum of absolute values behind that."""
    scores = [sum(head * read, Fraction(0)) for head in heads]
    size = max(sum(abs(head) * read, Fraction(0)) for head in heads)
    if len(scores) == 1:
        return int(scores[0] >= 0), abs(scores[0]), size
    best = max(range(len(scores)), key=lambda c: (scores[c], c))
    return best, scores[best] - max(score for c, score in enumerate(scores) if c != best), 2 * size


def contrasts(weights: np.ndarray) -> np.ndarray:
    """Return w_1 − w_0 (1,n), or the weights (C,n) of more classes, exactly."""
    exact = fractions(weights)
    return exact[1:] - exact[:1] if len(exact) == 2 else exact


def texts(vocabulary_size: int, longest: int) -> list[tuple[int, ...]]:
    """Return all texts of 1 to ``longest`` tokens."""
    return [text for n in range(1, longest + 1) for text in itertools.product(range(vocabulary_size), repeat=n)]
