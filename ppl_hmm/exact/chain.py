"""Exact inference on a chain of hidden states: a fast pass, and logarithms for what it loses.

A text is a sequence of row numbers ``ids`` (P,B,T) into a table of likelihood rows ``table`` (P,R,K), as in
:mod:`ppl_hmm.exact.recursion`. Each function takes the scaled pass of a backend
(:mod:`ppl_hmm.exact.backends`), which is fast and says which sequences came near underflow; those are computed again
in logarithms. ``backend`` names one (``'torch'``, ``'numba'``); by default it is chosen for the arrays.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ppl_hmm.exact.algebra import LOG, SCALED
from ppl_hmm.exact.backends import choose
from ppl_hmm.exact.backends.contract import Backend, ForwardBackward, Gradient, Lost, Messages
from ppl_hmm.exact.backends.recursive import Recursive
from ppl_hmm.exact.counts import counts_in_logarithms, require_numbers
from ppl_hmm.exact.derivatives import differentiable
from ppl_hmm.exact.recursion import LOG_CHUNK_ENTRIES, Ids, Initial, Table, Transition, chunks

RESCUE = Recursive(LOG)


def log_evidence(
    initial: Initial, transition: Transition, table: Table, ids: Ids, *, backend: str | None = None
) -> Float[Tensor, "P B"]:
    """Return log P(x) in nats, −inf for impossible text, differentiable. Cost O(B·T·K²) time, O(B·K) memory.

    The gradient is that of :func:`log_evidence_gradient`; further derivatives are those of :func:`taped`.
    """
    return differentiable(_Evidence(ids, backend), initial, transition, table)


@dataclasses.dataclass(frozen=True)
class _Evidence:
    """log P(x) as a function of the parameters: an :class:`~ppl_hmm.exact.derivatives.Evidence`."""

    ids: Ids
    backend: str | None

    def value(self, *parameters: Tensor) -> Tensor:
        initial, transition, table = parameters
        return evidence_of(initial, transition, table, self.ids, backend=self.backend)

    def gradient(self, weights: Tensor, *parameters: Tensor) -> Gradient:
        initial, transition, table = parameters
        return log_evidence_gradient(initial, transition, table, self.ids, weights, backend=self.backend)

    def tape(self, *parameters: Tensor) -> Tensor:
        initial, transition, table = parameters
        return taped(initial, transition, table, self.ids, backend=self.backend)


@torch.no_grad()
def evidence_of(
    initial: Initial, transition: Transition, table: Table, ids: Ids, *, backend: str | None = None
) -> Float[Tensor, "P B"]:
    """Return log P(x) as :func:`log_evidence` does, without a derivative."""
    arrays = (initial, transition, table, ids)
    evidence, lost = choose(transition, backend).evidence(*arrays)
    for few, picked in few_at_a_time(lost, *arrays):
        evidence[few] = RESCUE.evidence(*picked)[0][:, 0]
    return evidence


def taped(
    initial: Initial, transition: Transition, table: Table, ids: Ids, *, backend: str | None = None
) -> Float[Tensor, "P B"]:
    """Return log P(x) by operations that torch differentiates any number of times. Cost O(B·T·K²), memory O(B·T·K).

    Texts near underflow go through logarithms, at O(B·T·K²) memory; an entry that is exactly zero counts as a constant
    there.
    """
    with torch.no_grad():
        ones = torch.ones(ids.shape[:2], dtype=table.dtype, device=ids.device)
        _, lost = choose(transition, backend).gradient(initial, transition, table, ids, ones)
    in_log = lost.any(0)
    parts = [
        Recursive(algebra).evidence(initial, transition, table, ids[:, chosen])[0]
        for algebra, chosen in ((SCALED, ~in_log), (LOG, in_log))
        if chosen.any()
    ]
    return torch.cat(parts, dim=1)[:, in_log.argsort(stable=True).argsort()]


@torch.no_grad()
def log_evidence_gradient(
    initial: Initial,
    transition: Transition,
    table: Table,
    ids: Ids,
    weights: Float[Tensor, "P B"],
    *,
    log_shares: Float[Tensor, "P B"] | None = None,
    possible: Bool[Tensor, "P B"] | None = None,
    backend: str | None = None,
) -> Gradient:
    """Return Σ_b weights_b · ∂ log P(x_b): expected counts over parameters, by one pass each way. Cost O(B·T·K²).

    Right at exact zeros: there it is the one-sided derivative. Entries are inf where the true derivative is larger than
    any float. Sequences of weight zero add nothing.

    Parameters
    ----------
    log_shares
        Logarithms of factors of each sequence, on top of its weight; None for factors of one.
    possible
        Whether P(x_b) > 0. For the others, the term is ∂ P(x_b) itself. By default impossible text must have weight
        zero.

    Raises
    ------
    InvalidInput
        An entry whose sequences add up to inf − inf.
    """
    arrays, fast = (initial, transition, table), choose(transition, backend)
    counted = weights != 0 if log_shares is None else (weights != 0) & (log_shares > -torch.inf)
    impossible = torch.zeros_like(counted) if possible is None else counted & ~possible
    scaled = torch.where(impossible, 0, weights)
    gradient, lost = _scaled_gradient(fast, arrays, ids, scaled, log_shares)
    if lost.any():
        # Nothing of the sum is kept: the other sequences are computed again.
        kept = ~lost.any(0)
        gradient = Gradient(*(torch.zeros_like(array) for array in arrays))
        if kept.any():
            shares = None if log_shares is None else log_shares[:, kept]
            gradient, _ = _scaled_gradient(fast, arrays, ids[:, kept], scaled[:, kept], shares)
        lost = ~kept & counted
    in_log = lost | impossible
    for few, picked in few_at_a_time(in_log, *arrays, ids):
        model, _ = few.nonzero(as_tuple=True)
        weight, log_share = weights[few], 0 if log_shares is None else log_shares[few]
        counts = counts_in_logarithms(*picked, log_share + weight.abs().log())
        of_initial, of_transition, of_rows = (each * weight.sign().view(-1, *[1] * (each.ndim - 1)) for each in counts)
        gradient.initial.index_add_(0, model, of_initial)
        gradient.transition.index_add_(0, model, of_transition)
        gradient.table.index_put_((model[:, None], ids[few]), of_rows, accumulate=True)
    if in_log.any():
        require_numbers(gradient._asdict())
    return gradient


def _scaled_gradient(
    fast: Backend,
    arrays: tuple[Tensor, Tensor, Tensor],
    ids: Ids,
    weights: Float[Tensor, "P B"],
    log_shares: Float[Tensor, "P B"] | None,
) -> tuple[Gradient, Lost]:
    """Return a backend's gradient, weights times shares; shares below the smallest float apart, as multiples of it."""
    if log_shares is None:
        return fast.gradient(*arrays, ids, weights)
    total, lost = Gradient(*(torch.zeros_like(array) for array in arrays)), torch.zeros_like(weights, dtype=torch.bool)
    least = torch.finfo(weights.dtype).tiny
    faint, counted = log_shares < math.log(least), (weights != 0) & (log_shares > -torch.inf)
    for chosen, unit in ((counted & ~faint, 1.0), (counted & faint, least)):
        some = chosen.any(0)
        if some.any():
            shares = (log_shares[:, some] - math.log(unit)).exp().clamp(min=least)
            scaled = torch.where(chosen[:, some], weights[:, some] * shares, 0)
            part, lost_here = fast.gradient(*arrays, ids[:, some], scaled)
            lost[:, some] |= lost_here
            for whole, addend in zip(total, part, strict=True):
                whole += unit * addend
    return total, lost


@torch.no_grad()
def forward_backward(
    initial: Initial,
    transition: Transition,
    table: Table,
    ids: Ids,
    positions: Sequence[int],
    *,
    own_token: bool = True,
    backend: str | None = None,
) -> ForwardBackward:
    """Return the log-evidence, P(H₀|x), and the marginals of H at ``positions`` (0-based row numbers, all different).

    With ``own_token`` the marginals are the smoothed P(H_t|x); without it the cavities P(H_t|x_{-t}).
    Cost O(B·T·K²) time, memory of the result.
    """
    arrays = (initial, transition, table, ids)
    result, lost = choose(transition, backend).smooth(*arrays, positions, own_token)
    for few, picked in few_at_a_time(lost, *arrays):
        exact, _ = RESCUE.smooth(*picked, positions=positions, own_token=own_token)
        _replace(few, result, exact)
    return result


@torch.no_grad()
def messages_at(
    transition: Transition, table: Table, ids: Ids, positions: Sequence[int], *, backend: str | None = None
) -> Messages:
    """Return the normalised backward messages after rows ``positions`` (0-based; −1 is f, the message to H₀).

    And the logarithms of what they were divided by. Neither depends on what comes before those rows. Cost O(B·T·K²).
    """
    result, lost = choose(transition, backend).messages(transition, table, ids, positions)
    for few, (_, *picked) in few_at_a_time(lost, table[:, 0], transition, table, ids):
        _replace(few, result, RESCUE.messages(*picked, positions=positions)[0])
    return result


def _replace(few: Tensor, result: ForwardBackward | Messages, exact: ForwardBackward | Messages) -> None:
    """Write the results of as many models of one sequence each over those of the (model, sequence) pairs in (P,B)."""
    for field, values in zip(result, exact, strict=True):
        if field is not None and values is not None:
            field[few] = values[:, 0]


def few_at_a_time(
    chosen: Bool[Tensor, "P B"], initial: Initial, transition: Transition, table: Table, ids: Ids
) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]]:
    """Yield masks (P,B) of a few chosen (model, sequence) pairs, and their arrays as models of one sequence each.

    A pair's table holds the rows of its own text, in the order of the text: no pair copies the whole table. In
    logarithms a step takes K² entries a pair, and a text T·K.
    """
    pairs, (length, n_states) = chosen.nonzero(), (ids.shape[-1], transition.shape[-1])
    for chunk in chunks(len(pairs), LOG_CHUNK_ENTRIES // (n_states * max(n_states, length))):
        model, sequence = pairs[chunk].T
        few = torch.zeros_like(chosen)
        few[model, sequence] = True
        own_ids = torch.arange(length, device=ids.device).expand(len(model), 1, length)
        yield few, (initial[model], transition[model], table[model[:, None], ids[model, sequence]], own_ids)
