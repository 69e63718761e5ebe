"""The passes written once over an algebra, step by step in torch: any device, and the reference for the others.

With :data:`~ppl_hmm.exact.algebra.SCALED` this is the backend ``torch``, whose steps are matrix products: slow for
few sequences or states, where the calls cost more than the work, and near the speed of the products for large ones.
With :data:`~ppl_hmm.exact.algebra.REDUCED` it is ``torch-bfloat16``. With :data:`~ppl_hmm.exact.algebra.LOG` nothing is
ever lost: the rescue of every backend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ppl_hmm.base.randomness import categorical
from ppl_hmm.exact.algebra import LOG, MAXIMUM, Algebra
from ppl_hmm.exact.backends.contract import Filtered, ForwardBackward, Gradient, Lost, Messages, Paths
from ppl_hmm.exact.path_counts import PathCounts, count_uses
from ppl_hmm.exact.recursion import LOG_CHUNK_ENTRIES, Chain, backward, chunks, forward, rows_by_time
from ppl_hmm.exact.underflow import Watch


@dataclasses.dataclass(frozen=True)
class Recursive:
    """A :class:`~ppl_hmm.exact.backends.contract.Backend` over an algebra; ``evidence`` and ``filter`` leave a tape."""

    algebra: Algebra

    def evidence(self, chain: Chain) -> tuple[Tensor, Lost]:
        """Return log P(x), differentiable."""
        algebra, watch = self.algebra, Watch.over(self.algebra, chain)
        watch.law(chain.initial[:, None])
        totals = []
        for _, filtered, total in forward(algebra, chain):
            watch.law(filtered)
            totals.append(total[..., 0])
        logs = algebra.logarithm(torch.stack(totals))
        possible = (logs > -torch.inf).all(0)
        return torch.where(possible, torch.where(logs > -torch.inf, logs, 0).sum(0), -torch.inf), watch.lost

    @torch.no_grad()
    def smooth(self, chain: Chain, positions: Sequence[int], own_token: bool) -> tuple[ForwardBackward, Lost]:
        """Return marginals, or cavities, at positions."""
        algebra, watch, table = self.algebra, Watch.over(self.algebra, chain), chain.table
        n_models, n_sequences, length = chain.ids.shape
        # Time-major storage: each step writes one contiguous block.
        marginals = table.new_empty(len(positions), n_models, n_sequences, table.shape[-1])
        log_contexts = None if own_token else table.new_empty(len(positions), n_models, n_sequences)
        slots = {t: slot for slot, t in enumerate(positions)}

        watch.law(chain.initial[:, None])
        totals = []
        for t, (predicted, filtered, total) in enumerate(forward(algebra, chain)):
            watch.law(filtered)
            totals.append(total[..., 0])
            if t in slots:
                marginals[slots[t]] = filtered if own_token else predicted
        log_totals = algebra.logarithm(torch.stack(totals))
        log_evidence = log_totals.sum(0)

        start = law_of_start = algebra.represent(chain.initial)[:, None]
        log_after = table.new_zeros(n_models, n_sequences)  # of the message's totals
        for t, (message, message_total) in zip(range(length - 1, -2, -1), backward(algebra, chain), strict=True):
            watch.law(message)
            if log_contexts is not None:
                log_after = log_after + algebra.logarithm(message_total[..., 0])
            if t in slots or t < 0:
                before = marginals[slots[t]] if t >= 0 else law_of_start
                law, total = algebra.normalise(algebra.weigh(before, message))
                watch.total(total[..., 0])
                if t >= 0:
                    marginals[slots[t]] = algebra.probabilities(law)
                    if log_contexts is not None:
                        log_before = log_totals[:t].sum(0)
                        log_contexts[slots[t]] = log_before + algebra.logarithm(total[..., 0]) + log_after
                else:
                    start = algebra.probabilities(law)
        if log_contexts is not None:
            log_contexts = log_contexts.permute(1, 2, 0)
        return ForwardBackward(log_evidence, start, marginals.permute(1, 2, 0, 3), log_contexts), watch.lost

    def filter(self, chain: Chain, positions: Sequence[int]) -> tuple[Filtered, Lost]:
        """Return filtered laws at positions, differentiable; impossible ones have gradient zero."""
        algebra, watch, chosen = self.algebra, Watch.over(self.algebra, chain), set(positions)
        chain = chain.with_ids(chain.ids[..., : 1 + max(positions)])
        log_prefix = chain.table.new_zeros(chain.ids.shape[:2])
        start = chain.initial[:, None].expand(-1, chain.ids.shape[1], -1)
        watch.law(start)
        laws, log_prefixes = {-1: start}, {-1: log_prefix}
        for t, (_, law, total) in enumerate(forward(algebra, chain)):
            watch.law(law)
            log_prefix = log_prefix + algebra.logarithm(total[..., 0])
            if t in chosen:
                laws[t] = torch.where(log_prefix[..., None] > -torch.inf, algebra.probabilities(law), 0)
                log_prefixes[t] = log_prefix
        kept = (torch.stack([each[t] for t in positions], dim=2) for each in (laws, log_prefixes))
        return Filtered(*kept), watch.lost

    @torch.no_grad()
    def messages(self, chain: Chain, positions: Sequence[int]) -> tuple[Messages, Lost]:
        """Return backward messages after positions."""
        algebra, watch, ids = self.algebra, Watch.over(self.algebra, chain), chain.ids
        messages: dict[int, Tensor] = {}
        log_scales: dict[int, Tensor] = {}
        log_scale = chain.table.new_zeros(ids.shape[:2])
        for t, (message, total) in zip(range(ids.shape[-1] - 1, -2, -1), backward(algebra, chain), strict=True):
            watch.law(message)
            log_scale = log_scale + algebra.logarithm(total[..., 0])
            if t in positions:
                messages[t], log_scales[t] = algebra.probabilities(message), log_scale
            if len(messages) == len(set(positions)):
                break
        stacked = torch.stack([messages[t] for t in positions], dim=2)
        return Messages(stacked, torch.stack([log_scales[t] for t in positions], dim=2)), watch.lost

    @torch.no_grad()
    def gradient(
        self, chain: Chain, weights: Tensor, lengths: Tensor | None = None
    ) -> tuple[Gradient, Tensor, Lost]:
        """Return expected counts over parameters, and log P(x); memory O(B·T·K). Not in logarithms.

        ∂ log P(x) / ∂ A[i,j] = Σ_t filtered_{t-1}(i) after_t(j) / z_t, after_t = row_t · message_t and z_t its total
        with predicted_t; for a row it is Σ_t predicted_t message_t / z_t, for the initial law f / Σ_h π₀(h) f(h).
        """
        algebra, watch = self.algebra, Watch.over(self.algebra, chain)
        table, ids, counted = chain.table, chain.ids, weights != 0
        start = chain.initial[:, None].expand(-1, ids.shape[1], -1)
        watch.law(start)
        predicted, before, totals = [], [start], []
        for law, filtered, row_total in forward(algebra, chain, start):
            watch.law(filtered)
            predicted.append(law)
            before.append(filtered)
            totals.append(row_total[..., 0])
        ends = torch.full_like(ids[..., 0], ids.shape[-1]) if lengths is None else lengths
        read = torch.arange(ids.shape[-1], device=ids.device)[:, None, None] < ends  # (T,P,B)
        log_evidence = torch.where(read, algebra.logarithm(torch.stack(totals)), 0).sum(0)

        def share(total: Tensor, counted: Tensor) -> Tensor:  # of each sequence's weight, (P,B,1)
            return torch.where(counted & (total > 0), weights / torch.where(total > 0, total, 1), 0)[..., None]

        likelihood = rows_by_time(table, ids)
        of_rows, of_moves = torch.zeros_like(table), torch.zeros_like(chain.transition)
        each_row = of_rows.view(-1, table.shape[-1])
        offsets = table.shape[1] * torch.arange(len(ids), device=ids.device)[:, None]
        message = start
        for t, (message, _) in zip(range(ids.shape[-1] - 1, -2, -1), backward(algebra, chain), strict=True):
            watch.law(message)
            if t < 0:
                break
            after = message * likelihood(t)
            total = (predicted[t] * after).sum(-1)
            watch.total(total)
            shares = share(total, counted & read[t])
            each_row.index_add_(0, (ids[..., t] + offsets).flatten(), (predicted[t] * shares * message).flatten(0, 1))
            of_moves.baddbmm_(before[t].mT, after * shares)
        total = (start * message).sum(-1)
        watch.total(total)
        of_start = (message * share(total, counted)).sum(1)
        return Gradient(of_start, of_moves, of_rows), log_evidence, watch.lost & counted

    @torch.no_grad()
    def best_path(self, chain: Chain) -> Paths:
        """Return the best path of each sequence."""
        size = LOG_CHUNK_ENTRIES // chain.transition.numel()
        return torch.cat(
            [
                _decode(MAXIMUM, chain.sequences(chunk), 1, lambda law: law.argmax(-1))[0]
                for chunk in chunks(chain.ids.shape[1], size)
            ],
            dim=1,
        )

    @torch.no_grad()
    def sample_paths(self, chain: Chain, n_draws: int, generator: torch.Generator) -> tuple[Paths, Lost]:
        """Return draws from P(H₀..H_T | x)."""

        def draw(law: Tensor) -> Tensor:
            return categorical(law.softmax(-1) if self.algebra is LOG else law, generator)

        return _decode(self.algebra, chain, n_draws, draw)

    @torch.no_grad()
    def path_counts(
        self, chain: Chain, lengths: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, PathCounts, Lost]:
        """Return log P(x), and the counts of one path drawn for each text; memory O(B·T·K)."""
        states, lost = self.sample_paths(chain, 1, generator)
        evidence, lost_forth = self.evidence(chain)
        lost = lost | lost_forth
        counts = count_uses(states[:, :, 0], chain.ids, torch.where(lost, -1, lengths), chain.table)
        return evidence, counts, lost


def _decode(algebra: Algebra, chain: Chain, n_paths: int, choose: Callable[[Tensor], Tensor]) -> tuple[Paths, Lost]:
    """Choose h₀..h_T by the weight of each next state, given the ones before and all the text."""
    watch, ids = Watch.over(algebra, chain), chain.ids
    messages = [message for message, _ in backward(algebra, chain)][::-1]  # message_0..message_T
    for message in messages:
        watch.law(message)
    initial, transition, table = map(algebra.represent, chain.parameters)
    model = torch.arange(ids.shape[0], device=ids.device)[:, None]
    law = algebra.weigh(initial[:, None], messages[0])[:, :, None].expand(-1, -1, n_paths, -1)
    states = [choose(law)]
    for t, message in enumerate(messages[1:]):
        forth = algebra.weigh(table[model, ids[:, :, t]], message)[:, :, None]
        states.append(choose(algebra.weigh(transition[model[..., None], states[-1]], forth)))
    return torch.stack(states, -1), watch.lost
