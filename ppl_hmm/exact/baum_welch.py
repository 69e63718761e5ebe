"""One iteration of Baum–Welch: expected counts of texts, and the laws that they make most likely.

The gradient of log P(x) times the parameter is the expected count of its use given x, so that one pass each way counts
everything: H₀ in the initial law, each move of the chain (the one from the silent H₀ too) in the transition, each
emitted token in its row of the table. Source: Baum, Petrie, Soules & Weiss (1970); Rabiner (1989), §III.C.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ppl_hmm.exact.backends.contract import Lengths
from ppl_hmm.exact.chain import evidence_and_gradient
from ppl_hmm.exact.mixture import MemoryText, blocks, log_joint_memory
from ppl_hmm.exact.recursion import Chain

Rows = Float[Tensor, "P ..."]

#: Shares of a law that become exact zeros, by precision. In float64 no text can tell; in float32 they are below the
#: rounding of the law's sum. Smaller ones would come near underflow, and every pass would turn to logarithms.
NEGLIGIBLE = {torch.float64: 1e-30, torch.float32: 1e-7}


class Counts(NamedTuple):
    """Expected numbers of uses of each parameter, given the texts; or the parameters themselves."""

    initial: Float[Tensor, "P K"]
    transition: Float[Tensor, "P K K"]
    emission: Float[Tensor, "P V K"]  # tokens first, as in a table of likelihood rows


class MemoryCounts(NamedTuple):
    """As :class:`Counts`, of chains with a memory."""

    memory_prior: Float[Tensor, "P N m"]
    initial: Float[Tensor, "P K"]
    transition: Float[Tensor, "P K K"]
    emission: Float[Tensor, "P m V K"]


#: Parameters of a kind of model, or counts of their uses.
LawsT = TypeVar("LawsT", Counts, MemoryCounts)


def expected_counts(
    chain: Chain, weights: Float[Tensor, "P B"], lengths: Lengths, *, backend: str | None = None
) -> tuple[Float[Tensor, "P B"], Counts]:
    """Return log P(x_b) and the expected counts Σ_b weights_b E[uses | x_b]. Cost O(B·T·K²).

    Texts end at their lengths: neither rows nor moves after the end are counted.
    """
    log_evidence, gradient = evidence_and_gradient(chain, weights, lengths=lengths, backend=backend)
    # By a parameter of zero the derivative may be infinite; its count is zero all the same.
    counts = (p * by_p.masked_fill(p == 0, 0) for p, by_p in zip(chain.parameters, gradient, strict=True))
    return log_evidence, Counts(*counts)


@torch.no_grad()
def expected_counts_of_memories(
    text: MemoryText, weights: Float[Tensor, "P B"], lengths: Lengths, *, backend: str | None = None
) -> tuple[Float[Tensor, "P B"], MemoryCounts]:
    """Return log P(x_b) and expected counts, of chains with a memory. Cost O(C·B·T·K²) for C = m^N memories.

    They are the counts of the model written out on pairs of a memory and a state, each added to the parameter that its
    pairs share: given a memory the states are a plain chain, whose texts count with weight P(M | x_b).
    """
    log_joint = log_joint_memory(text)  # (P,B,C)
    log_evidence = log_joint.logsumexp(-1)
    possible = log_evidence > -torch.inf
    law = torch.where(possible[..., None], log_joint - log_evidence[..., None], -torch.inf).exp()
    shares = (law * weights[..., None]).mT  # (P,C,B)
    total = MemoryCounts(*map(torch.zeros_like, (text.memory_prior, text.initial, text.transition, text.table)))
    occurs, first = text.rows_of_text.nonzero()[:, 0], 0
    for block in blocks(text.with_rows_of_text()):
        n_memories = len(block.memories)
        own, first = shares[:, first : first + n_memories], first + n_memories
        ends = lengths.repeat(1, n_memories)
        _, counts = expected_counts(block.chain, own.flatten(1), ends, backend=backend)
        total.initial.add_(counts.initial)
        total.transition.add_(counts.transition)
        cells = torch.nn.functional.one_hot(block.memories.to(own.device), text.memory_prior.shape[2]).to(own)
        total.memory_prior.add_(torch.einsum("pcb,cnm->pnm", own, cells))
        reads = torch.nn.functional.one_hot(text.values_read(block.memories), text.table.shape[1]).to(own)
        by_value = torch.einsum("pcrk,pckm->pmrk", block.unfold(counts.emission), reads)
        total.emission.index_add_(2, occurs, by_value)
    return log_evidence, total


def most_likely_law(counts: Rows, otherwise: Rows, dim: int) -> Rows:
    """Return counts over their sum along ``dim``, shares below :data:`NEGLIGIBLE` as zeros; ``otherwise`` of none."""
    total = counts.sum(dim, keepdim=True)
    kept = torch.where(counts < NEGLIGIBLE[counts.dtype] * total, 0, counts)
    law, usable = kept / kept.sum(dim, keepdim=True), total > torch.finfo(counts.dtype).tiny
    return law if usable.all() else torch.where(usable, law, otherwise)
