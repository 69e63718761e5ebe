"""Theorems of the alternative by non-negative least squares: small, exact to rounding, and fast.

Source: Lawson & Hanson (1974), §23.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

# Least squares with a smaller residual have a solution.
_SOLVED = 1e-13
_STEPS = 30  # of the solver, for each unknown


def alternative(forms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return λ ≥ 0 (m,) with forms·λ ≥ 0, Σλ = 1, and α ≥ 0 (n,) with αᵀforms < 0: one exists, the other is rounding.

    The least-squares solution α, z ≥ 0 of αᵀforms + z = −1 has residual zero if there is such an α, and if not its
    residual is such a λ, up to a factor. Each column of forms (n,m) counts in its own unit, as small ones would be
    rounding; columns of zeros are left out.
    """
    units = np.abs(forms).max(0)
    used = units > 0
    solution = nearest(np.c_[(forms[:, used] / units[used]).T, np.eye(used.sum())], -np.ones(used.sum()))
    multipliers = solution[: len(forms)]
    residual = np.zeros(len(used))
    residual[used] = (multipliers @ forms[:, used] / units[used] + solution[len(forms) :] + 1).clip(0) / units[used]
    if not used.any():
        multipliers = np.ones(len(forms))
    return residual / (residual.sum() or 1), multipliers


def shortest(forms: np.ndarray, *, nonnegative: bool) -> np.ndarray | None:
    """Return x (m,) of the smallest norm, in units of the columns, with forms·x ≥ 1 in units of rows; None if none is.

    ``nonnegative`` asks for x ≥ 0. Least distance programming: x is the residual of non-negative least squares.
    """
    sizes = np.abs(forms).max(1, keepdims=True)
    if not sizes.all():
        return None
    units = np.abs(forms / sizes).max(0)
    units = np.where(units > 0, units, 1)
    equations = np.r_[(forms / sizes / units).T, np.ones((1, len(forms)))]
    if nonnegative:
        equations = np.c_[equations, np.eye(len(equations))[:, :-1]]
    residual = equations @ nearest(equations, np.eye(len(equations))[-1])
    if residual[-1] >= 1 - _SOLVED:
        return None
    found = residual[:-1] / (1 - residual[-1]) / units
    return found.clip(0) if nonnegative else found


def nearest(equations: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return x ≥ 0 that brings equations·x nearest to a vector; zeros where the solver takes too long."""
    try:
        return nnls(equations, right, maxiter=_STEPS * equations.shape[1])[0]
    except RuntimeError:
        return np.zeros(equations.shape[1])
