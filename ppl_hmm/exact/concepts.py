"""Chains whose states belong to concepts that a text never leaves: one small chain for each concept.

Each chain is normalised by itself and concepts meet as logarithms, so that one that is nearly excluded comes back
exactly if later text speaks for it.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ppl_hmm.exact import recursion
from ppl_hmm.exact.algebra import LOG, SCALED, Algebra, log_sum_exp, safe_log
from ppl_hmm.exact.chain import few_at_a_time
from ppl_hmm.exact.recursion import Chain
from ppl_hmm.exact.underflow import Watch


@dataclasses.dataclass(frozen=True, eq=False)
class Concepts:
    """The chain of each concept on its own states; smaller ones are filled up by states that are never entered."""

    log_prior: Float[Tensor, " C"]
    chain: Chain  # one model for each concept, all of which read the same texts

    @classmethod
    def of(cls, chain: Chain, concept_of_state: Int[Tensor, " K"]) -> Concepts:
        """Return the concepts of an only model."""
        members = [(concept_of_state == concept).nonzero()[:, 0] for concept in range(int(concept_of_state.max()) + 1)]
        states = pad_sequence(members, batch_first=True)  # (C,n)
        own = pad_sequence([torch.ones_like(each) for each in members], batch_first=True)
        initial = chain.initial[0, states] * own
        transition = chain.transition[0, states[:, :, None], states[:, None, :]] * own[:, None, :]
        prior = initial.sum(-1)
        within = initial / torch.where(prior > 0, prior, 1)[:, None]
        table = chain.table[0, :, states].transpose(0, 1)
        return cls(safe_log(prior), Chain(within, transition, table, chain.ids.expand(len(states), -1, -1)))


@torch.no_grad()
def log_joint(
    concepts: Concepts, last: Int[Tensor, " B"] | None = None
) -> tuple[Float[Tensor, "C B S"], Float[Tensor, "C B n"]]:
    """Return log P(θ, x_1..x_t) for t = 0..T, and P(H_t | x_1..x_t, θ) at the ``last`` row. Cost O(C·B·T·n²)."""
    each = None if last is None else last.expand(concepts.chain.ids.shape[:2])
    log_totals, filtered = log_totals_and_filtered(concepts.chain, last=each)
    # Sums of many terms, of which only differences count: in double precision whatever the model's.
    start = concepts.log_prior.double()[:, None, None].expand(-1, log_totals.shape[1], 1)
    return torch.cat([start, log_totals.double()], -1).cumsum(-1), filtered


def combine(log_joint: Float[Tensor, "C B S"]) -> Float[Tensor, "B S C"]:
    """Return P(θ | x_1..x_t) of log P(θ, x_1..x_t); zero rows where no concept is possible."""
    evidence = log_sum_exp(log_joint, dim=0)
    return (log_joint - torch.where(evidence > -torch.inf, evidence, 0)).exp().permute(1, 2, 0)


def mix(log_joint: Float[Tensor, "C B S"], law: Float[Tensor, "C B V"]) -> Float[Tensor, "B V"]:
    """Return Σ_θ P(θ | x) P(X_{T+1} | x, θ)."""
    return torch.einsum("bc,cbv->bv", combine(log_joint[..., -1:])[:, 0].to(law), law)


@torch.no_grad()
def log_totals_and_filtered(
    chain: Chain, start: Float[Tensor, "P B K"] | None = None, last: Int[Tensor, "P B"] | None = None
) -> tuple[Float[Tensor, "P B T"], Float[Tensor, "P B K"]]:
    """Return log P(x_t | x_1..x_{t-1}) and P(H_t | x_1..x_t) at one row of each sequence. Cost O(B·T·K²).

    ``start`` is the law of H₀ for each sequence, by default the chain's own; ``last`` is the number of the row, −1 for
    H₀, by default that of the last one. In logarithms where need be.
    """
    log_totals, filtered, lost = _pass(SCALED, chain, start, last)
    for few, picked in few_at_a_time(lost, chain):
        own_start, own_last = (None if each is None else each[few][:, None] for each in (start, last))
        exact_totals, exact, _ = _pass(LOG, picked, own_start, own_last)
        log_totals[few], filtered[few] = exact_totals[:, 0], exact[:, 0]
    return log_totals, filtered


def _pass(
    algebra: Algebra,
    chain: Chain,
    start: Float[Tensor, "P B K"] | None,
    last: Int[Tensor, "P B"] | None = None,
) -> tuple[Float[Tensor, "P B T"], Float[Tensor, "P B K"], Bool[Tensor, "P B"]]:
    """Return the pass in one algebra, and which sequences are lost."""
    law = chain.initial[:, None] if start is None else start
    last = chain.ids.new_full(chain.ids.shape[:2], chain.ids.shape[-1] - 1) if last is None else last
    watch, kept = Watch.over(algebra, chain), law.expand(-1, chain.ids.shape[1], -1)
    watch.law(law)
    totals = chain.table.new_empty(chain.ids.shape)
    for t, (_, filtered, total) in enumerate(recursion.forward(algebra, chain, law)):
        watch.law(filtered)
        totals[..., t] = total[..., 0]
        kept = torch.where((last == t)[..., None], algebra.probabilities(filtered), kept)
    return algebra.logarithm(totals), kept, watch.lost
