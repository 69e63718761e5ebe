"""Diagnostics of laws on text, on plain NumPy arrays.

A law on text is a batch of texts with weights (B,) that sum to one: then expectations are exact and have standard error
zero. Or it is a sample, ``weights=None``: then they are means, with the standard error of independent draws.
Logarithms are natural: information is in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import subspace_angles

Weights = np.ndarray | None


class Expectation(NamedTuple):
    """An expectation over texts and its standard error, 0 where it is exact."""

    value: np.ndarray
    standard_error: np.ndarray


def expectation(values: np.ndarray, weights: Weights = None) -> Expectation:
    """Return E v of values (B,…)."""
    if weights is not None:
        mean = np.tensordot(weights, values, axes=1)
        return Expectation(mean, np.zeros_like(mean))
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.inf)
    return Expectation(values.mean(axis=0), spread / np.sqrt(len(values)))


def quantiles(values: np.ndarray, probabilities: np.ndarray, weights: Weights = None) -> np.ndarray:
    """Return the smallest values (B,) whose distribution function reaches the probabilities."""
    return np.quantile(values, probabilities, weights=weights, method="inverted_cdf")


def entropy(law: np.ndarray) -> np.ndarray:
    """Return −Σ p log p (…) of laws (…,n), in nats."""
    positive = law > 0
    return -(law * np.log(law, where=positive, out=np.zeros_like(law))).sum(-1)


def information(prior: np.ndarray, posterior: np.ndarray, weights: Weights = None) -> Expectation:
    """Return I(H;x) = E H(prior) − E H(P(H|x)) in nats: prior (n,), or (B,n) if texts differ in it; posterior (B,n)."""
    return expectation(entropy(prior) - entropy(posterior), weights)


def bayes_accuracy(posterior: np.ndarray, weights: Weights = None) -> Expectation:
    """Return E max_h P(H=h|x): how often the best guess of the latent is right."""
    return expectation(posterior.max(-1), weights)


class LinearMap(NamedTuple):
    """The best linear map from features to a posterior, and what it leaves."""

    matrix: np.ndarray  # C (n,V) with P(H|x) ≈ C G(x)
    squared_error: Expectation  # E‖P(H|x) − CG‖²
    kept: np.ndarray  # (n,): share of the variance of P(H=h|x) that CG keeps; 1 where there is none


def best_linear_map(features: np.ndarray, posterior: np.ndarray, weights: Weights = None) -> LinearMap:
    """Return the C (n,V) that minimises E‖P(H|x) − CG(x)‖², from second moments: features (B,V), posterior (B,n).

    As ΣG = 1 an intercept would change nothing. Cost O(B·V·(V+n)).
    """
    law = np.full(len(features), 1 / len(features)) if weights is None else weights
    root = np.sqrt(law)[:, None]
    matrix = np.linalg.lstsq(root * features, root * posterior, rcond=None)[0].T
    squares = (posterior - features @ matrix.T) ** 2
    variance = law @ (posterior - law @ posterior) ** 2
    left = np.divide(law @ squares, variance, out=np.zeros_like(variance), where=variance > 1e-30)
    return LinearMap(matrix, expectation(squares.sum(-1), weights), 1 - left)


def dobrushin_coefficient(transition: np.ndarray) -> float:
    """Return max ½‖A_h − A_h'‖₁: two laws of the state come closer by at least this factor at every step."""
    return float(np.abs(transition[:, None] - transition[None]).sum(-1).max() / 2)


def second_eigenvalue(transition: np.ndarray) -> float:
    """Return |λ₂|, the second largest modulus of an eigenvalue: the rate of forgetting; 0 for one state."""
    moduli = np.sort(np.abs(np.linalg.eigvals(transition)))[::-1]
    return float(moduli[1]) if len(moduli) > 1 else 0.0


def smallest_angle(rows: np.ndarray, others: np.ndarray) -> float:
    """Return the smallest principal angle, in radians, between the spans of two sets of rows; π/2 if one is empty."""
    if not rows.any() or not others.any():
        return float(np.pi / 2)
    return float(subspace_angles(rows.T, others.T).min())


def without_own(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return scores (B,C) with −∞ at each text's own class."""
    return np.where(labels[:, None] == np.arange(scores.shape[1]), -np.inf, scores)
