"""Held-out ridge regression against fits written out."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from ppl_hmm.heads.ridge import PENALTIES, held_out_ridge


def problem(n_rows, n_features, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_rows, n_features)) @ rng.normal(size=(n_features, n_features)) + 3
    target = features[:, :2] + rng.normal(size=(n_rows, 2))
    targets = np.stack([target, rng.normal(size=(n_rows, 2))])
    folds = np.arange(n_rows) % 4
    return features, targets, rng.uniform(0.2, 2, n_rows), rng.permutation(folds)


def written_out(features, target, weights, folds):
    """Refit for each fold, each penalty and each fold of validation."""

    def fitted(rows, penalty):
        centred = features[rows] - np.average(features[rows], axis=0, weights=weights[rows])
        scale = (weights[rows] @ centred**2).sum()
        return Ridge(alpha=penalty * scale, solver="cholesky").fit(features[rows], target[rows], weights[rows])

    predictions, penalties = np.empty_like(target), []
    for fold in range(4):
        errors = np.zeros(len(PENALTIES))
        for other in set(range(4)) - {fold}:
            left = folds == other
            for p, penalty in enumerate(PENALTIES):
                found = fitted((folds != fold) & ~left, penalty).predict(features[left])
                errors[p] += weights[left] @ ((target[left] - found) ** 2).sum(-1)
        penalties.append(PENALTIES[errors.argmin()])
        predictions[folds == fold] = fitted(folds != fold, penalties[-1]).predict(features[folds == fold])
    return predictions, penalties


@pytest.mark.parametrize(("n_rows", "n_features"), [(60, 3), (60, 30), (40, 60)])
def test_it_is_what_nested_cross_validation_gives(n_rows, n_features):
    features, targets, weights, folds = problem(n_rows, n_features, n_rows + n_features)
    found = held_out_ridge(features, targets, weights, folds)
    for s, target in enumerate(targets):
        predictions, penalties = written_out(features, target, weights, folds)
        np.testing.assert_array_equal(found.penalties[s], penalties)
        np.testing.assert_allclose(found.predictions[s], predictions, atol=1e-5)


def test_in_sample_is_least_squares():
    features, targets, weights, folds = problem(50, 4, 0)
    found = held_out_ridge(features, targets, weights, folds).in_sample
    for expected, fit in zip(targets, found, strict=True):
        np.testing.assert_allclose(
            fit, LinearRegression().fit(features, expected, weights).predict(features), atol=1e-6
        )


def test_what_is_tested_has_taught_nothing():
    """Change the targets of one fold: its own predictions stay."""
    features, targets, weights, folds = problem(60, 5, 1)
    changed = targets.copy()
    changed[:, folds == 2] += 100
    before, after = (held_out_ridge(features, each, weights, folds).predictions for each in (targets, changed))
    np.testing.assert_allclose(after[:, folds == 2], before[:, folds == 2], rtol=1e-9)
    assert not np.allclose(after[:, folds == 1], before[:, folds == 1])
