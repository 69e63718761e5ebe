"""The law of a silent initial state whose successor has a given law: π₀ ≥ 0 with π₀A = p₁."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

#: Largest relative error of an entry of π₀A, and so of the probability of any text.
RELATIVE_ERROR = 1e-12
# Weight of ‖π₀‖² beside the equations: small enough to leave them solved, large enough to choose among solutions.
_SPREAD = 1e-4
_STEPS = 100  # of non-negative least squares, at most, for each state


def law_before(first: np.ndarray, transition: np.ndarray) -> np.ndarray | None:
    """Return the least certain law π₀ (K,) with π₀A = ``first`` (K,); None where there is none.

    Of several laws the one with the smallest Σπ₀² is taken. It is unique, so that the result does not depend on a
    solver, and it has a single possible value only if every solution has: Σπ₀² = 1 is the largest there is.

    Every entry of π₀A is right up to a relative :data:`RELATIVE_ERROR`, exact zeros included, and so is the probability
    of every text: it is Σ_h (π₀A)_h · P(x | H_1=h).

    Notes
    -----
    Non-negative least squares (Lawson & Hanson 1974) find the states that the law needs, and least squares on these
    solve the equations to float64; what π₀A then is decides whether there is a law. Cost O(K³) and a little more.
    """
    possible = first > 0
    candidates = ~(transition[:, ~possible] > 0).any(1)  # a state that can go where H_1 cannot be is impossible
    with np.errstate(over="ignore"):  # beside the smallest floats
        equations = transition[np.ix_(candidates, possible)].T / first[possible, None]  # relative: each sums to one
    if not candidates.any() or not np.isfinite(equations).all():
        return None
    law = np.zeros_like(first)
    law[candidates] = _least_certain(equations)
    error = np.abs((law @ transition)[possible] / first[possible] - 1).max()
    return law if error <= RELATIVE_ERROR else None


def _least_certain(equations: np.ndarray) -> np.ndarray:
    """Return the π ≥ 0 of least norm with equations·π = 1."""
    n_equations, n_states = equations.shape
    ones, scale = np.ones(n_equations), np.abs(equations).max()
    steps = _STEPS * n_states
    penalised = np.r_[equations, scale * _SPREAD * np.eye(n_states)]
    spread, _ = nnls(penalised, np.r_[ones, np.zeros(n_states)], maxiter=steps)
    units = equations.max(0)
    units = np.where(units > 0, units, 1)  # states of very different shares, each in its own unit
    closest = nnls(equations / units, ones, maxiter=steps)[0] / units
    for support in (spread > 0, closest > 0):
        law = _solve(equations, support)
        without_rounding = _solve(equations, law > n_states * np.finfo(float).eps)
        for found in (without_rounding, law):
            if (found >= 0).all() and np.abs(equations @ found - 1).max() <= RELATIVE_ERROR:
                return found
    return closest


def _solve(equations: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Return the π of least norm on a support (n,) that comes closest to equations·π = 1."""
    law = np.zeros(len(support))
    law[support] = np.linalg.lstsq(equations[:, support], np.ones(len(equations)), rcond=None)[0]
    return law
