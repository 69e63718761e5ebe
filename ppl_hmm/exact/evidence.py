"""log P(x) of chains with a memory, as a differentiable function: log Σ_M P(M) P(x|M)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ppl_hmm.exact import chain, mixture
from ppl_hmm.exact.algebra import log_sum_exp
from ppl_hmm.exact.counts import require_numbers
from ppl_hmm.exact.derivatives import differentiable
from ppl_hmm.exact.mixture import Block, MemoryText


def log_evidence(text: MemoryText) -> Float[Tensor, "P B"]:
    """Return log P(x) in nats, −inf for impossible text, differentiable. Cost O(C·B·T·K²)."""
    if text.n_memories == 1:
        return chain.log_evidence(text.only_chain)
    evidence = _Evidence(text.cell_of_state, text.ids)
    return differentiable(evidence, text.memory_prior, text.initial, text.transition, text.table)


class _Evidence:
    """log P(x) = log Σ_M P(M) P(x|M) by the parameters: an :class:`~ppl_hmm.exact.derivatives.Evidence`.

    A memory under which the text is impossible adds P(M) ∂P(x|M) / P(x), which need not be zero where a parameter is.
    """

    def __init__(self, cell_of_state: Tensor, ids: Tensor) -> None:
        self._cell_of_state, self._ids = cell_of_state, ids

    def _text(self, *parameters: Tensor) -> MemoryText:
        memory_prior, initial, transition, table = parameters
        return MemoryText(memory_prior, self._cell_of_state, initial, transition, table, self._ids)

    def value(self, *parameters: Tensor) -> Tensor:
        """Return log P(x), and keep log P(x|M) of each block."""
        self._log_given, log_joint = [], []
        for block in mixture.blocks(self._text(*parameters)):
            self._log_given.append(block.unfold(chain.evidence_of(block.chain)))  # (P,C,B)
            log_joint.append(block.log_prior[..., None] + self._log_given[-1])
        self._log_evidence = log_sum_exp(torch.cat(log_joint, dim=1), dim=1)
        return self._log_evidence

    def gradient(self, weights: Tensor, *parameters: Tensor) -> list[Tensor]:
        """Return expected counts by the prior of each cell, and by the chain's parameters."""
        whole = self._text(*parameters)
        text = whole.with_rows_of_text()
        of_prior, of_initial, of_transition, of_read = (
            torch.zeros_like(part) for part in (*parameters[:-1], text.table)
        )
        divisor = torch.where(weights != 0, self._log_evidence, torch.inf)[:, None]
        for block, log_given in zip(mixture.blocks(text), self._log_given, strict=True):
            possible, n_memories = log_given > -torch.inf, len(block.memories)
            counts = chain.log_evidence_gradient(
                block.chain,
                weights.repeat(1, n_memories),
                log_shares=(block.log_prior[..., None] + torch.where(possible, log_given, 0) - divisor).flatten(1),
                possible=possible.flatten(1),
            )
            of_rows = counts.table.unflatten(1, (n_memories, -1))
            reads = text.values_read(block.memories)[:, :, None].expand_as(of_rows)
            of_prior += _prior_counts(block, log_given - divisor, weights)
            of_initial += counts.initial
            of_transition += counts.transition
            of_read.scatter_add_(1, reads, of_rows)
        of_table = torch.zeros_like(whole.table)
        of_table[:, :, whole.rows_of_text] = of_read
        gradient = {"memory_prior": of_prior, "initial": of_initial, "transition": of_transition, "table": of_table}
        require_numbers(gradient)
        return list(gradient.values())

    def tape(self, *parameters: Tensor) -> Tensor:
        """Return log P(x) as torch's tape sees it; a memory that is impossible counts as a constant."""
        every = mixture.blocks(self._text(*parameters))
        logs = [block.log_prior[..., None] + block.unfold(chain.taped(block.chain)) for block in every]
        return log_sum_exp(torch.cat(logs, dim=1), dim=1)


def _prior_counts(block: Block, log_ratio: Float[Tensor, "P C B"], weights: Float[Tensor, "P B"]) -> Tensor:
    """Return Σ_b weights_b Σ_M ∂P(M) / ∂P(M_j=a) · exp(log_ratio) (P,N,m): the prior of all cells but j."""
    n_models, _, n_cells = block.log_priors.shape
    result = weights.new_zeros(n_models, n_cells, block.n_values)
    log_terms = log_ratio + weights.abs().log()[:, None]
    for cell in range(n_cells):
        of_others = torch.cat([block.log_priors[..., :cell], block.log_priors[..., cell + 1 :]], -1).sum(-1)
        terms = (of_others[..., None] + log_terms).exp() * weights.sign()[:, None]
        result[:, cell].index_add_(1, block.memories[:, cell].to(terms.device), terms.sum(-1))
    return result
