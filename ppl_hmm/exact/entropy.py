"""Entropies of text, by its beliefs, between bounds that no merging of beliefs and no rounding breaks."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ppl_hmm.exact.belief_tree import cells, extended

_UNIT = torch.finfo(torch.float64).eps / 2


class Bounds(NamedTuple):
    """What an entropy in nats is at least, and at most."""

    lower: float
    upper: float


@dataclasses.dataclass(frozen=True)
class Walk:
    """Groups of texts of one length: a law of groups and, in each, the belief P(S_t | group).

    A group holds all texts whose beliefs have met in one cell at this length or before. What is predicted from groups
    has at least the entropy of what is predicted from texts, and exceeds it by at most ``merged``: the sum over
    lengths of H(S_t | group) − H(S_t | groups before they were merged), as no later token tells more of the group than
    S_t does.

    Every probability is a sum of products of positive numbers, so that its relative error is at most ``_UNIT`` times
    the number of operations behind it.
    """

    beliefs: Float[Tensor, "N S"]
    masses: Float[Tensor, " N"]
    length: int = 0
    merged: float = 0.0
    largest_group: int = 1
    most_groups: int = 1

    def step(self, matrices: Float[Tensor, "V S S"], tolerance: float) -> Walk:
        """Return the groups of texts of one more token; beliefs in one cell of width ``tolerance`` are merged.

        Cost O(N·V·S² + N·V·S·log(N·V)).
        """
        joint = extended(self.beliefs, matrices) * self.masses[:, None, None]
        masses = joint.sum(-1)
        possible = masses > 0
        joint, masses = joint[possible], masses[possible]
        beliefs = joint / masses[:, None]
        cell = cells(beliefs, tolerance)
        n_groups = int(cell.max()) + 1
        largest, merged = self.largest_group, self.merged
        if n_groups < len(cell):
            apart = _mean_entropy(beliefs, masses)
            joint = joint.new_zeros(n_groups, joint.shape[-1]).index_add(0, cell, joint)
            masses = joint.sum(-1)
            beliefs = joint / masses[:, None]
            largest = max(largest, int(cell.bincount().max()))
            merged += max(_mean_entropy(beliefs, masses) - apart, 0.0)
        return Walk(beliefs, masses, self.length + 1, merged, largest, max(self.most_groups, len(cell)))

    def next_token(self, matrices: Float[Tensor, "V S S"]) -> Bounds:
        """Return H(X_{t+1} | x_1..x_t, and what was known at the start)."""
        return self._of_texts(_mean_entropy(extended(self.beliefs, matrices).sum(-1), self.masses), matrices)

    def state(self, matrices: Float[Tensor, "V S S"]) -> Bounds:
        """Return H(S_t | x_1..x_t, and what was known at the start)."""
        return self._of_texts(_mean_entropy(self.beliefs, self.masses), matrices)

    def _of_texts(self, of_groups: float, matrices: Float[Tensor, "V S S"]) -> Bounds:
        n_tokens, n_states, _ = matrices.shape
        n_operations = (self.length + 1) * (n_tokens * n_states + 4 * n_states + 16 + self.largest_group)
        n_operations += 10 * n_states**3 + self.most_groups  # the stationary law, and the sum over groups
        one = _UNIT * n_operations * (math.log(max(n_tokens, n_states)) + 3)
        of_merging = 2 * one * self.length * (self.largest_group > 1)
        return Bounds(max(of_groups - self.merged - one - of_merging, 0.0), of_groups + one)


def _mean_entropy(laws: Float[Tensor, "N n"], masses: Float[Tensor, " N"]) -> float:
    return float(-(masses * torch.special.xlogy(laws, laws).sum(-1)).sum())
