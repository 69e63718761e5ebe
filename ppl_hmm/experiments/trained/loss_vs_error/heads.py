"""Heads as Saunshi, Malladi & Arora (2021) fit them: logistic regression, its penalty chosen by folds."""

from __future__ import annotations

import numpy as np

from ppl_hmm.heads.logistic import logistic_path

#: Inverse penalties C. Theirs end at 10³; the laws of some tens of words that differ little would feel that as a
#: penalty, so that ours go on.
PENALTIES = tuple(10.0**power for power in range(-2, 9, 2))
_FOLDS = 5


def head_error(
    features: np.ndarray, labels: np.ndarray, test_features: np.ndarray, test_labels: np.ndarray
) -> float:
    """Return the share of test texts that a head gets wrong, trained on features (N,n) and labels (N,) in {0, 1}.

    The penalty, on the intercept as well as in liblinear, is the strongest of those that are right most often on held
    out fifths of the training texts.
    """
    rows, test_rows = with_constant(features), with_constant(test_features)
    fold = np.arange(len(labels)) % _FOLDS
    right = np.zeros(len(PENALTIES))
    for number in range(_FOLDS):
        kept = fold != number
        path = logistic_path(rows[kept], labels[kept], PENALTIES)
        right += [np.mean(classify(rows[~kept], head) == labels[~kept]) for head in path]
    *_, head = logistic_path(rows, labels, PENALTIES[: int(right.argmax()) + 1])
    return float(np.mean(classify(test_rows, head) != test_labels))


def with_constant(features: np.ndarray) -> np.ndarray:
    """Return features (N,n) with a column of ones (N,n+1), whose weight is the intercept."""
    return np.hstack([features, np.ones((len(features), 1))])


def classify(rows: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Return the classes (N,) that a head (n,) gives; ties go to the higher one."""
    return (rows @ head >= 0).astype(int)
