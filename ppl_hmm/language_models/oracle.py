"""The perfect masked language model of an HMM: its exact conditionals G."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ppl_hmm.exact import chain
from ppl_hmm.exact.algebra import SCALED, Floor
from ppl_hmm.inference import Prompt, Text, check_positions, likelihood_table, mask_as_row
from ppl_hmm.parameters import HMM, prompt_rows
from ppl_hmm.text import as_tokens


class OracleLM:
    """Exact masked language model of ``model``, or of a batch of models P….

    G_i(x)[v] = Σ_h cavity_i(h) W[h,v]; prompt tokens are likelihood rows u_l (K,), non-negative.
    Source: Wei, Xie & Ma (2021), §2.
    """

    def __init__(self, model: HMM) -> None:
        self.model = model

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
        """(K,): a likelihood for each state."""
        return (self.model.n_states,)

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
        """Return G (P…,B,positions,V), rows of zeros for impossible contexts; errors as ``masked_conditionals``."""
        text = self.encode(tokens, lengths)
        if prompt is not None:
            prompt = prompt_rows(
                prompt, self.prompt_shape, self.batch_shape, nonnegative=True, like=self.model.emission
            )
        return text.conditionals(prompt, positions)


class OracleText:
    """Text encoded by its backward messages, which no prompt changes: a prompt acts on what enters from the left.

    ``tokens`` are checked. Cost O(B·T·K²) at the first use of a position; then, at position 0, O(B·K·V) a prompt.
    """

    def __init__(self, model: HMM, tokens: Tensor) -> None:
        model = model.detach()  # differentiable in prompts, not in parameters
        n_models = model.initial.shape[:-1].numel()
        n_states, vocabulary_size = model.n_states, model.vocabulary_size
        self._batch_shape = model.batch_shape
        self._initial = model.initial.reshape(n_models, n_states)
        self._transition = model.transition.reshape(n_models, n_states, n_states)
        self._emission = model.emission.reshape(n_models, n_states, vocabulary_size)
        self._table = likelihood_table(model)
        ids = mask_as_row(tokens, vocabulary_size).expand(*model.batch_shape, *tokens.shape[-2:])
        self._ids = ids.reshape(n_models, *tokens.shape[-2:])
        self._messages: dict[int, Tensor] = {}

    def conditionals(self, prompt: Tensor | None = None, positions: Sequence[int] | None = None) -> Tensor:
        """Return G (…,P…,B,positions,V) after prompt rows (…,P…,L,K), or (L,K) for all models.

        Differentiable in the rows, but for contexts near underflow, whose gradient is zero. A context of probability
        zero has a row of zeros.
        """
        chosen = check_positions(positions, self._ids.shape[-1])
        n_models, n_states = self._initial.shape
        if prompt is None:
            prompt = self._initial.new_ones(*self._batch_shape, 0, n_states)
        prompt = prompt.to(self._initial)
        prompt = prompt.expand(*torch.broadcast_shapes(prompt.shape[:-2], self._batch_shape), *prompt.shape[-2:])
        n_prompts = prompt.shape[: prompt.ndim - 2 - len(self._batch_shape)].numel()  # as many for each model
        rows = prompt.reshape(n_prompts, n_models, *prompt.shape[-2:])
        conditionals = torch.stack(self._all_conditionals(rows, chosen), dim=-2)
        return conditionals.reshape(*prompt.shape[:-2], *conditionals.shape[2:])

    def _all_conditionals(self, rows: Tensor, chosen: list[int]) -> list[Tensor]:
        """Return G (R,P,B,V) at each chosen position, for prompts (R,P,L,K)."""
        n_prompts = len(rows)
        initial, transition, table, ids = (
            array.expand(n_prompts, *array.shape).flatten(0, 1)
            for array in (self._initial, self._transition, self._table, self._ids[..., : max(chosen) + 1])
        )
        prompts = rows.flatten(0, 1)
        floor = Floor.of(transition, torch.cat([table, prompts], dim=1))
        law = initial
        faint = SCALED.faint(law[:, None], floor)  # (R·P,B or 1): has some weight come near underflow?
        prompt_ids = torch.arange(rows.shape[2], device=rows.device).expand(*law.shape[:1], 1, -1)
        for _, filtered, _ in chain.forward(SCALED, initial, transition, prompts, prompt_ids):
            law = filtered[:, 0]
            faint = faint | SCALED.faint(filtered, floor)
        entered, lost = [], []
        for predicted, filtered, _ in chain.forward(SCALED, law, transition, table, ids):
            entered.append(predicted)
            lost.append(faint)
            faint = faint | SCALED.faint(filtered, floor)
        messages = self._messages_after(chosen)
        return [self._mix(entered[t], lost[t], messages[t], rows, t) for t in chosen]

    def _mix(self, predicted: Tensor, faint: Tensor, message: Tensor, rows: Tensor, position: int) -> Tensor:
        """Return G = Wᵀ cavity (R,P,B,V), the cavity ∝ predicted (R·P,B or 1,K) · message (P,B,K)."""
        predicted = predicted.unflatten(0, (len(rows), -1))
        if predicted.shape[2] == 1:  # The same for all sequences: one product (B,K)·(K,R·V) for each model.
            weights = predicted.transpose(-1, -2) * self._emission  # (R,P,K,V)
            joint = message @ weights.permute(1, 2, 0, 3).flatten(2)
            joint = joint.unflatten(-1, (len(rows), -1)).permute(2, 0, 1, 3)
        else:
            joint = (predicted * message) @ self._emission
        total = joint.sum(-1, keepdim=True)
        limits = torch.finfo(total.dtype)
        lost = total[..., 0] < limits.tiny / limits.eps
        if faint.any():
            lost = lost | faint.expand(lost.shape[0] * lost.shape[1], -1).view(*lost.shape[:2], -1)
        conditionals = joint / torch.where(total > 0, total, 1)
        if lost.any():
            conditionals = conditionals.masked_scatter(lost[..., None], self._rescue(lost, rows, position))
        return conditionals

    @torch.no_grad()
    def _rescue(self, lost: Tensor, rows: Tensor, position: int) -> Tensor:
        """Return G (n_lost,V) by logarithms, for contexts whose scaled weight is zero: underflow, or impossible."""
        prompt, model, sequence = lost.nonzero(as_tuple=True)
        n_prompt = rows.shape[2]
        table = torch.cat([self._table[model], rows[prompt, model]], dim=1)
        prompt_ids = self._table.shape[1] + torch.arange(n_prompt, device=rows.device).expand(len(model), -1)
        ids = torch.cat([prompt_ids, self._ids[model, sequence]], dim=-1)[:, None]
        cavity = chain.forward_backward(
            self._initial[model], self._transition[model], table, ids, [n_prompt + position], own_token=False
        ).marginals[:, 0]
        return (cavity @ self._emission[model])[:, 0]

    def _messages_after(self, positions: list[int]) -> dict[int, Tensor]:
        missing = [t for t in positions if t not in self._messages]
        if missing:
            messages = chain.messages_at(self._transition, self._table, self._ids, missing)
            self._messages |= dict(zip(missing, messages.unbind(2), strict=True))
        return self._messages
