"""What heads and prompts need of a masked language model, exact or trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from ppl_hmm.rows import Prompt, Text


class EncodedText(Protocol):
    """Text with all prompt-free work done, once."""

    def conditionals(self, prompt: Tensor | None = None, positions: Sequence[int] | None = None) -> Tensor:
        """Return G (P…,B,positions,V) after ``prompt`` rows (P…,L,*prompt_shape); differentiable in them.

        Leading dimensions of the prompt before P… are kept in front of the result: many prompts on one text. A row of
        zeros stands where the model gives the context probability zero.
        """
        ...


@runtime_checkable
class MaskedLM(Protocol):
    """A masked language model: G_i(x)[v] = P(X_i=v | x_{-i})."""

    @property
    def vocabulary_size(self) -> int:
        """V."""
        ...

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """P…: the shape of a batch of language models; empty for one."""
        ...

    @property
    def prompt_shape(self) -> tuple[int, ...]:
        """Shape of one prompt token: (K,) for an exact HMM, (d_model,) for a trained model."""
        ...

    @property
    def prompt_constraint(self) -> Literal["nonnegative", "real"]:
        """Whether prompt entries are likelihoods (non-negative) or embeddings (real)."""
        ...

    def encode(self, tokens: Text, lengths: Text | None = None) -> EncodedText:
        """Return the text (B,T), or (P…,B,T), with all prompt-free work done."""
        ...

    def conditionals(
        self,
        tokens: Text,
        *,
        prompt: Prompt | None = None,
        positions: Sequence[int] | None = None,
        lengths: Text | None = None,
    ) -> Tensor:
        """Return G (P…,B,positions,V) at ``positions`` (all by default); position 0 is the first token as passed."""
        ...
