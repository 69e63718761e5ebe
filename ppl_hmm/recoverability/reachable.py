"""The span of the laws that a mask's state, or the last state of a text, can have.

With p = P(H_t | x_1..x_{t-1}), a row vector, and the message f(h) = P(x_{t+1}.. | H_t=h), the laws are, up to scale,

    before a token          p,  one step p ↦ (p∘w_x)A for each token x, from p = π₀A
    after it                p∘w_x
    hidden token (cavity)   p∘f,  where f is one step f ↦ A(w_x∘f) for each token, from f = 1

All steps are linear, and any beginning goes with any end. So the span over all texts of any length is found from few
vectors: one that depends on others leads to no new ones. Dependence is judged in float64, entry by entry, to 1e-12.
Where that is unclear (underflow, nearly dependent vectors), all laws on the possible states are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_hmm.base.positions import Place
from ppl_hmm.exact.support import possible_states
from ppl_hmm.models import HMM

# A vector depends on others if each of its entries is off by no more, relative to what is summed there.
_DEPENDENT = 1e-12
# Vectors with a smaller singular value are as good as dependent: their span is not told from a larger one.
_TOLD_APART = 1e-8

Step = Callable[[Tensor], Tensor]


class Reachable(NamedTuple):
    """Laws of a state over all texts of any length.

    Attributes
    ----------
    possible
        (K,): the states that some of them allow.
    basis
        Q (K,n), orthonormal: of a space that holds all of them.
    clear
        Whether that is their span; if not, float64 does not tell it, and all laws on the possible states are taken.
    """

    possible: Tensor
    basis: Tensor
    clear: bool = True

    def to(self, device: torch.device) -> Reachable:
        """Return the same on another device."""
        return Reachable(self.possible.to(device), self.basis.to(device), self.clear)


class Unclear(Exception):
    """Float64 does not tell the span: a positive product became zero, or rows are nearly dependent."""


def reachable_laws(model: HMM, place: Place) -> Reachable:
    """Return the laws that a head reads at a place: of the state of a hidden token, or of the last one of a prefix.

    For a position counted from the front over all texts that have it; counted from the end, of any length.
    """
    model = model.to(device="cpu")
    position = place.position
    assert position is not None  # the mask in front is Theorem H's
    before, after = (position, None) if position >= 0 else (None, -1 - position)
    possible = possible_states(model.initial, model.transition, None if before is None else 1 + before)
    try:
        if place.given == "prefix":
            laws = filtered_laws(model, before)
        else:
            laws = _predicted_laws(model, before)
            messages = reached(torch.ones_like(model.initial)[None], _backward(model), after)
            laws = independent(laws[:0], weighed(laws, messages))
    except Unclear:
        return Reachable(possible, _all_laws(possible), clear=False)
    return Reachable(possible, _orthonormal(laws, possible))


def filtered_laws(model: HMM, n_before: int | None) -> Tensor:
    """Return non-negative rows (n,K) that span the laws P(H_t | x_1..x_t) after a token with so many before it.

    After any number of tokens, if None.

    Raises
    ------
    Unclear
        Float64 does not tell the span.
    """
    laws = _predicted_laws(model, n_before)
    return independent(laws[:0], weighed(laws, model.emission.mT))


def _predicted_laws(model: HMM, n_before: int | None) -> Tensor:
    """Return rows that span the laws of the state of the next token."""
    start = (model.initial @ model.transition)[None]
    first = possible_states(model.initial, model.transition, 1)[None]
    return reached(scaled(start, first), _forward(model), n_before)


def _forward(model: HMM) -> Step:
    """Return the steps p ↦ (p∘w_x)A of rows (n,K), one for each token."""
    return lambda laws: moved(weighed(laws, model.emission.mT), model.transition)


def _backward(model: HMM) -> Step:
    """Return the steps f ↦ A(w_x∘f) of rows (n,K), one for each token."""
    return lambda messages: moved(weighed(messages, model.emission.mT), model.transition.mT)


def weighed(vectors: Tensor, weights: Tensor) -> Tensor:
    """Return the products of rows (n,K) with rows (m,K), all pairs, scaled to a largest entry of one; no zero rows."""
    expected = ((vectors > 0)[:, None] & (weights > 0)).flatten(0, 1)
    return scaled((vectors[:, None] * weights).flatten(0, 1), expected)


def moved(vectors: Tensor, transition: Tensor) -> Tensor:
    """Return rows (n,K) times a matrix (K,K), scaled to a largest entry of one; no zero rows."""
    expected = ((vectors > 0)[:, :, None] & (transition > 0)).any(1)
    return scaled(vectors @ transition, expected)


def scaled(vectors: Tensor, expected: Tensor) -> Tensor:
    """Scale rows (n,K), and leave out zero ones; raise where an entry that is ``expected`` to be positive is zero."""
    vectors = vectors[expected.any(-1)]
    scaled = vectors / vectors.amax(-1, keepdim=True)
    if not torch.equal(scaled > 0, expected[expected.any(-1)]):
        raise Unclear
    return scaled


def reached(start: Tensor, step: Step, n_steps: int | None) -> Tensor:
    """Return independent rows whose span is that of all rows after ``n_steps`` steps; after any number, if None."""
    rows = start
    if n_steps is None:
        fresh = rows
        while len(fresh):
            extended = independent(rows, step(fresh))
            rows, fresh = extended, extended[len(rows) :]
        return rows
    for _ in range(n_steps):
        moved = independent(rows[:0], step(rows))
        if len(moved) == len(rows) == len(independent(rows, moved)):
            return moved  # the same span, now and after any more steps
        rows = moved
    return rows


def independent(rows: Tensor, candidates: Tensor) -> Tensor:
    """Return independent ``rows`` (n,K), extended by candidates until all depend on them."""
    while len(candidates) and len(rows) < rows.shape[-1]:
        off = _off(rows, candidates)
        if off.max() <= _DEPENDENT:
            break
        rows, candidates = torch.cat([rows, candidates[off.argmax()][None]]), candidates[off > _DEPENDENT]
        if torch.linalg.svdvals(rows / rows.norm(dim=-1, keepdim=True))[-1] < _TOLD_APART:
            raise Unclear
    return rows


def _off(rows: Tensor, candidates: Tensor) -> Tensor:
    """Return how far candidates (m,K) are from combinations of rows: largest relative error (m,) of an entry.

    The error of an entry is relative to the entry plus the terms of the combination, without signs; where the entry is
    zero, to the largest weight times the largest entry of ``rows`` in that column.
    """
    if not len(rows):
        return torch.ones_like(candidates[:, 0])
    weights = torch.linalg.lstsq(rows.mT, candidates.mT, driver="gelsd").solution.mT
    error, size = (candidates - weights @ rows).abs(), candidates + weights.abs() @ rows
    size = torch.where(candidates > 0, size, weights.abs().amax(-1, keepdim=True) * rows.amax(0))
    return torch.where(size > 0, error / torch.where(size > 0, size, 1), 0).amax(-1)


def _orthonormal(laws: Tensor, possible: Tensor) -> Tensor:
    """Return an orthonormal basis (K,n) of the span of independent rows; unit vectors where that is everything."""
    if len(laws) == int(possible.sum()):
        return _all_laws(possible)
    return torch.linalg.svd(laws, full_matrices=False).Vh.mT


def _all_laws(possible: Tensor) -> Tensor:
    """Return the unit vectors (K,n) of the possible states."""
    return torch.eye(len(possible), dtype=torch.float64, device=possible.device)[:, possible]
