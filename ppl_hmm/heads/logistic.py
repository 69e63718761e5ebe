"""Logistic regression, as heads and prompts need it: penalised fits, and Newton steps for many data sets at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Real
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgWarning, solve
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import softplus

from ppl_hmm.errors import InvalidInput

#: Inverse regularisation strengths that ``select`` tries by default.
DEFAULT_GRID = (1.0, 1e2, 1e4, 1e6)
_MAX_ITERATIONS = 1000
# Weights of a fit up to which Newton steps, cubic in their number, take no longer than gradients do; and the gradient
# that ends these.
_MOST_FOR_NEWTON = 1024
_SMALL_GRADIENT = 1e-6
PENALTY = 1e-6  # on ‖b‖²/2 in Newton steps: small, as conditionals of nearly deterministic models differ by little
_HALVINGS = 5
# Newton steps at one penalty, at most, and the share of the loss that one must gain for another to be taken.
_NEWTON_STEPS = 40
_SETTLED = 1e-4


class Classifier(Protocol):
    """What tells the class of texts."""

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each text."""
        ...


Head = TypeVar("Head", bound=Classifier)


def fit_logistic(
    features: np.ndarray, labels: np.ndarray, C: float, weights: np.ndarray | None = None
) -> LogisticRegression:
    """Return a logistic regression of inverse penalty ``C`` on features (B,n), labels (B,) and their weights (B,).

    Heads of least penalty are sums of texts: where there are more features than texts, those along an orthonormal basis
    of the texts' span lead to the same. Raises :class:`InvalidInput` for a ``C`` that is no number above zero.
    """
    if isinstance(C, bool) or not isinstance(C, Real) or not C > 0:
        remedy = "pass e.g. 1.0; a larger one penalises less"
        raise InvalidInput("C, the inverse of the penalty", "a number above 0", repr(C), remedy)
    basis = np.linalg.qr(features.T)[0].T if features.shape[1] > len(features) else None  # (B,n)
    read = features if basis is None else features @ basis.T
    n_classes = len(np.unique(labels))
    regression = LogisticRegression(C=C, max_iter=_MAX_ITERATIONS)
    if read.shape[1] * (1 if n_classes == 2 else n_classes) <= _MOST_FOR_NEWTON:
        regression.set_params(solver="newton-cholesky")
    else:
        regression.set_params(solver="lbfgs", tol=_SMALL_GRADIENT)
    with warnings.catch_warnings():
        # Nearly collinear conditionals and nearly separable classes are the normal case here. The solver then falls
        # back to L-BFGS by itself, and an optimum far out need not be reached to classify well.
        warnings.simplefilter("ignore", LinAlgWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(read, labels, sample_weight=weights)
    if basis is not None:
        regression.coef_ = regression.coef_ @ basis
        regression.n_features_in_ = features.shape[1]  # type: ignore[attr-defined]
    return regression


def most_accurate(heads: Iterable[Head], X_val: Any, y_val: ArrayLike) -> Head:
    """Return the first of the most accurate heads on validation text; none is fitted after one without errors."""
    best, most = None, -1.0
    for head in heads:
        accuracy = np.mean(head.predict(X_val) == np.asarray(y_val))  # as head.score, in a third of its time
        if accuracy > most:
            best, most = head, accuracy
        if accuracy == 1:
            break
    assert best is not None, "callers check that there are heads"
    return best


def logistic_path(features: np.ndarray, labels: np.ndarray, grid: Sequence[float]) -> Iterator[np.ndarray]:
    """Yield heads b (n,) of features (B,n) and labels (B,) in {0, 1}, one for each inverse penalty, the least first.

    Each minimises Σ_i log(1 + exp(−y_i bᵀG_i)) + ‖b‖²/2C by Newton steps from the one before. There is no intercept:
    conditionals sum to one, so that b holds it.
    """
    forms = features * (2.0 * labels - 1)[:, None]
    weights = np.zeros(features.shape[1])
    for C in sorted(grid):
        weights = _minimised(forms, weights, C)
        yield weights


def _minimised(forms: np.ndarray, weights: np.ndarray, C: float) -> np.ndarray:
    """Return the least penalised loss, from ``weights`` (n,); a step that does not lower it is halved until it does."""

    def objective(head: np.ndarray) -> float:
        return float(np.logaddexp(0, -(forms @ head)).sum() + head @ head / (2 * C))

    least = objective(weights)
    for _ in range(_NEWTON_STEPS):
        wrong = expit(-(forms @ weights))
        curvature = (forms * (wrong * (1 - wrong))[:, None]).T @ forms + np.eye(len(weights)) / C
        step = solve(curvature, weights / C - forms.T @ wrong, assume_a="pos")
        for size in 0.5 ** np.arange(_HALVINGS):
            moved = objective(weights - size * step)
            if moved < least:
                break
        else:
            return weights
        weights, gained, least = weights - size * step, least - moved, moved
        if gained <= _SETTLED * least:
            break
    return weights


def decide(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the class of scores (B,), the second of two where ≥ 0, or (B,C), the largest; ties go to the higher."""
    if scores.ndim == 1:
        return classes[(scores >= 0).astype(int)]
    return classes[scores.shape[1] - 1 - scores[:, ::-1].argmax(axis=1)]


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the logistic law (B,C) of scores (B,) or (B,C)."""
    return expit(np.stack([-scores, scores], axis=1)) if scores.ndim == 1 else softmax(scores, axis=1)


def logistic_loss(features: Tensor, sign: Tensor, weights: Tensor) -> Tensor:
    """Return mean log(1 + exp(−y bᵀG)) in nats (…), without a penalty: features (…,B,n), signs y (…,B), b (…,n)."""
    return softplus(-sign * scores(features, weights)).mean(-1)


def scores(features: Tensor, weights: Tensor) -> Tensor:
    """Return bᵀG (…,B): heads b (…,n) as rows, whose product with G takes a quarter of the time of columns'."""
    return (weights[..., None, :] @ features.mT)[..., 0, :]


def newton(features: Tensor, sign: Tensor, weights: Tensor, steps: int) -> Tensor:
    """Return heads b (…,n) after Newton steps on the penalised logistic loss, from ``weights``.

    A step that does not lower the loss is halved until it does, or given up after five halvings.
    """
    n_texts, n_features = features.shape[-2:]
    ridge = PENALTY * torch.eye(n_features, dtype=features.dtype, device=features.device)

    def objective(heads: Tensor) -> Tensor:
        return logistic_loss(features, sign, heads) + PENALTY / 2 * heads.square().sum(-1)

    for _ in range(steps):
        wrong = torch.sigmoid(-sign * scores(features, weights))
        gradient = PENALTY * weights - ((sign * wrong)[..., None, :] @ features)[..., 0, :] / n_texts
        curvature = (features * (wrong * (1 - wrong) / n_texts)[..., None]).mT @ features + ridge
        weights = damped(objective, weights, torch.linalg.solve(curvature, gradient))
    return weights


def damped(objective: Callable[[Tensor], Tensor], weights: Tensor, step: Tensor) -> Tensor:
    """Return weights (…,n) less the step, or so much of it as does not raise the objective (…)."""
    before = objective(weights)
    size = torch.ones_like(before)
    for _ in range(_HALVINGS):
        worse = objective(weights - size[..., None] * step) > before
        if not worse.any():
            break
        size = torch.where(worse, size / 2, size)
    else:
        size = torch.where(objective(weights - size[..., None] * step) > before, 0, size)
    return weights - size[..., None] * step
