"""The perfect masked language model of an HMM, with or without memory: its exact conditionals G."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ppl_hmm.base.labels import Names
from ppl_hmm.base.records import broadcast_shapes
from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.exact import chain, mixture, recursion
from ppl_hmm.exact.algebra import LINEAR, SCALED, Floor
from ppl_hmm.exact.configurations import select_rows
from ppl_hmm.inference.queries import masked_conditionals
from ppl_hmm.inference.rows import LikelihoodRows, model_prompt, require_kind
from ppl_hmm.models.kinds import Model, Prompt, Text, by_memory_value, prompt_shape


class OracleLM:
    """Exact masked language model of ``model``, or of a batch of models P….

    G_i(x)[v] = Σ_h cavity_i(h) W[h,v]; prompt tokens are likelihood rows u_l, non-negative: (K,), or (m,K) for a
    :class:`~ppl_hmm.MemoryHMM`. Source: Wei, Xie & Ma (2021), §2.

    See Also
    --------
    ppl_hmm.MaskedLM : What every language model offers.
    ppl_hmm.probe_features, ppl_hmm.masked_features : Features for heads.
    ppl_hmm.masked_conditionals : The same conditionals of a model.

    Examples
    --------
    >>> from ppl_hmm import HMM, OracleLM
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> lm = OracleLM(model)
    >>> lm.conditionals([[0, 1, 1]], positions=[0]).numpy().round(3)
    array([[[0.256, 0.744]]])
    >>> lm.prompt_shape  # a prompt token is a likelihood for each of two states
    (2,)
    """

    def __init__(self, model: Model) -> None:
        require_kind("model of an OracleLM", model)
        self.model = model

    @property
    def names(self) -> Names:
        """Names of the model's states, which named prompts are aligned to."""
        return self.model.names

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.model.vocabulary_size

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """P…."""
        return self.model.batch_shape

    @property
    def prompt_shape(self) -> tuple[int, ...]:
        """(K,), a likelihood for each state; (m,K) with a memory, for each value of the cell that it reads."""
        return prompt_shape(self.model)

    @property
    def prompt_constraint(self) -> Literal["nonnegative", "real"]:
        """Likelihoods are non-negative."""
        return "nonnegative"

    def encode(self, tokens: Text, lengths: Text | None = None) -> OracleText:
        """Return checked text whose backward messages are computed once, at the first use of a position."""
        return OracleText(
            self.model,
            as_tokens(
                tokens, self.vocabulary_size, lengths=lengths, batch_shape=self.batch_shape, device=self.model.device
            ),
        )

    def conditionals(
        self,
        tokens: Text,
        *,
        prompt: Prompt | None = None,
        positions: Sequence[int] | None = None,
        lengths: Text | None = None,
    ) -> Tensor:
        """Return G (P…,B,positions,V), rows of zeros for impossible contexts; errors as ``masked_conditionals``.

        Differentiable in the prompt where it requires a gradient.
        """
        if prompt is not None:
            prompt = model_prompt(self.model, prompt)
            if prompt.requires_grad:
                return self.encode(tokens, lengths).conditionals(prompt, positions)
        return masked_conditionals(
            self.model, tokens, prompt=prompt, positions=positions, lengths=lengths, impossible="mask"
        )


class OracleText:
    """Text encoded by its backward messages, which no prompt changes: a prompt acts on what enters from the left.

    ``tokens`` are checked. Cost O(C·B·T·K²) at the first use of a position, C = m^N memories (1 for an HMM); then, at
    position 0, O(C·B·K·V) a prompt. Text and messages of all memories are kept: O(C·B·T), and O(C·B·K) a position.
    """

    def __init__(self, model: Model, tokens: Tensor) -> None:
        self._model = model.detach()  # differentiable in prompts, not in parameters
        self._rows = LikelihoodRows.of(self._model, tokens)
        text = self._rows.text
        self._chains = mixture.block_of(text, range(text.n_memories))
        tables = self._chains.table.unflatten(1, (text.n_memories, -1))
        self._emission = tables[:, :, : model.vocabulary_size].mT  # (P,C,K,V)
        self._messages: dict[int, tuple[Tensor, Tensor]] = {}

    def conditionals(self, prompt: Tensor | None = None, positions: Sequence[int] | None = None) -> Tensor:
        """Return G (…,P…,B,positions,V) after prompt rows (…,P…,L,*prompt_shape), or (L,*prompt_shape) for all models.

        Differentiable in the rows, but for contexts near underflow, whose gradient is zero. A context of probability
        zero has a row of zeros.
        """
        batch_shape, shape = self._model.batch_shape, prompt_shape(self._model)
        chosen = self._rows.positions(positions)
        prompt = (self._chains.initial.new_ones(0, *shape) if prompt is None else prompt).to(self._chains.initial)
        own = slice(-1 - len(shape), None)
        leading = broadcast_shapes(prompt.shape[: own.start], batch_shape)
        rows = prompt.expand(*leading, *prompt.shape[own])
        n_prompts = leading[: len(leading) - len(batch_shape)].numel()  # as many for each model
        rows = rows.reshape(n_prompts, len(self._chains.initial), *rows.shape[own])
        rows = by_memory_value(self._model, rows.movedim(2, -1))  # (R,P,m,L,K)
        entered = self._entered(rows, max(chosen))
        messages = self._messages_after(chosen)
        conditionals = torch.stack([self._mix(entered[t], *messages[t], rows, t) for t in chosen], dim=-2)
        return conditionals.reshape(*leading, *conditionals.shape[2:])

    def _entered(self, rows: Tensor, last: int) -> list[_Entered]:
        """Return what enters each position up to the last, from the left, after prompts (R,P,m,L,K)."""
        chains, n_prompts, n_memories = self._chains, len(rows), len(self._chains.memories)
        # R prompts under C memories are R·C sequences of likelihood rows, all different.
        prompts = select_rows(rows.mT, self._rows.text.cell_of_state, chains.memories).mT  # (R,P,C,L,K)
        prompts = prompts.transpose(0, 1).flatten(1, 3)
        n_models, n_sequences = len(chains.initial), self._rows.text.ids.shape[1]
        prompt_ids = torch.arange(prompts.shape[1], device=rows.device)
        prompt_ids = prompt_ids.view(1, n_prompts * n_memories, -1).expand(n_models, -1, -1)
        floor = Floor.of(chains.transition, torch.cat([chains.table, prompts], dim=1))

        law = chains.initial[:, None]
        faint = SCALED.faint(law, floor).expand(n_models, n_prompts * n_memories)
        law, log_weight = law.expand(-1, n_prompts * n_memories, -1), chains.log_prior.repeat(1, n_prompts)
        start = law
        for _, law, total in recursion.forward(LINEAR, start, chains.transition, prompts, prompt_ids):
            log_weight, faint = log_weight + _log_divisor(total), faint | SCALED.faint(law, floor)

        def unfold(values: Tensor) -> Tensor:
            return values.view(n_models, n_prompts, n_memories, -1, *values.shape[2:])

        entered = [_Entered(*map(unfold, (law @ chains.transition, log_weight, faint)))]
        if last > 0:
            start, log_weight, faint = (part.repeat_interleave(n_sequences, dim=1) for part in (law, log_weight, faint))
            ids = chains.ids[..., :last].repeat(1, n_prompts, 1)
            for _, law, total in recursion.forward(LINEAR, start, chains.transition, chains.table, ids):
                log_weight, faint = log_weight + _log_divisor(total), faint | SCALED.faint(law, floor)
                entered.append(_Entered(*map(unfold, (law @ chains.transition, log_weight, faint))))
        return entered

    def _mix(self, entered: _Entered, message: Tensor, log_scale: Tensor, rows: Tensor, position: int) -> Tensor:
        """Return G = Σ_M P(M | context) Wᵀ cavity (R,P,B,V); the cavity is ∝ law · message (P,C,B,K)."""
        law, log_weight, faint = entered
        n_memories = len(self._chains.memories)
        if n_memories == 1 and law.shape[3] == 1:
            # The same for all sequences: one product (B,K)·(K,R·V) for each model.
            weights = law[:, :, 0].mT * self._emission  # (P,R,K,V)
            joint = message[:, 0] @ weights.transpose(1, 2).flatten(2)
            joint = joint.unflatten(-1, (len(rows), -1)).permute(2, 0, 1, 3)
        else:
            log_joint, limits = log_weight + log_scale[:, None], torch.finfo(law.dtype)  # (P,R,C,B)
            possible = (law.detach() > 0).any(-1)
            top = torch.where(possible, log_joint, -torch.inf).amax(2, keepdim=True).clamp(min=limits.min)
            # A memory that is impossible adds to the derivative alone: a law of zeros, of any weight.
            weight = (log_joint - top).clamp(max=math.log(limits.max) / 2).exp()
            cavity = law * message[:, None] * weight[..., None]  # (P,R,C,B,K)
            joint = (cavity @ self._emission[:, None]).sum(2).transpose(0, 1)
        total = joint.sum(-1, keepdim=True)
        limits = torch.finfo(total.dtype)
        lost = total[..., 0] < limits.tiny / limits.eps
        if faint.any():
            lost = lost | faint.any(2).transpose(0, 1)
        conditionals = joint / torch.where(total > 0, total, 1)
        if lost.any():
            conditionals = conditionals.masked_scatter(lost[..., None], self._rescue(lost, rows, position))
        return conditionals

    @torch.no_grad()
    def _rescue(self, lost: Tensor, rows: Tensor, position: int) -> Tensor:
        """Return G (n_lost,V) by logarithms, for contexts whose scaled weight is zero: underflow, or impossible."""
        prompt, model, sequence = lost.nonzero(as_tuple=True)
        text, n_prompt = self._rows.text, rows.shape[3]
        table = torch.cat([text.table[model], rows[prompt, model]], dim=2)
        prompt_ids = text.table.shape[2] + torch.arange(n_prompt, device=rows.device).expand(len(model), -1)
        ids = torch.cat([prompt_ids, text.ids[model, sequence]], dim=-1)[:, None]
        picked = mixture.MemoryText(
            text.memory_prior[model], text.cell_of_state[model], text.initial[model], text.transition[model], table, ids
        )
        return mixture.conditionals(picked, [n_prompt + position], self._model.vocabulary_size)[:, 0, 0]

    def _messages_after(self, positions: list[int]) -> dict[int, tuple[Tensor, Tensor]]:
        """Return the messages (P,C,B,K) after positions, and the logarithms (P,C,B) of their scales."""
        missing = [t for t in positions if t not in self._messages]
        if missing:
            found = chain.messages_at(*self._chains.arrays[1:], missing)
            messages, log_scales = (self._chains.unfold(part) for part in found)
            self._messages |= {t: (messages[..., i, :], log_scales[..., i]) for i, t in enumerate(missing)}
        return self._messages


class _Entered(NamedTuple):
    """What enters a position from the left, after R prompts under C memories; #B = 1 where all sequences share it."""

    law: Tensor  # (P,R,C,#B,K): of the hidden state there
    log_weight: Tensor  # (P,R,C,#B): log P(M, prompt, text before); once M is impossible, the last value before
    faint: Tensor  # (P,R,C,#B): has some weight come near underflow?


def _log_divisor(total: Tensor) -> Tensor:
    """Return the logarithms (P,B) of what laws were divided by: nothing where they are impossible."""
    return torch.where(total > 0, total, 1)[..., 0].log()
