"""Laws in which a chain of states settles: no subtraction, so that every entry is right to its own size."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def closed_classes(transition: Float[Tensor, "K K"]) -> list[Int[Tensor, " n"]]:
    """Return the sets of states that the chain never leaves once there, each without a smaller one inside."""
    reach = _reachable(transition)
    recurrent = (~reach | reach.T).all(-1)  # whatever the state leads to leads back
    first = reach.int().argmax(-1)  # of the class, as all of it is reached
    return [(recurrent & (first == state)).nonzero()[:, 0] for state in first[recurrent].unique()]


def long_run_law(initial: Float[Tensor, " K"], transition: Float[Tensor, "K K"]) -> Float[Tensor, " K"]:
    """Return the stationary law lim (1/n) Σ_t π₀Aᵗ: each closed class by the probability that the chain ends in it.

    Cost O(K³).
    """
    law = torch.zeros_like(initial)
    classes = closed_classes(transition)
    ends = _absorbed(initial, transition, torch.cat(classes))
    for states in classes:
        law[states] = ends[states].sum() * _irreducible(transition[states][:, states])
    return law


def _reachable(transition: Float[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
    """Return which states lead to which, in any number of steps, none included."""
    n_states = len(transition)
    reach = (transition > 0) | torch.eye(n_states, dtype=torch.bool, device=transition.device)
    for _ in range(n_states.bit_length()):
        reach = (reach.to(transition) @ reach.to(transition)) > 0
    return reach


def _absorbed(
    initial: Float[Tensor, " K"], transition: Float[Tensor, "K K"], recurrent: Int[Tensor, " n"]
) -> Float[Tensor, " K"]:
    """Return the law of the first recurrent state: the others are eliminated one by one."""
    rows = torch.cat([transition, initial[None]])
    is_transient = torch.ones_like(initial, dtype=torch.bool)
    is_transient[recurrent] = False
    for state in is_transient.nonzero()[:, 0]:
        onward = rows[state].index_fill(0, state, 0.0)
        rows = (rows + torch.outer(rows[:, state], onward / onward.sum())).index_fill(1, state, 0.0)
    return rows[-1]


def _irreducible(transition: Float[Tensor, "n n"]) -> Float[Tensor, " n"]:
    """Return the stationary law of a chain of one class, by the elimination of Grassmann, Taksar & Heyman (1985)."""
    left = transition.clone()
    for state in range(len(left) - 1, 0, -1):
        left[:state, state] /= left[state, :state].sum()
        left[:state, :state] += torch.outer(left[:state, state], left[state, :state])
    law = torch.ones_like(left[0])
    for state in range(1, len(left)):
        law[state] = law[:state] @ left[:state, state]
    return law / law.sum()
