"""How far a language model is from the best one, on held-out text of a known model."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.randomness import generator
from ppl_hmm.errors import InvalidInput
from ppl_hmm.language_models.corpora import Corpus
from ppl_hmm.language_models.objectives import cross_entropy, token_laws
from ppl_hmm.language_models.trained import Example, TrainedLM


class HeldOut(NamedTuple):
    """Held-out text as it is read, its tokens, and the best laws of them where the model is known."""

    tokens: Tensor  # (B,T)
    example: Example
    optimum: Tensor | None  # (B,T,V)
    best_read: Tensor | None  # (B,V): the best laws at the read position

    @classmethod
    def of(cls, lm: TrainedLM, corpus: Corpus, seed: int) -> HeldOut:
        """Return what a language model is measured on all along its training.

        Raises
        ------
        InvalidInput
            Nothing of the text is predicted: it is masks.
        """
        tokens = corpus.held_out
        example = lm.example(tokens, generator(seed, "held-out masks"))
        if not example.predicted.any():
            remedy = "train on more text, less of it masked"
            raise InvalidInput("held-out text", "tokens to predict", "only masks", remedy)
        if corpus.model is None:
            return cls(tokens, example, None, None)
        best_read = lm.optimum(corpus.model, tokens)[:, lm.read_position]
        return cls(tokens, example, lm.optimum(corpus.model, example.read), best_read)

    @torch.no_grad()
    def measured(self, lm: TrainedLM) -> dict[str, float]:
        """Return the loss in nats a token; beside a known model, the excess over the best loss and total variation.

        The excess is the mean divergence KL(best‖law) over all predicted tokens, and at the read position: what the
        cross-entropy exceeds its optimum by in expectation, without the noise of the tokens that were drawn.
        """
        predicted = self.example.predicted
        laws = lm.laws(lm.logits(self.example.read))[predicted].double()
        target = token_laws(self.tokens, lm.vocabulary_size)[predicted].to(laws)
        found = {schema.LOSS: cross_entropy(laws, target).mean().item()}
        if self.optimum is not None and self.best_read is not None:
            best, best_read = self.optimum[predicted].to(laws), self.best_read.to(laws)
            read = lm.law_read(self.tokens).double()
            found[schema.EXCESS] = divergence(best, laws).mean().item()
            found[schema.EXCESS_AT_READ_POSITION] = divergence(best_read, read).mean().item()
            found[schema.TOTAL_VARIATION] = total_variation(best_read, read).mean().item()
        return found


def divergence(best: Tensor, laws: Tensor) -> Tensor:
    """Return KL(best‖law) (…) in nats."""
    return (cross_entropy(laws, best) - cross_entropy(best, best)).clamp(min=0)


def total_variation(best: Tensor, laws: Tensor) -> Tensor:
    """Return half the absolute difference (…) of laws (…,V)."""
    return 0.5 * (best - laws).abs().sum(-1)
