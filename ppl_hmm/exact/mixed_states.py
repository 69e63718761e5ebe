"""The machine of beliefs: each token leads from one belief to the next."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ppl_hmm.exact.belief_tree import cells, extended


class BeliefMachine(NamedTuple):
    """Beliefs, from the one before any text on, and where tokens lead from them."""

    beliefs: Float[Tensor, "M S"]
    next_token: Float[Tensor, "M V"]
    successor: Int[Tensor, "M V"]  # −1 where the token is impossible, and in beliefs that are not followed
    depth: Int[Tensor, " M"]  # tokens of the shortest text that leads to the belief
    followed: Bool[Tensor, " M"]


def start(initial: Float[Tensor, " S"], matrices: Float[Tensor, "V S S"]) -> BeliefMachine:
    """Return the machine of the belief before any text, not followed."""
    return _with_beliefs(None, initial[None], matrices, 0)


def followed(machine: BeliefMachine, matrices: Float[Tensor, "V S S"], tolerance: float) -> BeliefMachine:
    """Return the machine in which all beliefs are followed by one token; new beliefs that it leads to come last.

    Beliefs in one cell of width ``tolerance`` are one; it is represented by the first. Cost O(M·V·S² + S·M·log M).
    """
    frontier = (~machine.followed).nonzero()[:, 0]
    joint = extended(machine.beliefs[frontier], matrices)
    law = joint.sum(-1)
    belief, token = (law > 0).nonzero(as_tuple=True)
    reached = joint[belief, token] / law[belief, token, None]
    n_known = len(machine.beliefs)
    cell = cells(torch.cat([machine.beliefs, reached]), tolerance)
    first = torch.full((int(cell.max()) + 1,), len(cell), device=cell.device)
    first = first.scatter_reduce(0, cell, torch.arange(len(cell), device=cell.device), "amin")
    new = first[first >= n_known].sort().values
    place = torch.arange(len(cell), device=cell.device)
    place[new] = n_known + torch.arange(len(new), device=cell.device)
    machine.successor[frontier[belief], token] = place[first[cell[n_known:]]]
    machine.followed[frontier] = True
    return _with_beliefs(machine, reached[new - n_known], matrices, int(machine.depth.max()) + 1)


def counts(machine: BeliefMachine, length: int) -> Int[Tensor, " L"]:
    """Return how many beliefs texts of exactly 0, 1, … ``length`` tokens leave; all but the last ones are followed."""
    at, found = machine.depth.new_zeros(1), []
    for _ in range(length + 1):
        found.append(len(at))
        following = machine.successor[at].flatten()
        at = following[following >= 0].unique()
    return torch.tensor(found, device=at.device)


def _with_beliefs(
    machine: BeliefMachine | None, beliefs: Float[Tensor, "n S"], matrices: Float[Tensor, "V S S"], depth: int
) -> BeliefMachine:
    """Return a machine with further beliefs, which are not followed."""
    next_token = extended(beliefs, matrices).sum(-1)
    nowhere = torch.full(next_token.shape, -1, device=beliefs.device)
    depths = torch.full(beliefs.shape[:1], depth, device=beliefs.device)
    more = BeliefMachine(beliefs, next_token, nowhere, depths, torch.zeros_like(depths, dtype=torch.bool))
    return more if machine is None else BeliefMachine(*map(torch.cat, zip(machine, more, strict=True)))
