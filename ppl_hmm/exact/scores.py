"""Expected counts of each text, and the scores they are: derivatives of log P(x) by the logits of every law.

For a law p = softmax(ℓ) the derivative of log P(x) by ℓ is the expected count of its uses given x, less p times their
sum: finite at zeros, which stay, and free of the directions that normalisation forbids.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_hmm.exact.baum_welch import Counts, expected_counts
from ppl_hmm.exact.recursion import Chain

# Entries of all texts' counts that are alive at once: 64 MB in float64.
_CHUNK_ENTRIES = 1 << 23


def counts_of_each(chain: Chain) -> Counts:
    """Return the expected counts (B,…) of each text, none impossible, of one chain (P = 1).

    Texts are so many models of one text each. Cost O(B·T·K²) time, O(B·(K² + R·K)) memory.
    """
    size = chain.transition[0].numel() + chain.table[0].numel()
    found = []
    for ids in chain.ids[0].split(max(_CHUNK_ENTRIES // size, 1)):
        initial, transition, table = (law.expand(len(ids), *law.shape[1:]).contiguous() for law in chain.parameters)
        each = Chain(initial, transition, table, ids[:, None].contiguous())
        ones, ends = each.table.new_ones(len(ids), 1), torch.full_like(each.ids[..., 0], each.ids.shape[-1])
        found.append(expected_counts(each, ones, ends)[1])
    return Counts(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def logit_scores(counts: Counts, laws: Counts) -> Counts:
    """Return the derivatives (B,…) by logits from expected counts (B,…) and laws (1,…), tokens of the table first."""

    def score(count: Tensor, law: Tensor, dim: int) -> Tensor:
        return count - count.sum(dim, keepdim=True) * law

    return Counts(
        score(counts.initial, laws.initial, -1),
        score(counts.transition, laws.transition, -1),
        score(counts.emission, laws.emission, -2),
    )
