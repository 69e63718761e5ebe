"""Programmes for the prompt of causal Theorem P: forms γ on few states, and weights that heads can follow.

A system S γ = t says which forms γ in the state of the prompt's token are the margin. A prompt token u and heads b_c
with u∘Nb_c = γ_c meet them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import block_diag
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from ppl_hmm.base.quiet import stdout_to_stderr

# A weight of a prompt, against a smallest of one.
_LARGEST_WEIGHT = 1e6
# Entries of γ, relative to ‖μ‖_∞, and scores against a smallest of one, in the mixed-integer programme.
_LARGEST_FORM = 1e3
_PRECISION = 1e-10  # of linear programmes
_NODES = 10_000  # of the mixed-integer programme, at most


class System(NamedTuple):
    """The equations S γ = t of a form γ (K,): S (n,K) and t (n,)."""

    matrix: np.ndarray
    wanted: np.ndarray

    @property
    def determined(self) -> bool:
        """Whether there is one solution at most."""
        return int(np.linalg.matrix_rank(self.matrix)) == self.matrix.shape[1]


def smallest_forms(systems: list[System]) -> np.ndarray | None:
    """Return solutions γ (C,K) of the least Σ_k max_c |γ_ck|, to a solver's tolerance; None where it finds none."""
    n_forms, n_states = len(systems), systems[0].matrix.shape[1]
    n_entries = n_forms * n_states
    equations = np.asarray(block_diag(*(system.matrix for system in systems)))
    heights = -np.tile(np.eye(n_states), (n_forms, 1))
    found = _optimum(
        c=np.r_[np.zeros(n_entries), np.ones(n_states)],
        A_ub=np.block([[np.eye(n_entries), heights], [-np.eye(n_entries), heights]]),
        b_ub=np.zeros(2 * n_entries),
        A_eq=np.hstack([equations, np.zeros((len(equations), n_states))]),
        b_eq=np.concatenate([system.wanted for system in systems]),
        bounds=[(None, None)] * n_entries + [(0, None)] * n_states,
    )
    return None if found is None else found[:n_entries].reshape(n_forms, n_states)


def agreeing_form(system: System, rows: np.ndarray) -> np.ndarray | None:
    """Return a solution γ (1,K) on the fewest states whose signs are those of N b for some head b; None without one.

    Mixed-integer programme: z⁺, z⁻ ∈ {0,1} with −M z⁻ ≤ γ ≤ M z⁺, N b ≥ 1 where z⁺ = 1, N b ≤ −1 where z⁻ = 1; minimise
    Σ z⁺ + z⁻. ``rows`` is N (K,V).
    """
    n_states, n_tokens = rows.shape
    identity, none = np.eye(n_states), np.zeros((n_states, n_states))
    no_head, far = np.zeros((n_states, n_tokens)), (_LARGEST_FORM + 1) * identity
    bounded = np.block(
        [
            [identity, no_head, -_LARGEST_FORM * identity, none],
            [-identity, no_head, none, -_LARGEST_FORM * identity],
            [none, -rows, far, none],
            [none, rows, none, far],
            [none, no_head, identity, identity],
        ]
    )
    limits = np.repeat([0.0, 0.0, _LARGEST_FORM, _LARGEST_FORM, 1.0], n_states)
    equations = np.hstack([system.matrix, np.zeros((len(system.wanted), n_tokens + 2 * n_states))])
    low, high = np.r_[np.full(len(limits), -np.inf), system.wanted], np.r_[limits, system.wanted]
    n_free = n_states + n_tokens
    with stdout_to_stderr():
        found = milp(
            c=np.r_[np.zeros(n_free), np.ones(2 * n_states)],
            integrality=np.r_[np.zeros(n_free), np.ones(2 * n_states)],
            bounds=Bounds(
                np.r_[np.full(n_free, -_LARGEST_FORM), np.zeros(2 * n_states)],
                np.r_[np.full(n_free, _LARGEST_FORM), np.ones(2 * n_states)],
            ),
            constraints=LinearConstraint(np.vstack([bounded, equations]), low, high),
            options={"node_limit": _NODES},
        )
    if found.x is None:
        return None
    chosen = found.x[n_free:].reshape(2, n_states).sum(0) > 0.5
    return np.where(chosen, found.x[:n_states], 0.0)[None]


def alike_weights(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """Return v (n,) > 0 such that heads b_c have rows·b_c = v∘wanted_c, the smallest |b| of all; None where none does.

    Parameters
    ----------
    rows
        N[B] (n,V).
    wanted
        (C,n), of largest size one in each state.
    """
    (n_forms, n_states), n_tokens = wanted.shape, rows.shape[1]
    n_weights = n_forms * n_tokens
    weighed = np.vstack([-np.diag(each) for each in wanted])
    equations = np.hstack([weighed, np.kron(np.eye(n_forms), rows)])
    no_state, height = np.zeros((n_weights, n_states)), -np.ones((n_weights, 1))
    found = _optimum(
        c=np.r_[np.zeros(n_states + n_weights), 1.0],
        A_ub=np.block([[no_state, np.eye(n_weights), height], [no_state, -np.eye(n_weights), height]]),
        b_ub=np.zeros(2 * n_weights),
        A_eq=np.hstack([equations, np.zeros((len(equations), 1))]),
        b_eq=np.zeros(len(equations)),
        bounds=[(1, _LARGEST_WEIGHT)] * n_states + [(None, None)] * (n_weights + 1),
    )
    if found is None:
        return None
    # The solver meets the equations to its tolerance; the nearest point meets them to rounding.
    weights = (found[:-1] - np.linalg.pinv(equations) @ (equations @ found[:-1]))[:n_states]
    return weights if (weights > 0).all() else None


def _optimum(**programme: Any) -> np.ndarray | None:
    """Return the optimum of a linear programme, None where it has none."""
    tight = {"primal_feasibility_tolerance": _PRECISION, "dual_feasibility_tolerance": _PRECISION}
    for options in (tight, {}):  # nearly dependent equations may be too much for the tight one
        with stdout_to_stderr():
            found = linprog(**programme, method="highs", options=options)
        if found.x is not None:
            return found.x
    return None
