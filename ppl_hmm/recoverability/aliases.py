"""States that emit alike, and prompts that enter them in the proportion that a task needs."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from ppl_hmm.base.quiet import stdout_to_stderr
from ppl_hmm.models import HMM

_TOLERANCE = 1e-12
_LARGEST_WEIGHT = 1e4  # of the mixed-integer programme, against a smallest of one


def alias_weights(model: HMM, targets: Tensor, reachable: Tensor) -> Tensor | None:
    """Return v (K,) with vᵀA ∝ |π₀∘μ| inside each group of aliased states that the task needs, or None.

    Mixed-integer programme: v_h ∈ [0, M]·z_h, z_h ∈ {0,1}; κ_g ≥ 1 for each needed group; (vᵀA)_h = κ_g |π₀∘μ|_h in
    it; y_g = 1 for each group that some chosen state moves to; minimise Σ y_g.
    """
    groups = alias_groups(model.emission)
    needed = [group for group in groups if (targets[:, group] != 0).any()]
    if not needed or all(len(group) == 1 for group in groups) or not _same_direction(targets, needed):
        return None
    transition = np.where(reachable[:, None].numpy(), model.transition.detach().numpy(), 0.0)
    size = targets.abs().amax(0).numpy() / float(targets.abs().max())
    n_states, n_needed, n_groups = len(transition), len(needed), len(groups)

    def block(v: np.ndarray, z: np.ndarray, kappa: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.concatenate([v, z, kappa, y], axis=1)

    def none(n_rows: int, n_columns: int) -> np.ndarray:
        return np.zeros((n_rows, n_columns))

    scale = np.zeros((n_states, n_needed))
    for g, group in enumerate(needed):
        scale[group, g] = size[group]
    bound_states = np.concatenate(needed)
    proportional = block(
        transition.T[bound_states],
        none(len(bound_states), n_states),
        -scale[bound_states],
        none(len(bound_states), n_groups),
    )
    identity = np.eye(n_states)
    used = block(identity, -_LARGEST_WEIGHT * identity, none(n_states, n_needed), none(n_states, n_groups))
    enters = np.array([[h, g] for h in range(n_states) for g, group in enumerate(groups) if transition[h, group].any()])
    rows = np.arange(len(enters))
    entered = none(len(enters), 2 * n_states + n_needed + n_groups)
    entered[rows, n_states + enters[:, 0]] = 1.0
    entered[rows, 2 * n_states + n_needed + enters[:, 1]] = -1.0
    with stdout_to_stderr():
        programme = milp(
            c=np.r_[np.zeros(2 * n_states + n_needed), np.ones(n_groups)],
            integrality=np.r_[np.zeros(n_states), np.ones(n_states), np.zeros(n_needed + n_groups)],
            bounds=Bounds(
                np.r_[np.zeros(2 * n_states), np.ones(n_needed), np.zeros(n_groups)],
                np.r_[
                    np.where(reachable.numpy(), _LARGEST_WEIGHT, 0),
                    np.ones(n_states),
                    np.full(n_needed, _LARGEST_WEIGHT),
                    np.ones(n_groups),
                ],
            ),
            constraints=[LinearConstraint(proportional, 0, 0), LinearConstraint(np.r_[used, entered], -np.inf, 0)],
        )
    if programme.x is None:
        return None
    # The solver meets the equations to 1e-6; the nearest point that meets them to rounding keeps its zeros.
    v = programme.x[:n_states]
    chosen = np.flatnonzero(v > 1e-6)
    unknowns = np.r_[v[chosen], programme.x[2 * n_states : 2 * n_states + n_needed]]
    equations = np.c_[transition.T[bound_states][:, chosen], -scale[bound_states]]
    unknowns = unknowns - np.linalg.pinv(equations) @ (equations @ unknowns)
    weights = torch.zeros_like(model.initial)
    weights[chosen] = torch.as_tensor(unknowns[: len(chosen)], dtype=weights.dtype, device=weights.device).clamp(min=0)
    return weights if weights.any() else None


def alias_groups(emission: Tensor) -> list[list[int]]:
    """Return the states grouped by equal rows of W, each group in increasing order."""
    distance = (emission[:, None] - emission[None]).abs().amax(-1)
    first = (distance <= _TOLERANCE).int().argmax(1)
    return [(first == state).nonzero()[:, 0].tolist() for state in first.unique()]


def _same_direction(targets: Tensor, groups: list[list[int]]) -> bool:
    """Say whether in each group the columns of ``targets`` (C,K) are non-negative multiples of one another."""
    for group in groups:
        columns = targets[:, group]
        sizes = columns.abs().amax(0)
        scaled = columns[:, sizes > 0] / sizes[sizes > 0]  # squares of tiny weights would vanish
        unit = scaled / scaled.norm(dim=0)
        if (unit.mT @ unit).min() < 1 - _TOLERANCE:
            return False
    return True
