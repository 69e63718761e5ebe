"""Exact inference on a chain of hidden states: a fast pass, and logarithms for what it loses.

Arrays are those of a :class:`~ppl_hmm.exact.recursion.Chain`. Each function takes the scaled pass of a backend
(:mod:`ppl_hmm.exact.backends`), which is fast and says which sequences came near underflow
(:mod:`ppl_hmm.exact.underflow`); those are computed again in logarithms. ``backend`` names one (``'torch'``,
``'numba'``); by default it is chosen for the arrays.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ppl_hmm.exact.algebra import LOG, SCALED
from ppl_hmm.exact.backends import choose
from ppl_hmm.exact.backends.contract import Backend, Filtered, ForwardBackward, Gradient, Lost, Messages
from ppl_hmm.exact.backends.recursive import Recursive
from ppl_hmm.exact.counts import counts_in_logarithms, require_numbers
from ppl_hmm.exact.derivatives import differentiable
from ppl_hmm.exact.recursion import LOG_CHUNK_ENTRIES, Chain, Ids, chunks
from ppl_hmm.exact.underflow import cancels

RESCUE = Recursive(LOG)


def log_evidence(chain: Chain, *, backend: str | None = None) -> Float[Tensor, "P B"]:
    """Return log P(x) in nats, −inf for impossible text, differentiable. Cost O(B·T·K²) time, O(B·K) memory.

    The gradient is that of :func:`log_evidence_gradient`; further derivatives are those of :func:`taped`.
    """
    return differentiable(_Evidence(chain.ids, backend), *chain.parameters)


@dataclasses.dataclass(frozen=True)
class _Evidence:
    """log P(x) as a function of the parameters: an :class:`~ppl_hmm.exact.derivatives.Evidence`."""

    ids: Ids
    backend: str | None

    def value(self, *parameters: Tensor) -> Tensor:
        return evidence_of(self._chain(*parameters), backend=self.backend)

    def gradient(self, weights: Tensor, *parameters: Tensor) -> Gradient:
        return log_evidence_gradient(self._chain(*parameters), weights, backend=self.backend)

    def tape(self, *parameters: Tensor) -> Tensor:
        return taped(self._chain(*parameters), backend=self.backend)

    def _chain(self, initial: Tensor, transition: Tensor, table: Tensor) -> Chain:
        return Chain(initial, transition, table, self.ids)


@torch.no_grad()
def evidence_of(chain: Chain, *, backend: str | None = None) -> Float[Tensor, "P B"]:
    """Return log P(x) as :func:`log_evidence` does, without a derivative."""
    evidence, lost = choose(chain.transition, backend).evidence(chain)
    for few, picked in few_at_a_time(lost, chain):
        evidence[few] = RESCUE.evidence(picked)[0][:, 0]
    return evidence


def taped(chain: Chain, *, backend: str | None = None) -> Float[Tensor, "P B"]:
    """Return log P(x) by operations that torch differentiates any number of times. Cost O(B·T·K²), memory O(B·T·K).

    Texts near underflow go through logarithms, at O(B·T·K²) memory; an entry that is exactly zero counts as a constant
    there.
    """
    with torch.no_grad():
        ones = torch.ones(chain.ids.shape[:2], dtype=chain.table.dtype, device=chain.ids.device)
        _, _, lost = choose(chain.transition, backend).gradient(chain, ones)
    (evidence,) = in_parts(chain, lost.any(0), lambda backend, part: backend.evidence(part)[:1])
    return evidence


def in_parts(
    chain: Chain, in_log: Bool[Tensor, " B"], results: Callable[[Recursive, Chain], Sequence[Tensor]]
) -> list[Tensor]:
    """Return ``results`` (P,B,…) of all sequences: of some by logarithms, of the others by the scaled algebra."""
    parts = [
        results(Recursive(algebra), chain.sequences(chosen))
        for algebra, chosen in ((SCALED, ~in_log), (LOG, in_log))
        if chosen.any()
    ]
    order = in_log.argsort(stable=True).argsort()
    return [torch.cat(fields, dim=1)[:, order] for fields in zip(*parts, strict=True)]


@torch.no_grad()
def log_evidence_gradient(
    chain: Chain,
    weights: Float[Tensor, "P B"],
    *,
    log_shares: Float[Tensor, "P B"] | None = None,
    possible: Bool[Tensor, "P B"] | None = None,
    backend: str | None = None,
) -> Gradient:
    """Return Σ_b weights_b · ∂ log P(x_b), as :func:`evidence_and_gradient` does, without the evidence."""
    return evidence_and_gradient(chain, weights, log_shares=log_shares, possible=possible, backend=backend)[1]


@torch.no_grad()
def evidence_and_gradient(
    chain: Chain,
    weights: Float[Tensor, "P B"],
    *,
    lengths: Int[Tensor, "P B"] | None = None,
    log_shares: Float[Tensor, "P B"] | None = None,
    possible: Bool[Tensor, "P B"] | None = None,
    backend: str | None = None,
) -> tuple[Float[Tensor, "P B"], Gradient]:
    """Return log P(x_b), and Σ_b weights_b · ∂ log P(x_b): expected counts over parameters. Cost O(B·T·K²).

    By one pass each way. Right at exact zeros: there it is the one-sided derivative. Entries are inf where the true
    derivative is larger than any float. Sequences of weight zero add nothing, and their log P(x_b) is arbitrary.

    Parameters
    ----------
    lengths
        Where texts end, T by default: rows from there on are those of the mask, and neither they nor the moves to them
        are counted.
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
    fast, scaled, impossible = choose(chain.transition, backend), weights, None
    if possible is not None:
        counted = weights != 0 if log_shares is None else (weights != 0) & (log_shares > -torch.inf)
        impossible = counted & ~possible
        scaled = torch.where(impossible, 0, weights)
    gradient, log_evidence, lost = _scaled_gradient(fast, chain, scaled, lengths, log_shares)
    in_log = lost if impossible is None else lost | impossible
    if not in_log.any():
        return log_evidence, gradient
    if lost.any():
        # Nothing of the sum is kept: the other sequences are computed again.
        gradient, _, _ = _scaled_gradient(fast, chain, torch.where(lost, 0, scaled), lengths, log_shares)
    for few, picked in few_at_a_time(in_log, chain):
        model, _ = few.nonzero(as_tuple=True)
        weight, log_share = weights[few], 0 if log_shares is None else log_shares[few]
        ends = None if lengths is None else lengths[few]
        counts, log_evidence[few] = counts_in_logarithms(picked, log_share + weight.abs().log(), ends)
        of_initial, of_transition, of_rows = (each * weight.sign().view(-1, *[1] * (each.ndim - 1)) for each in counts)
        gradient.initial.index_add_(0, model, of_initial)
        gradient.transition.index_add_(0, model, of_transition)
        gradient.table.index_put_((model[:, None], chain.ids[few]), of_rows, accumulate=True)
    require_numbers(gradient._asdict())
    return log_evidence, gradient


def _scaled_gradient(
    fast: Backend,
    chain: Chain,
    weights: Float[Tensor, "P B"],
    lengths: Int[Tensor, "P B"] | None,
    log_shares: Float[Tensor, "P B"] | None,
) -> tuple[Gradient, Float[Tensor, "P B"], Lost]:
    """Return a backend's gradient, weights times shares; shares below the smallest float apart, as multiples of it."""
    if log_shares is None:
        return fast.gradient(chain, weights, lengths)
    total, log_evidence = _nothing_counted(chain), torch.zeros_like(weights)
    lost = torch.zeros_like(weights, dtype=torch.bool)
    least = torch.finfo(weights.dtype).tiny
    faint, counted = log_shares < math.log(least), (weights != 0) & (log_shares > -torch.inf)
    for chosen, unit in ((counted & ~faint, 1.0), (counted & faint, least)):
        some = chosen.any(0)
        if some.any():
            shares = (log_shares[:, some] - math.log(unit)).exp().clamp(min=least)
            scaled = torch.where(chosen[:, some], weights[:, some] * shares, 0)
            ends = None if lengths is None else lengths[:, some]
            part, log_evidence[:, some], lost_here = fast.gradient(chain.sequences(some), scaled, ends)
            lost[:, some] |= lost_here
            for whole, addend in zip(total, part, strict=True):
                whole += unit * addend
    return total, log_evidence, lost


def _nothing_counted(chain: Chain) -> Gradient:
    return Gradient(*map(torch.zeros_like, chain.parameters))


@torch.no_grad()
def forward_backward(
    chain: Chain, positions: Sequence[int], *, own_token: bool = True, backend: str | None = None
) -> ForwardBackward:
    """Return the log-evidence, P(H₀|x), and the marginals of H at ``positions`` (0-based row numbers, all different).

    With ``own_token`` the marginals are the smoothed P(H_t|x); without it the cavities P(H_t|x_{-t}).
    Cost O(B·T·K²) time, memory of the result.
    """
    result, lost = choose(chain.transition, backend).smooth(chain, positions, own_token)
    for few, picked in few_at_a_time(lost, chain):
        exact, _ = RESCUE.smooth(picked, positions, own_token)
        replace_results(few, result, exact)
    return result


@torch.no_grad()
def messages_at(chain: Chain, positions: Sequence[int], *, backend: str | None = None) -> Messages:
    """Return the normalised backward messages after rows ``positions`` (0-based; −1 is f, the message to H₀).

    And the logarithms of what they were divided by. Neither depends on what comes before those rows, nor on the initial
    law. Cost O(B·T·K²).
    """
    result, lost = choose(chain.transition, backend).messages(chain, positions)
    for few, picked in few_at_a_time(lost, chain):
        replace_results(few, result, RESCUE.messages(picked, positions)[0])
    return result


@torch.no_grad()
def initial_posterior(
    chain: Chain, *, backend: str | None = None
) -> tuple[Float[Tensor, "P B K"], Bool[Tensor, "P B"]]:
    """Return P(H₀|x) ∝ π₀ · f, zero rows for impossible text, and whether text is possible. Cost O(B·T·K²)."""
    messages, _ = messages_at(chain, [-1], backend=backend)
    law, total = SCALED.normalise(chain.initial[:, None] * messages[:, :, 0])
    lost = cancels(total[..., 0])  # or impossible
    possible = ~lost
    for few, picked in few_at_a_time(lost, chain):
        exact, _ = RESCUE.smooth(picked, [], own_token=True)
        law[few], possible[few] = exact.initial[:, 0], exact.log_evidence[:, 0] > -torch.inf
    return law, possible


def replace_results(
    few: Tensor, result: ForwardBackward | Messages | Filtered, exact: ForwardBackward | Messages | Filtered
) -> None:
    """Write the results of as many models of one sequence each over those of the (model, sequence) pairs in (P,B)."""
    for field, values in zip(result, exact, strict=True):
        if field is not None and values is not None:
            field[few] = values[:, 0]


def few_at_a_time(chosen: Bool[Tensor, "P B"], chain: Chain) -> Iterator[tuple[Tensor, Chain]]:
    """Yield masks (P,B) of a few chosen (model, sequence) pairs, and their chains: models of one sequence each.

    A pair's table holds the rows of its own text, in the order of the text: no pair copies the whole table. In
    logarithms a step takes K² entries a pair, and a text T·K.
    """
    pairs, (length, n_states) = chosen.nonzero(), (chain.ids.shape[-1], chain.transition.shape[-1])
    for chunk in chunks(len(pairs), LOG_CHUNK_ENTRIES // (n_states * max(n_states, length))):
        model, sequence = pairs[chunk].T
        few = torch.zeros_like(chosen)
        few[model, sequence] = True
        own_table = chain.table[model[:, None], chain.ids[model, sequence]]
        own_ids = torch.arange(length, device=chain.ids.device).expand(len(model), 1, length)
        yield few, Chain(chain.initial[model], chain.transition[model], own_table, own_ids)
