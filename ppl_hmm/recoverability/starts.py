"""Points from which prompts are searched: random ones, improved by a short training.

A point is a prompt, as the logarithms of its weights v, with a head b. Training is by variable projection: for each
gradient step on log v the head takes one Newton step of logistic regression.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ppl_hmm.recoverability.bilinear import BilinearForm

# Texts and steps of a training: more of either start the search no better.
_TEXTS, _STEPS = 800, 80
_LEARNING_RATE, _DECAYS, _EPSILON = 0.3, (0.9, 0.999), 1e-8
_FIRST_HEAD = 5  # Newton steps before the first gradient
_PENALTY = 1e-6  # on the head, per text
_LARGEST_LOGIT = 500.0


class Point(NamedTuple):
    """A prompt with a head."""

    logarithms: np.ndarray  # log v (K,), −inf where v is zero
    head: np.ndarray  # b (V,)

    @classmethod
    def of(cls, weights: np.ndarray, head: np.ndarray) -> Point:
        """Return the point of weights v (K,) ≥ 0."""
        return cls(np.log(weights, where=weights > 0, out=np.full_like(weights, -np.inf)), head).scaled()

    @property
    def weights(self) -> np.ndarray:
        """The prompt's weights v (K,)."""
        return np.exp(self.logarithms)

    def scaled(self) -> Point:
        """Return the same prompt and head with a largest weight of one each: only their directions matter."""
        return Point(self.logarithms - self.logarithms.max(), self.head / (np.abs(self.head).max() or 1.0))


def random_weights(support: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Return log-normal weights v (K,) on a support (K,), their logarithms of this standard deviation."""
    logarithms = np.where(support, spread * rng.normal(size=len(support)), -np.inf)
    return np.exp(logarithms - logarithms.max())


def fitted_head(form: BilinearForm, weights: np.ndarray, steps: int = 2 * _FIRST_HEAD) -> np.ndarray:
    """Return the head b (V,) of logistic regression on all texts, after the prompt of weights v (K,)."""
    signed = form.signed_features(weights)
    return _newton(signed, np.zeros(signed.shape[1]), steps)


def trained(form: BilinearForm, weights: np.ndarray) -> Point:
    """Return a point after a short training on the first texts, from weights v (K,). Cost O(n·K·V) a step."""
    form = form.select(np.arange(min(_TEXTS, len(form))))
    point = Point.of(weights, fitted_head(form, weights, _FIRST_HEAD))
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, 1 + _STEPS):
        signed = form.signed_features(point.weights)
        head = _newton(signed, point.head, 1)
        gradient = -(_wrong(signed @ head) @ form.gradients(point.weights, head)) / len(form)
        first = _DECAYS[0] * first + (1 - _DECAYS[0]) * gradient
        second = _DECAYS[1] * second + (1 - _DECAYS[1]) * gradient**2
        size = np.sqrt(second / (1 - _DECAYS[1] ** step)) + _EPSILON
        point = Point(point.logarithms - _LEARNING_RATE * first / (1 - _DECAYS[0] ** step) / size, head)
        point = point._replace(logarithms=point.logarithms - point.logarithms.max())
    return point.scaled()


def _newton(signed: np.ndarray, head: np.ndarray, steps: int) -> np.ndarray:
    """Return the head after Newton steps on the logistic loss of y_i G_i (n,V)."""
    penalty = _PENALTY * np.eye(len(head))
    for _ in range(steps):
        wrong = _wrong(signed @ head)
        curvature = (signed * (wrong * (1 - wrong))[:, None]).T @ signed / len(signed) + penalty
        head = head - np.linalg.solve(curvature, _PENALTY * head - wrong @ signed / len(signed))
    return head


def _wrong(scores: np.ndarray) -> np.ndarray:
    """Return the probability of the other label, σ(−s)."""
    return 1 / (1 + np.exp(scores.clip(-_LARGEST_LOGIT, _LARGEST_LOGIT)))
