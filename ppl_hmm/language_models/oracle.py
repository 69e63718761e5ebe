"""The perfect masked language model of an HMM, with or without memory: its exact conditionals G."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_hmm.base.records import broadcast_shapes
from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.exact import masks, prompted
from ppl_hmm.inference.queries import masked_conditionals
from ppl_hmm.inference.rows import LikelihoodRows, model_prompt, require_kind
from ppl_hmm.language_models.exact import ExactLM
from ppl_hmm.models.kinds import Model, Prompt, Text, by_memory_value, prompt_shape


class OracleLM(ExactLM):
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
        self._encoded = prompted.Encoded.of(self._rows.text, model.vocabulary_size)
        self._behind: dict[int, prompted.Behind] = {}

    def conditionals(self, prompt: Tensor | None = None, positions: Sequence[int] | None = None) -> Tensor:
        """Return G (…,P…,B,positions,V) after prompt rows (…,P…,L,*prompt_shape), or (L,*prompt_shape) for all models.

        Differentiable in the rows, but for contexts near underflow, whose gradient is zero. A context of probability
        zero has a row of zeros.
        """
        batch_shape, shape = self._model.batch_shape, prompt_shape(self._model)
        chosen, initial = self._rows.positions(positions), self._model.initial
        prompt = (initial.new_ones(0, *shape) if prompt is None else prompt).to(initial)
        own = slice(-1 - len(shape), None)
        leading = broadcast_shapes(prompt.shape[: own.start], batch_shape)
        rows = prompt.expand(*leading, *prompt.shape[own])
        n_prompts = leading[: len(leading) - len(batch_shape)].numel()  # as many for each model
        rows = rows.reshape(n_prompts, math.prod(batch_shape), *rows.shape[own])
        rows = by_memory_value(self._model, rows.movedim(2, -1))  # (R,P,m,L,K)
        left, right = prompted.entering(self._encoded, rows, max(chosen)), self._behind_positions(chosen)
        each = [prompted.conditionals(self._encoded, rows, left[t], right[t], t) for t in chosen]
        conditionals = torch.stack(each, dim=-2)
        return conditionals.reshape(*leading, *conditionals.shape[2:])

    def at_masks(self, n_masks: int) -> Tensor:
        """Return G (P…,B,J,V) at J masks in front of the text, in place of the one that it begins with.

        Cost O(B·K·J·V), once the message behind that mask is known.
        """
        found = masks.conditionals(self._encoded, self._behind_positions([0])[0], n_masks)
        return found.reshape(*self._model.batch_shape, *found.shape[1:])

    def _behind_positions(self, positions: list[int]) -> dict[int, prompted.Behind]:
        """Return the messages after positions, computing those that are missing."""
        missing = [t for t in positions if t not in self._behind]
        if missing:
            self._behind |= zip(missing, prompted.behind(self._encoded, missing), strict=True)
        return self._behind
