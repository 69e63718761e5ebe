"""The backend ``triton``: one kernel a pass on NVIDIA GPUs of compute capability 8 or later.

Each program keeps the transition and a block of laws on chip and loops over the rows of its texts
(:mod:`~ppl_hmm.exact.backends.fused.passes`, ``gradient``), in steps written once (``steps``); few long texts are cut
into segments (``segments``). Here results are allocated and kernels are launched (``launch``). Best paths, draws, and
gradients of more than :data:`MOST_COUNTED_STATES` states are those of the backend ``torch``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_hmm.exact.algebra import SCALED
from ppl_hmm.exact.backends.contract import Filtered, ForwardBackward, Gradient, Lost, Messages, Paths
from ppl_hmm.exact.backends.fused import passes
from ppl_hmm.exact.backends.fused.gradient import expected_counts
from ppl_hmm.exact.backends.fused.launch import BLOCK, Chains
from ppl_hmm.exact.backends.recursive import Recursive
from ppl_hmm.exact.path_counts import PathCounts
from ppl_hmm.exact.recursion import Chain
from ppl_hmm.exact.underflow import smallest_total

#: More states than this do not fit on chip beside their expected counts.
MOST_COUNTED_STATES = 64
#: Entries of the partial sums of a gradient's largest part.
_SUMMED_ENTRIES = 1 << 22

_TORCH = Recursive(SCALED)


@dataclasses.dataclass(frozen=True)
class Fused:
    """A :class:`~ppl_hmm.exact.backends.contract.Backend` for float32 and float64 on the GPU.

    Few texts, cut into segments, take O(B·√T·K²) memory beyond the result.
    """

    def evidence(self, chain: Chain) -> tuple[Tensor, Lost]:
        """Return log P(x)."""
        chains = Chains.of(chain)
        ends = chains.boundaries(chain.initial)
        if chains.n_segments > 1:
            return ends.log_evidence, ends.lost
        chains.run(
            passes.forward,
            *(ends.start, chains.transition, chains.table, chains.ids, chains.floor),
            *(ends.log_evidence, None, None, ends.lost),
            n_sequences=chains.n_texts,
            repeats=1,
            wrap=1,
        )
        return ends.log_evidence, ends.lost

    def smooth(self, chain: Chain, positions: Sequence[int], own_token: bool) -> tuple[ForwardBackward, Lost]:
        """Return marginals, or cavities, at positions."""
        chains, n_states = Chains.of(chain), chain.initial.shape[-1]
        ends, n_sequences = chains.boundaries(chain.initial), chains.ids.shape[1]
        log_evidence, lost = chains.empty(chains.n_segments), chains.none_lost(n_sequences)
        law_of_start, marginals = chains.empty(n_states), chains.empty(len(positions), n_states)
        log_contexts = None if own_token else chains.empty(len(positions))
        chains.run(
            passes.smooth,
            *(ends.start, ends.end, ends.log_before + ends.log_after),
            *(chains.transition, chains.table, chains.ids, chains.slots(positions), chains.floor),
            *(log_evidence, law_of_start, marginals, log_contexts, lost),
            n_sequences=n_sequences,
            n_segments=chains.n_segments,
            wrap=ends.end.shape[1],
            n_slots=len(positions),
            SMALLEST_TOTAL=smallest_total(chain.table.dtype),
        )
        result = ForwardBackward(log_evidence.sum(-1), law_of_start, marginals, log_contexts)
        return result, ends.lost | chains.lost_texts(lost)

    def filter(self, chain: Chain, positions: Sequence[int]) -> tuple[Filtered, Lost]:
        """Return laws of the state given the rows up to positions."""
        chains = Chains.of(chain)
        ends, n_sequences = chains.boundaries(chain.initial), chains.ids.shape[1]
        laws, log_prefix = chains.empty(len(positions), chain.initial.shape[-1]), chains.empty(len(positions))
        lost = chains.none_lost(n_sequences)
        chains.run(
            passes.filtered,
            *(ends.start, ends.log_before, chains.transition, chains.table, chains.ids),
            *(chains.slots(positions), chains.floor, laws, log_prefix, lost),
            n_sequences=n_sequences,
            n_segments=chains.n_segments,
            wrap=ends.end.shape[1],
            n_slots=len(positions),
            first_slot=positions.index(-1) if -1 in positions else -1,
        )
        return Filtered(laws, log_prefix), ends.lost | chains.lost_texts(lost)

    def messages(self, chain: Chain, positions: Sequence[int]) -> tuple[Messages, Lost]:
        """Return backward messages after positions."""
        first = min(positions) + 1  # what comes before that row changes none of them
        chains = Chains.of(chain.with_ids(chain.ids[..., first:]))
        ends, n_sequences = chains.boundaries(None), chains.ids.shape[1]
        kept, log_scales = chains.empty(len(positions), chain.table.shape[-1]), chains.empty(len(positions))
        lost = chains.none_lost(n_sequences)
        chains.run(
            passes.messages,
            *(ends.end, ends.log_after, chains.transition, chains.table, chains.ids),
            *(chains.slots([t - first for t in positions]), chains.floor, kept, log_scales, lost),
            n_sequences=n_sequences,
            n_segments=chains.n_segments,
            wrap=ends.end.shape[1],
            n_slots=len(positions),
            first_slot=list(positions).index(first - 1),
        )
        return Messages(kept, log_scales), ends.lost | chains.lost_texts(lost)

    def gradient(
        self, chain: Chain, weights: Tensor, lengths: Tensor | None = None
    ) -> tuple[Gradient, Tensor, Lost]:
        """Return expected counts over parameters, and log P(x); memory O(B·T·K). Sums have no particular order."""
        table = chain.table
        n_models, n_rows, n_states = table.shape
        if n_states > MOST_COUNTED_STATES:
            return _TORCH.gradient(chain, weights, lengths)
        if lengths is not None:
            positions = torch.arange(chain.ids.shape[-1], device=chain.ids.device)
            chain = chain.with_ids(torch.where(positions < lengths[..., None], chain.ids, -1))
        chains = Chains.of(chain)
        ends, n_sequences = chains.boundaries(chain.initial), chains.ids.shape[1]
        n_programs = math.ceil(n_sequences / BLOCK)
        n_sums = max(1, min(n_programs, _SUMMED_ENTRIES // (n_models * max(n_rows, n_states) * n_states)))
        sums = [table.new_zeros(n_sums, *array.shape) for array in chain.parameters]
        log_evidence, lost = chains.empty(chains.n_segments), chains.none_lost(n_sequences)
        chains.run(
            expected_counts,
            *(ends.start, ends.end, chains.transition, chains.table, chains.ids, chains.floor),
            *(weights.to(table.dtype).contiguous(), chains.empty(chains.n_segments, chains.ids.shape[-1], n_states)),
            *(*sums, log_evidence, lost),
            n_sequences=n_sequences,
            n_segments=chains.n_segments,
            wrap=ends.end.shape[1],
            n_sums=n_sums,
            SMALLEST_TOTAL=smallest_total(table.dtype),
        )
        whole = (each.sum(0, dtype=torch.float64).to(table.dtype) for each in sums)
        return Gradient(*whole), log_evidence.sum(-1), (ends.lost | chains.lost_texts(lost)) & (weights != 0)

    def best_path(self, chain: Chain) -> Paths:
        """Return the best path of each sequence, by torch."""
        return _TORCH.best_path(chain)

    def sample_paths(self, chain: Chain, n_draws: int, generator: torch.Generator) -> tuple[Paths, Lost]:
        """Return draws from P(H₀..H_T | x), by torch."""
        return _TORCH.sample_paths(chain, n_draws, generator)

    def path_counts(
        self, chain: Chain, lengths: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, PathCounts, Lost]:
        """Return log P(x), and the counts of one path drawn for each text, by torch."""
        return _TORCH.path_counts(chain, lengths, generator)
