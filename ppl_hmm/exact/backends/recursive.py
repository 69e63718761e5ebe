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
from ppl_hmm.exact.algebra import LOG, MAXIMUM, Algebra, Floor
from ppl_hmm.exact.backends.contract import ForwardBackward, Gradient, Lost, Messages, Paths
from ppl_hmm.exact.recursion import (
    LOG_CHUNK_ENTRIES,
    Ids,
    Initial,
    Table,
    Transition,
    backward,
    chunks,
    forward,
    rows_by_time,
)


@dataclasses.dataclass(frozen=True)
class Recursive:
    """A :class:`~ppl_hmm.exact.backends.contract.Backend` over an algebra, whose ``evidence`` leaves a tape."""

    algebra: Algebra

    def evidence(self, initial: Initial, transition: Transition, table: Table, ids: Ids) -> tuple[Tensor, Lost]:
        """Return log P(x), differentiable."""
        algebra, floor = self.algebra, Floor.of(transition, table)
        lost = algebra.faint(algebra.represent(initial)[:, None], floor).expand(ids.shape[:2])
        totals = []
        for _, filtered, total in forward(algebra, initial[:, None], transition, table, ids):
            lost = lost | algebra.faint(filtered, floor)
            totals.append(total[..., 0])
        logs = algebra.logarithm(torch.stack(totals))
        possible = (logs > -torch.inf).all(0)
        return torch.where(possible, torch.where(logs > -torch.inf, logs, 0).sum(0), -torch.inf), lost

    @torch.no_grad()
    def smooth(
        self,
        initial: Initial,
        transition: Transition,
        table: Table,
        ids: Ids,
        positions: Sequence[int],
        own_token: bool,
    ) -> tuple[ForwardBackward, Lost]:
        """Return marginals, or cavities, at positions."""
        algebra, floor = self.algebra, Floor.of(transition, table)
        n_models, n_sequences, length = ids.shape
        # Time-major storage: each step writes one contiguous block.
        marginals = table.new_empty(len(positions), n_models, n_sequences, table.shape[-1])
        log_contexts = None if own_token else table.new_empty(len(positions), n_models, n_sequences)
        slots = {t: slot for slot, t in enumerate(positions)}
        lost = algebra.faint(algebra.represent(initial)[:, None], floor).expand(n_models, n_sequences)

        totals = []
        for t, (predicted, filtered, total) in enumerate(forward(algebra, initial[:, None], transition, table, ids)):
            lost = lost | algebra.faint(filtered, floor)
            totals.append(total[..., 0])
            if t in slots:
                marginals[slots[t]] = filtered if own_token else predicted
        log_totals = algebra.logarithm(torch.stack(totals))
        log_evidence = log_totals.sum(0)

        law_of_start = algebra.represent(initial)[:, None]
        start = law_of_start
        log_after = table.new_zeros(n_models, n_sequences)  # of the message's totals
        steps = zip(range(length - 1, -2, -1), backward(algebra, transition, table, ids), strict=True)
        for t, (message, message_total) in steps:
            lost = lost | algebra.faint(message, floor)
            if log_contexts is not None:
                log_after = log_after + algebra.logarithm(message_total[..., 0])
            if t in slots or t < 0:
                before = marginals[slots[t]] if t >= 0 else law_of_start
                law, total = algebra.normalise(algebra.weigh(before, message))
                lost = lost | algebra.cancels(total[..., 0])
                if t >= 0:
                    marginals[slots[t]] = algebra.probabilities(law)
                    if log_contexts is not None:
                        log_before = log_totals[:t].sum(0)
                        log_contexts[slots[t]] = log_before + algebra.logarithm(total[..., 0]) + log_after
                else:
                    start = algebra.probabilities(law)
        if log_contexts is not None:
            log_contexts = log_contexts.permute(1, 2, 0)
        return ForwardBackward(log_evidence, start, marginals.permute(1, 2, 0, 3), log_contexts), lost

    @torch.no_grad()
    def messages(
        self, transition: Transition, table: Table, ids: Ids, positions: Sequence[int]
    ) -> tuple[Messages, Lost]:
        """Return backward messages after positions."""
        algebra, floor = self.algebra, Floor.of(transition, table)
        lost = torch.zeros(ids.shape[:2], dtype=torch.bool, device=ids.device)
        messages: dict[int, Tensor] = {}
        log_scales: dict[int, Tensor] = {}
        log_scale = table.new_zeros(ids.shape[:2])
        steps = zip(range(ids.shape[-1] - 1, -2, -1), backward(algebra, transition, table, ids), strict=True)
        for t, (message, total) in steps:
            lost = lost | algebra.faint(message, floor)
            log_scale = log_scale + algebra.logarithm(total[..., 0])
            if t in positions:
                messages[t], log_scales[t] = algebra.probabilities(message), log_scale
            if len(messages) == len(set(positions)):
                break
        stacked = torch.stack([messages[t] for t in positions], dim=2)
        return Messages(stacked, torch.stack([log_scales[t] for t in positions], dim=2)), lost

    @torch.no_grad()
    def gradient(
        self, initial: Initial, transition: Transition, table: Table, ids: Ids, weights: Tensor
    ) -> tuple[Gradient, Lost]:
        """Return expected counts over parameters, by one pass each way; memory O(B·T·K). Not in logarithms.

        ∂ log P(x) / ∂ A[i,j] = Σ_t filtered_{t-1}(i) after_t(j) / z_t, after_t = row_t · message_t and z_t its total
        with predicted_t; for a row it is Σ_t predicted_t message_t / z_t, for the initial law f / Σ_h π₀(h) f(h).
        """
        algebra, floor = self.algebra, Floor.of(transition, table)
        counted = weights != 0
        start = initial[:, None].expand(-1, ids.shape[1], -1)
        lost = algebra.faint(start, floor).expand(counted.shape)
        predicted, before = [], [start]
        for law, filtered, _ in forward(algebra, start, transition, table, ids):
            lost = lost | algebra.faint(filtered, floor)
            predicted.append(law)
            before.append(filtered)

        def share(total: Tensor) -> Tensor:  # of each sequence's weight, (P,B,1)
            return torch.where(counted & (total > 0), weights / torch.where(total > 0, total, 1), 0)[..., None]

        likelihood = rows_by_time(table, ids)
        of_rows, of_moves = torch.zeros_like(table), torch.zeros_like(transition)
        each_row = of_rows.view(-1, table.shape[-1])
        offsets = table.shape[1] * torch.arange(len(ids), device=ids.device)[:, None]
        message = start
        steps = zip(range(ids.shape[-1] - 1, -2, -1), backward(algebra, transition, table, ids), strict=True)
        for t, (message, _) in steps:
            lost = lost | algebra.faint(message, floor)
            if t < 0:
                break
            after = message * likelihood(t)
            total = (predicted[t] * after).sum(-1)
            lost = lost | algebra.cancels(total)
            each_row.index_add_(
                0, (ids[..., t] + offsets).flatten(), (predicted[t] * share(total) * message).flatten(0, 1)
            )
            of_moves.baddbmm_(before[t].mT, after * share(total))
        total = (start * message).sum(-1)
        lost = lost | algebra.cancels(total)
        return Gradient((message * share(total)).sum(1), of_moves, of_rows), lost & counted

    @torch.no_grad()
    def best_path(self, initial: Initial, transition: Transition, table: Table, ids: Ids) -> Paths:
        """Return the best path of each sequence."""
        size = LOG_CHUNK_ENTRIES // transition.numel()
        return torch.cat(
            [
                _decode(MAXIMUM, initial, transition, table, ids[:, chunk], 1, lambda law: law.argmax(-1))[0]
                for chunk in chunks(ids.shape[1], size)
            ],
            dim=1,
        )

    @torch.no_grad()
    def sample_paths(
        self,
        initial: Initial,
        transition: Transition,
        table: Table,
        ids: Ids,
        n_draws: int,
        generator: torch.Generator,
    ) -> tuple[Paths, Lost]:
        """Return draws from P(H₀..H_T | x)."""

        def draw(law: Tensor) -> Tensor:
            return categorical(law.softmax(-1) if self.algebra is LOG else law, generator)

        return _decode(self.algebra, initial, transition, table, ids, n_draws, draw)


def _decode(
    algebra: Algebra,
    initial: Initial,
    transition: Transition,
    table: Table,
    ids: Ids,
    n_paths: int,
    choose: Callable[[Tensor], Tensor],
) -> tuple[Paths, Tensor]:
    """Choose h₀..h_T by the weight of each next state, given the ones before and all the text.

    Also say which sequences (P,B) may have lost weight to underflow.
    """
    floor = Floor.of(transition, table)
    messages = [message for message, _ in backward(algebra, transition, table, ids)][::-1]  # message_0..message_T
    lost = torch.zeros(ids.shape[:2], dtype=torch.bool, device=ids.device)
    for message in messages:
        lost = lost | algebra.faint(message, floor)
    initial, transition, table = (algebra.represent(array) for array in (initial, transition, table))
    model = torch.arange(ids.shape[0], device=ids.device)[:, None]
    law = algebra.weigh(initial[:, None], messages[0])[:, :, None].expand(-1, -1, n_paths, -1)
    states = [choose(law)]
    for t, message in enumerate(messages[1:]):
        forth = algebra.weigh(table[model, ids[:, :, t]], message)[:, :, None]
        states.append(choose(algebra.weigh(transition[model[..., None], states[-1]], forth)))
    return torch.stack(states, -1), lost
