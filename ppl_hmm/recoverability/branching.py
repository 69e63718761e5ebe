"""Branch and bound over cones of heads: a prompt and head that has all texts right, or a proof that there is none.

In a cone with generators g^1, …, g^V a head is b = Σ_j s_j g^j, s ≥ 0. In place of the products v_k s_j take any
λ_kj ≥ 0. Then one of two things exists, and not both (Gordan):

    λ ≠ 0  with  Σ_kj λ_kj (y_i F_i g^j − ε N(g^j) F_i 1)_k ≥ 0  for every text i, or
    α ≥ 0  with  (Σ_i α_i (y_i F_i g^j − ε N(g^j) F_i 1))_k < 0  for every j and k.

The second refutes the cone, which becomes a leaf. The first proposes a head b = Σ_j g^j Σ_k λ_kj and a prompt
v_k = Σ_j λ_kj; if neither leads to a solution, the cone is split. Any subset of the texts will do for a leaf: only
those are read that some λ before had wrong.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ppl_hmm.recoverability.bilinear import BilinearForm, Support
from ppl_hmm.recoverability.claim import Claim
from ppl_hmm.recoverability.cones import LEAF, Cone, Split, halves, rays, roots, spreads
from ppl_hmm.recoverability.farkas import alternative, shortest
from ppl_hmm.recoverability.rounded import Rounded
from ppl_hmm.recoverability.splitting import blind_emissions, where_to_split

# Texts that are read at a time: those that λ has most wrong.
_ADDED = 25
# Scores this small beside what was summed count as zero.
_ROUNDING = 1e-12
# Times that prompt or head is fitted to the other.
_ALTERNATIONS = 4


class Solution(NamedTuple):
    """A prompt and a head that have all texts right."""

    weights: np.ndarray  # v (K,)
    head: np.ndarray  # b (V,)


@dataclasses.dataclass(eq=False)
class Node:
    """A cone of heads: open, a leaf with weights of texts by their numbers, or split."""

    cone: Cone
    mixture: np.ndarray | None = None  # λ (K,J)
    weights: dict[int, float] | None = None
    split: Split = LEAF
    parts: tuple[Node, ...] = ()


class Branching:
    """The search over all heads after prompts on one support.

    Parameters
    ----------
    form, claim
        The same texts, as scores and as a refutation has them.
    support
        The states that prompts leave.
    deadline
        When to stop, by :func:`time.monotonic`.
    """

    def __init__(self, form: BilinearForm, claim: Claim, support: Support, deadline: float) -> None:
        self._form, self._states, self._margin, self._deadline = form, support.states, claim.margin, deadline
        self._claim = claim
        self._blind = blind_emissions(form.transition, form.emission, support.states)
        sizes = form.likelihoods[:, self._states].max(1)
        self._sizes = np.where(sizes > 0, sizes, 1)
        self._pool = np.unique([form.labels.argmin(), form.labels.argmax()])
        self._known = Rounded.of(claim.select(self._pool))
        self.n_cones = 0

    def run(self) -> list[Node] | Solution | None:
        """Return the roots of trees whose leaves are all refuted, a solution, or None when the time is over.

        Cones are looked at in the order in which they are made.
        """
        tops = [Node(cone) for cone in roots(self._form.emission.shape[1])]
        waiting = deque(tops)
        while waiting:
            if time.monotonic() > self._deadline:
                return None
            node = waiting.popleft()
            solution = self._look(node)
            if solution is not None:
                return solution
            if node.weights is None:
                assert node.mixture is not None
                node.split = where_to_split(node.cone, node.mixture, self._form.emission, self._blind)
                node.parts = tuple(map(Node, halves(node.cone, node.split)))
                node.mixture = None
                waiting.extend(node.parts)
        return tops

    def _look(self, node: Node) -> Solution | None:
        """Make a cone a leaf if it is refuted, or else keep what is in the way; return a solution if that is one."""
        self.n_cones += 1
        form, heads, margins = self._form, rays(node.cone), self._margin * spreads(node.cone)
        while True:
            node.mixture, weights = self._alternative(heads, margins)
            if self._known.refuted(self._states, weights, node.cone):
                used = np.flatnonzero(weights)
                node.weights = dict(zip(self._pool[used].tolist(), weights[used].tolist(), strict=True))
                return None
            entering = form.transition.T @ node.mixture  # (K,J)
            terms = entering * (form.emission @ heads)
            scores = form.labels * (form.messages @ terms.sum(1)) - form.messages @ (entering @ margins)
            summed = form.messages @ np.abs(terms).sum(1)
            scores = scores / np.where(summed > 0, summed, 1)
            scores[self._pool] = 0
            wrong = scores.argsort(stable=True)[:_ADDED]
            wrong = wrong[scores[wrong] < -_ROUNDING]
            if not len(wrong):
                return self._solution(Solution(node.mixture.sum(1), heads @ node.mixture.sum(0)))
            self._read(wrong)

    def _alternative(self, heads: np.ndarray, margins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return λ (K,J), and the weights (n,) of the texts read so far in the claim; one of them is as wanted."""
        read = self._form.select(self._pool)
        forms = read.labels[:, None, None] * read.reads(heads) - read.likelihoods[:, :, None] * margins
        forms = forms[:, self._states] / self._sizes[self._pool, None, None]
        flat, multipliers = alternative(forms.reshape(len(forms), -1))
        mixture = np.zeros((len(self._states), heads.shape[1]))
        mixture[self._states] = flat.reshape(forms.shape[1:])
        # The form and the claim divide each message by numbers of their own.
        units = read.messages.max(1) / self._known.messages.max(1) / self._sizes[self._pool]
        return mixture, multipliers * units

    def _solution(self, proposed: Solution) -> Solution | None:
        """Return a solution found from what λ proposes: prompt and head in turn are fitted to each other."""
        for head_first in (False, True):
            solution: Solution | None = proposed
            for step in range(_ALTERNATIONS):
                solution = self._fitted(solution, of_head=(step % 2 == 0) == head_first)
                if solution is None:
                    break
                if self._form.right(*solution).all():
                    return solution
        return None

    def _fitted(self, solution: Solution, *, of_head: bool) -> Solution | None:
        """Return a head for the prompt, or a prompt for the head, right on the texts read so far; None if none is."""
        read = self._form.select(self._pool)
        if of_head:
            head = shortest(read.signed_features(solution.weights), nonnegative=False)
            return None if head is None else solution._replace(head=head)
        found = shortest((read.labels[:, None] * read.reads(solution.head))[:, self._states], nonnegative=True)
        if found is None:
            return None
        weights = np.zeros(len(self._states))
        weights[self._states] = found
        return solution._replace(weights=weights)

    def _read(self, chosen: np.ndarray) -> None:
        """Read more texts."""
        self._pool = np.r_[self._pool, chosen]
        self._known = self._known.joined(Rounded.of(self._claim.select(chosen)))


def preorder(tops: Sequence[Node]) -> Iterator[Node]:
    """Yield the nodes of trees, a parent before its parts."""
    waiting = list(reversed(tops))
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(node.parts))
