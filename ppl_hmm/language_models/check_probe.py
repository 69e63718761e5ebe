"""A language model under test, with the texts and the prompts it is tested with."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU, generator
from ppl_hmm.language_models.checked import Fault
from ppl_hmm.language_models.protocol import CAUSAL, checked_conditionals, text_vocabulary_size

_TEXTS, _LENGTH = 3, 6
_OTHER_LENGTH = 4  # of the text that ends early


class Probe:
    """A language model under test, the texts and the prompts it is tested with."""

    def __init__(self, lm: Any, tokens: Any) -> None:
        self.lm = lm
        self._tokens = tokens

    @property
    def tokens(self) -> Tensor:
        """(B,T) without masks."""
        if self._tokens is not None:
            return torch.as_tensor(self._tokens).long()
        stream = generator(0, "check: texts")
        return self._words[torch.randint(len(self._words), (_TEXTS, _LENGTH), generator=stream, device=CPU)]

    @functools.cached_property
    def _words(self) -> Tensor:
        """The tokens that texts may hold: all but special ones, which a language model may name by ``not_text``."""
        special = getattr(self.lm, "not_text", ())
        words = [each for each in range(text_vocabulary_size(self.lm)) if each not in special]
        return torch.tensor(words, device=CPU)

    @property
    def lengths(self) -> Tensor:
        """(B,): the first text ends early."""
        n_texts, length = self.tokens.shape
        return torch.tensor([min(_OTHER_LENGTH, length - 1), *[length] * (n_texts - 1)], device=CPU)

    def changed(self, position: int) -> Tensor:
        """Return the tokens with another one at a position of each text."""
        changed = self.tokens.clone()
        words = self._words.to(changed.device)
        places = torch.searchsorted(words, changed[:, position].contiguous())
        changed[:, position] = words[(places + 1) % len(words)]
        return changed

    def prompt(self, *leading: int, seed: int = 0) -> Tensor:
        """Return prompts of two soft tokens (…,P…,2,*prompt_shape) that the constraint allows."""
        shape = (*leading, *self.lm.batch_shape, 2, *self.lm.prompt_shape)
        rows = torch.randn(shape, generator=generator(seed, "check: prompt"), dtype=torch.float64, device=CPU)
        return rows.exp() if self.lm.prompt_constraint == "nonnegative" else rows

    def conditionals(
        self, tokens: Tensor, positions: Sequence[int] | None = None, prompt: Tensor | None = None, **options: Any
    ) -> Tensor:
        """Return checked G (P…,B,positions,V)."""
        n_positions = tokens.shape[-1] if positions is None else len(positions)
        shape = (*self.lm.batch_shape, len(tokens), n_positions, self.lm.vocabulary_size)
        found = self.lm.conditionals(tokens, positions=positions, prompt=prompt, **options)
        return checked_conditionals(self.lm, found, shape)

    def laws_after(self, tokens: Tensor, prompt: Tensor | None = None, **options: Any) -> Tensor:
        """Return checked laws (P…,B,V) of the token after each text."""
        shape = (*self.lm.batch_shape, len(tokens), self.lm.vocabulary_size)
        return checked_conditionals(self.lm, self.lm.law_after(tokens, prompt=prompt, **options), shape, CAUSAL)

    def next_token_laws(self, tokens: Tensor, prompt: Tensor | None = None, **options: Any) -> Tensor:
        """Return checked laws (P…,B,T+1,V) of the token after each prefix."""
        shape = (*self.lm.batch_shape, len(tokens), tokens.shape[-1] + 1, self.lm.vocabulary_size)
        return checked_conditionals(self.lm, self.lm.next_token_laws(tokens, prompt=prompt, **options), shape, CAUSAL)

    def require_gradient(self, laws: Tensor, prompt: Tensor) -> None:
        """Raise a :class:`Fault` unless laws are differentiable in a prompt, with gradients that are finite."""
        remedy = "compute laws by torch operations on the prompt rows, outside torch.no_grad()"
        if not laws.requires_grad:
            raise Fault("the laws do not depend on the prompt for torch.autograd", remedy)
        (gradient,) = torch.autograd.grad(laws[..., 0].sum(), [prompt], allow_unused=True)
        if gradient is None or not torch.isfinite(gradient).all() or not gradient.any():
            got = "none" if gradient is None else ("zero" if torch.isfinite(gradient).all() else "NaN or infinity")
            raise Fault(f"gradient in the prompt: {got}", remedy)
