"""Branch and bound over cones of heads: a prompt and head that has all texts right, or a proof that there is none.

In a cone with generators g^1, …, g^V a head is b = Σ_j s_j g^j, s ≥ 0. In place of the products v_k s_j take any
λ_kj ≥ 0: the linear programme

    max γ   such that   Σ_kj λ_kj (y_i F_i g^j − ε N(g^j) F_i 1)_k ≥ γ for each text i,   Σ_kj λ_kj = 1

bounds the smallest score of all prompts and heads in the cone. Where γ < 0 its multipliers α refute the cone: a leaf.
Otherwise λ proposes a prompt v_k = Σ_j λ_kj and a head b = Σ_j g^j Σ_k λ_kj, and the cone is split where λ is furthest
from a product. Any subset of the texts will do for a leaf, so that the programme is given the worst ones only.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import time
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from ppl_hmm.recoverability.bilinear import BilinearForm
from ppl_hmm.recoverability.cones import LEAF, Cone, Split, halves, rays, roots, spreads
from ppl_hmm.recoverability.claim import Claim
from ppl_hmm.recoverability.rounded import Rounded

# Texts that are added to a programme at a time: those that its solution has worst.
_ADDED = 25
# A split leaves each half at least this share.
_SMALLEST_SHARE = 0.05
_LARGEST_DENOMINATOR = 8
_ROUNDING = 1e-12
import os; LONG = float(os.environ.get('LONG', .25))
_ALTERNATIONS = 3


class Solution(NamedTuple):
    """A prompt and a head that have all texts right."""

    weights: np.ndarray  # v (K,)
    head: np.ndarray  # b (V,)


@dataclasses.dataclass(eq=False)
class Node:
    """A cone of heads: open, a leaf with weights (n,) of the pool's texts, or split."""

    cone: Cone
    bound: float = np.inf
    mixture: np.ndarray | None = None  # λ (K,J)
    weights: dict[int, float] | None = None
    split: Split = LEAF
    parts: tuple[Node, ...] = ()


@dataclasses.dataclass(eq=False)
class Branching:
    """The search over the heads behind prompts of one length.

    Attributes
    ----------
    form
        The texts.
    claim
        The same texts as a refutation has them.
    states
        S_L (K,): the states that prompts leave.
    deadline
        When to stop, by :func:`time.monotonic`.
    """

    form: BilinearForm
    claim: Claim
    states: np.ndarray
    deadline: float

    def __post_init__(self) -> None:
        likelihoods = self.form.likelihoods[:, self.states].max(1)
        self._sizes = np.where(likelihoods > 0, likelihoods, 1)
        self._pool = np.zeros(0, int)
        self._known: Rounded | None = None
        self.n_cones = 0
        self._add(np.unique([self.form.labels.argmin(), self.form.labels.argmax()]))

    def run(self) -> list[Node] | Solution | None:
        """Return the roots of a complete tree, a solution, or None when the time is over."""
        number = itertools.count()
        self.tops = tops = [Node(cone) for cone in roots(len(self.form.emission.T))]
        heap: list[tuple[float, int, Node]] = []
        found = self._push(tops, heap, number)
        while found is None and heap:
            if time.monotonic() > self.deadline:
                return None
            node = heapq.heappop(heap)[-1]
            node.split = self._where(node)
            node.parts = tuple(map(Node, halves(node.cone, node.split)))
            found = self._push(node.parts, heap, number)
        return tops if found is None else found

    def _push(self, nodes, heap, number) -> Solution | None:
        for node in nodes:
            found = self._look(node)
            if found is not None:
                return found
            if node.weights is None:
                heapq.heappush(heap, (-node.bound, next(number), node))
        return None

    def _look(self, node: Node) -> Solution | None:
        """Make a cone a leaf if it is refuted, or else find what keeps it open; return a solution if there is one."""
        self.n_cones += 1
        heads, margins = rays(node.cone), self.claim.margin * spreads(node.cone)
        while True:
            node.mixture, weights = self._balanced(heads, margins)
            if self._known.refuted(self.states, weights, node.cone):
                used = np.flatnonzero(weights)
                node.weights = dict(zip(self._pool[used].tolist(), weights[used].tolist(), strict=True))
                return None
            entering = self.form.transition.T @ node.mixture  # (K,J)
            terms = entering * (self.form.emission @ heads)
            values = self.form.labels * (self.form.messages @ terms.sum(1)) - self.form.messages @ (entering @ margins)
            sizes = self.form.messages @ np.abs(terms).sum(1)
            values = values / np.where(sizes > 0, sizes, 1)
            node.bound = values.min()
            values[self._pool] = np.inf
            worst = values.argsort(stable=True)[:_ADDED]
            worst = worst[values[worst] < -_ROUNDING]
            if not len(worst):
                if not node.mixture.any(): return None
                return self._solution(node.mixture.sum(1), heads @ node.mixture.sum(0))
            self._add(worst)

    def _balanced(self, heads: np.ndarray, margins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return λ (K,J), and weights (n,) of the pool's texts in the claim: one of the two is what is looked for."""
        pool = self.form.select(self._pool)
        forms = pool.labels[:, None, None] * pool.reads(heads) - pool.likelihoods[:, :, None] * margins
        forms = forms[:, self.states] / self._sizes[self._pool, None, None]
        flat, multipliers = alternative(forms.reshape(len(forms), -1))
        mixture = np.zeros((len(self.states), heads.shape[1]))
        mixture[self.states] = flat.reshape(forms.shape[1:])
        return mixture, multipliers / self._sizes[self._pool] * self._units

    def _solution(self, weights: np.ndarray, head: np.ndarray) -> Solution | None:
        """Return a prompt and head that have all texts right, of which one of these two may be a part."""
        entering = weights @ self.form.transition
        pool = self.form.select(self._pool)
        for given in (head, None):
            if given is not None:
                forms = (pool.labels[:, None] * pool.reads(head))[:, self.states]
                found = shortest(forms, nonnegative=True)
                if found is None: continue
                v = np.zeros(len(self.states)); v[self.states] = found; h = head
            else:
                forms = pool.labels[:, None] * ((pool.messages * entering) @ self.form.emission)
                h = shortest(forms); v = weights
                if h is None: continue
            if self.form.scores(v, h).min() > 0:
                return Solution(v, h)
        return None

    def _add(self, chosen: np.ndarray) -> None:
        """Add texts to the pool."""
        new = Rounded.of(self.claim.select(chosen))
        self._known = new if self._known is None else self._known.joined(new)
        self._pool = np.r_[self._pool, chosen]
        # The form divides each message by a number of its own.
        self._units = self.form.messages[self._pool].max(1) / self._known.messages.max(1)

    def _where(self, node: Node) -> Split:
        """Return where to split a cone: between the generators whose shares of λ differ most from state to state."""
        heads = rays(node.cone)
        norms = np.linalg.norm(heads, axis=0)
        shares = node.mixture * norms
        first, second = shares[:, :, None], shares[:, None, :]
        both = first + second  # (K,J,J)
        total = both.sum(0)
        mean = np.where(total > 0, first.sum(0) / np.where(total > 0, total, 1), 0.5)
        variance = (first**2 / np.where(both > 0, both, 1)).sum(0) - total * mean**2
        units = heads / norms
        distance = ((units[:, :, None] - units[:, None, :]) ** 2).sum(0)
        longest = distance >= LONG * distance.max()
        gain = np.triu(np.where(longest, variance * distance + 1e-300, 0), 1)
        i, j = np.unravel_index(gain.argmax(), gain.shape)
        share = min(max(mean[i, j], _SMALLEST_SHARE), 1 - _SMALLEST_SHARE)
        sizes = [max(map(abs, node.cone[k])) for k in (i, j)]
        ratio = Fraction(share / (1 - share) * norms[j] / norms[i]) * Fraction(sizes[1], sizes[0])
        share_i, share_j = _simple(ratio)
        return Split(int(i), int(j), share_i, share_j)


def _simple(ratio: Fraction) -> tuple[int, int]:
    """Return small positive integers whose quotient is near a positive ratio."""
    if ratio < 1:
        return _simple(1 / ratio)[::-1]
    near = ratio.limit_denominator(_LARGEST_DENOMINATOR)
    return near.numerator, near.denominator


def alternative(forms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return λ ≥ 0 (m,) with forms·λ ≥ 0, or weights α ≥ 0 (n,) with αᵀforms < 0; the other one is zero or rounding.

    By Gordan exactly one of the two exists. The least-squares solution α, z ≥ 0 of αᵀforms + z = −1 has residual zero
    in the second case, and in the first its residual is such a λ. Each column counts in its own unit: small ones would
    be rounding.
    """
    units = np.abs(forms).max(0)
    used = units > 0
    n_texts, n_used = len(forms), int(used.sum())
    equations = np.c_[(forms[:, used] / units[used]).T, np.eye(n_used)]
    solution, _ = nnls(equations, -np.ones(n_used), maxiter=30 * equations.shape[1])
    residual = np.zeros(len(used))
    residual[used] = np.maximum(equations @ solution + 1, 0) / units[used]
    total = residual.sum()
    return residual / (total or 1), solution[:n_texts] if n_used else np.ones(n_texts)


def shortest(forms, nonnegative=False):
    n, m = forms.shape
    sizes = np.abs(forms).max(1, keepdims=True)
    if not sizes.all(): return None
    forms = forms / sizes
    units = np.abs(forms).max(0); units = np.where(units > 0, units, 1)
    forms = forms / units
    equations = np.r_[forms.T, np.ones((1, n))]
    if nonnegative: equations = np.c_[equations, np.r_[np.eye(m), np.zeros((1, m))]]
    try: solution, _ = nnls(equations, np.r_[np.zeros(m), 1.0], maxiter=30 * equations.shape[1])
    except RuntimeError: return None
    residual = equations @ solution; residual[-1] -= 1
    if residual[-1] >= -1e-13: return None
    x = -residual[:-1] / residual[-1] * -1
    x = residual[:-1] / -residual[-1]
    return (np.maximum(x, 0) if nonnegative else x) / units
