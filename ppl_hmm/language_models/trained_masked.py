"""What trained masked language models share: conditionals of encoded text, read at the mask in front of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from ppl_hmm.inference.queries import masked_conditionals
from ppl_hmm.language_models.protocol import EncodedText
from ppl_hmm.language_models.trained import TrainedLM
from ppl_hmm.models.kinds import Model, Prompt, Text


class TrainedMaskedLM(TrainedLM):
    """A masked language model whose parameters are learned."""

    @abstractmethod
    def encode(self, tokens: Text, lengths: Text | None = None) -> EncodedText:
        """Return checked text (B,T) with all prompt-free work done."""

    @property
    def read_position(self) -> int:
        """The mask in front of the text."""
        return 0

    def law_read(self, text: Tensor) -> Tensor:
        """Return G (B,V) of the first token."""
        return self.conditionals(text, positions=[self.read_position])[:, 0]

    def conditionals(
        self,
        tokens: Text,
        *,
        prompt: Prompt | None = None,
        positions: Sequence[int] | None = None,
        lengths: Text | None = None,
    ) -> Tensor:
        """Return G (B,positions,V), all positions by default; differentiable in the prompt where it asks for that."""
        rows = None if prompt is None else self.soft_rows(prompt)
        return self.encode(tokens, lengths).conditionals(rows, positions)

    def optimum(self, model: Model, read: Tensor) -> Tensor:
        """Return exact masked conditionals G (B,T,V)."""
        return masked_conditionals(model, read, impossible="mask")
