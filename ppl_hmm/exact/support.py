"""Which states have positive probability: by zeros and ones, as products of tiny probabilities are zero as floats."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def possible_states(
    initial: Float[Tensor, " K"], transition: Float[Tensor, "K K"], n_moves: int | None = None
) -> Bool[Tensor, " K"]:
    """Return which states a chain can be in after ``n_moves`` moves; after any number of them from one on, if None.

    Cost O(K²) a move, K moves for None.
    """
    moves, states = transition > 0, initial > 0
    if n_moves is None:
        states = _reached_from(states, moves)
        for _ in range(len(states) - 1):
            states = states | _reached_from(states, moves)
        return states
    for _ in range(n_moves):
        states = _reached_from(states, moves)
    return states


def _reached_from(states: Bool[Tensor, " K"], moves: Bool[Tensor, "K K"]) -> Bool[Tensor, " K"]:
    """Return which states can follow some of ``states``."""
    return (states[:, None] & moves).any(0)


def largest_supports(initial: Float[Tensor, " K"], transition: Float[Tensor, "K K"]) -> dict[int, Bool[Tensor, " K"]]:
    """Return the inclusion-maximal among the sets of states that a chain can be in after 1, 2, … moves.

    Each under the smallest number of moves that leads to it. Cost O(K²) a move, until a set comes back.
    """
    moves, states = transition > 0, initial > 0
    found: dict[int, Tensor] = {}
    for n_moves in itertools.count(1):
        states = _reached_from(states, moves)
        if any(torch.equal(states, earlier) for earlier in found.values()):
            break
        found[n_moves] = states

    def inside_another(number: int) -> bool:
        return any(not (found[number] & ~other).any() for n, other in found.items() if n != number)

    return {n_moves: states for n_moves, states in found.items() if not inside_another(n_moves)}
