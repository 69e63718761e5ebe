"""Ridge regression that is always held out: the penalty is chosen inside the folds that it is trained on.

Everything follows from the second moments of each fold, as the moments of any union of folds are their sum.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

#: Penalties to choose from, as multiples of the variance of all features together; the least is as good as none.
PENALTIES = 10.0 ** np.arange(-10, 3)


class HeldOut(NamedTuple):
    """What ridge regression predicts of S sets of targets from the same features."""

    predictions: np.ndarray  # (S,N,K), each row by coefficients that were fitted without its fold
    in_sample: np.ndarray  # (S,N,K), by least squares on all rows
    penalties: np.ndarray  # (S,F), chosen in the training folds


class _Moments(NamedTuple):
    """Weighted sums over rows of z = (1, features) and targets y."""

    features: np.ndarray  # Σ w z zᵀ (D+1,D+1)
    cross: np.ndarray  # Σ w z yᵀ (S,D+1,K)
    targets: np.ndarray  # Σ w ‖y‖² (S,)


def held_out_ridge(features: np.ndarray, targets: np.ndarray, weights: np.ndarray, folds: np.ndarray) -> HeldOut:
    """Return predictions of targets (S,N,K) from features (N,D): each fold's by what the other folds teach.

    The penalty of a fold minimises the squared error that is left when each of the other folds is left out as well.
    There is an intercept, which is not penalised.

    Parameters
    ----------
    weights
        (N,), positive.
    folds
        (N,) in 0..F−1, at least three.

    Notes
    -----
    Cost O(N·D² + F²·D³) time with D at most N, O(N·D + F·D²) memory.
    """
    features = _narrowed(features - np.average(features, axis=0, weights=weights))
    centre = np.average(targets, axis=1, weights=weights)[:, None]
    rows = np.concatenate([np.ones((len(features), 1)), features], axis=1)
    n_folds = folds.max() + 1
    members = [folds == fold for fold in range(n_folds)]
    of_fold = [_moments(rows[each], (targets - centre)[:, each], weights[each]) for each in members]
    errors = np.zeros((n_folds, len(targets), len(PENALTIES)))
    for left_out in itertools.combinations(range(n_folds), 2):
        coefficients = _solved(_total(of_fold, left_out), PENALTIES)
        for tested, validated in (left_out, left_out[::-1]):
            errors[tested] += _squared_errors(coefficients, of_fold[validated])
    chosen = errors.argmin(axis=-1)  # (F,S)
    predictions = np.empty_like(targets)
    for fold in range(n_folds):
        coefficients = _solved(_total(of_fold, (fold,)), PENALTIES)
        for s, best in enumerate(chosen[fold]):
            predictions[s, members[fold]] = rows[members[fold]] @ coefficients[s, best]
    least_squares = _solved(_total(of_fold, ()), PENALTIES[:1])[:, 0]
    return HeldOut(predictions + centre, rows @ least_squares + centre, PENALTIES[chosen].T)


def _narrowed(features: np.ndarray) -> np.ndarray:
    """Return features of N rows in at most N columns, with the same inner products: ridge sees nothing else."""
    if features.shape[1] <= features.shape[0]:
        return features
    _, triangle = np.linalg.qr(features.T)
    return triangle.T


def _moments(rows: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> _Moments:
    weighted = rows * weights[:, None]
    return _Moments(weighted.T @ rows, weighted.T @ targets, (targets**2).sum(-1) @ weights)


def _total(of_fold: list[_Moments], left_out: tuple[int, ...]) -> _Moments:
    kept = [moments for fold, moments in enumerate(of_fold) if fold not in left_out]
    return _Moments(*(np.sum(parts, axis=0) for parts in zip(*kept, strict=True)))


def _solved(moments: _Moments, penalties: np.ndarray) -> np.ndarray:
    """Return coefficients (S,penalties,D+1,K), the intercept first."""
    weight = moments.features[0, 0]
    mean, target = moments.features[0, 1:] / weight, moments.cross[:, :1] / weight
    values, vectors = np.linalg.eigh(moments.features[1:, 1:] - weight * np.outer(mean, mean))
    values = values.clip(min=0)
    penalised = values + penalties[:, None] * (values.sum() or 1.0)  # features that never vary explain nothing
    projected = vectors.T @ (moments.cross[:, 1:] - weight * mean[:, None] * target)
    slopes = vectors @ (projected[:, None] / penalised[:, :, None])
    return np.concatenate([target[:, None] - (mean @ slopes)[..., None, :], slopes], axis=-2)


def _squared_errors(coefficients: np.ndarray, moments: _Moments) -> np.ndarray:
    """Return Σ w ‖y − Bᵀz‖² (S,penalties) of coefficients B (S,penalties,D+1,K)."""
    explained = 2 * moments.cross[:, None] - moments.features @ coefficients
    return moments.targets[:, None] - (coefficients * explained).sum((-2, -1))
