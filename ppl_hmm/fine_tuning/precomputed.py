"""Kernels as scikit-learn estimators take them, checked: square for training, rows of it for prediction.

A kernel is (N,M), one for all scores, or blocks (N,S,M,S) between the S scores of C classes; S is 1 for two classes and
C for more. Everything is computed on blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_array
from torch import Tensor

from ppl_hmm.errors import InvalidInput

# How far a symmetric kernel may be from its transpose, and below zero, as shares of its largest entry: float32 rounds.
_SYMMETRIC, _NEGATIVE = 1e-4, 1e-3


def as_kernel(X: ArrayLike) -> np.ndarray:
    """Return a kernel (N,M) or (N,S,M,S) of finite numbers.

    Raises
    ------
    InvalidInput
        Another number of dimensions.
    ValueError
        As ``sklearn.utils.check_array``: no numbers, NaN, nothing at all.
    """
    X = X.detach().cpu().numpy() if isinstance(X, Tensor) else X
    kernel = check_array(X, allow_nd=True, dtype=np.float64)  # type: ignore[arg-type]
    if kernel.ndim not in (2, 4):
        raise InvalidInput("kernel", "(N, M), or blocks (N, C, M, C)", f"shape {kernel.shape}", "see tangent_kernel")
    return kernel


def as_blocks(kernel: np.ndarray, n_scores: int) -> np.ndarray:
    """Return a kernel as blocks (N,S,M,S) between S scores, between one and another zero where it does not tell."""
    if kernel.ndim == 2:
        return kernel[:, None, :, None] * np.eye(n_scores)[:, None]
    if kernel.shape[1::2] != (n_scores, n_scores):
        expected = f"(N, {n_scores}, M, {n_scores}) for these labels"
        raise InvalidInput("blocks of a kernel", expected, f"shape {kernel.shape}", "compute it for these classes")
    return kernel


def require_square(kernel: np.ndarray) -> None:
    """Raise :class:`InvalidInput` unless the rows of a kernel are its columns."""
    if kernel.shape[0] != kernel.shape[kernel.ndim // 2]:
        got = f"shape {kernel.shape}"
        raise InvalidInput("kernel of training examples", "a square one", got, "pass tangent_kernel(lm, train)")


def flat(rows: np.ndarray) -> np.ndarray:
    """Return blocks (N,S,M,S) as a matrix (N·S,M·S)."""
    n, s, m, _ = rows.shape
    return rows.reshape(n * s, m * s)


def require_symmetric(kernel: np.ndarray, what: str) -> None:
    """Raise :class:`InvalidInput` unless a matrix is symmetric."""
    distance, largest = np.abs(kernel - kernel.T).max(), np.abs(kernel).max()
    if distance > _SYMMETRIC * largest:
        got = f"an asymmetry of {distance / largest:.2g} of its largest entry"
        raise InvalidInput(f"kernel of {what}", "a symmetric one", got, "use AsymmetricSVM, or penalty=0")


def factor(kernel: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return Φ with ΦΦᵀ = K, and B with K(x, train) B = Φ(x), directions of no weight left out.

    Raises
    ------
    InvalidInput
        Another kernel than a symmetric one without negative eigenvalues.
    """
    require_symmetric(kernel, what)
    values, vectors = np.linalg.eigh((kernel + kernel.T) / 2)
    largest = max(values[-1], 0.0)
    if values[0] < -_NEGATIVE * max(largest, np.finfo(float).tiny):
        got = f"an eigenvalue of {values[0]:.3g}"
        raise InvalidInput(f"kernel of {what}", "no negative eigenvalues", got, "pass inner products of gradients")
    kept = values > len(values) * np.finfo(float).eps * largest
    root = np.sqrt(values[kept])
    return vectors[:, kept] * root, vectors[:, kept] / root
