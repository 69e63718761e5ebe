"""What the exact language models of an HMM share, masked and causal: sizes, names and soft tokens."""

from __future__ import annotations

from typing import Literal

from ppl_hmm.base.labels import Names
from ppl_hmm.models.kinds import Model, prompt_shape


class ExactLM:
    """The language model of a model, or of a batch of models P…."""

    model: Model

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
