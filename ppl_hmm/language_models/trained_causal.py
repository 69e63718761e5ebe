"""What trained causal language models share: laws after prefixes, after suffixes, activations."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from ppl_hmm.base.tokens import MASK, as_text_with_ends
from ppl_hmm.inference.beliefs import beliefs
from ppl_hmm.inference.suffixes import Suffix, template_tokens
from ppl_hmm.language_models.following import followed
from ppl_hmm.language_models.trained import Example, TrainedLM, only_for
from ppl_hmm.models.kinds import Model, Prompt, Text


class TrainedCausalLM(TrainedLM):
    """A causal language model whose parameters are learned; a learned embedding begins every text."""

    begin: nn.Parameter  # (width,)

    @abstractmethod
    def layer_states(self, inputs: Tensor) -> list[Tensor]:
        """Return the states (B,N,width) of each layer at N embeddings (B,N,width), each told of those before it."""

    @abstractmethod
    def scores(self, states: Tensor) -> Tensor:
        """Return scores (…,V) of the next token from states of the last layer."""

    @property
    def read_position(self) -> int:
        """The end of the text."""
        return -1

    def law_read(self, text: Tensor) -> Tensor:
        """Return the law (B,V) of the last token."""
        return self.law_after(text[:, : self.read_position])

    def logits(self, tokens: Text, *, lengths: Text | None = None) -> Tensor:
        """Return scores (B,T,V) of every token given those before it, differentiable in parameters."""
        text = self.checked(tokens, lengths)
        return self.scores(self.layer_states(self._inputs(self.embedded(text[:, :-1])))[-1])

    def next_token_laws(self, tokens: Text, *, prompt: Prompt | None = None, lengths: Text | None = None) -> Tensor:
        """Return P(X_{t+1} | x_1..x_t) (B,T+1,V), t = 0..T; differentiable in the prompt where it asks for that."""
        text, _ = self._text(tokens, lengths)
        soft = None if prompt is None else self.soft_rows(prompt)
        with only_for(soft):
            states = self.layer_states(self._inputs(self.embedded(text), soft))[-1]
            return self.laws(self.scores(states[:, 0 if soft is None else len(soft) :]))

    def law_after(
        self,
        tokens: Text,
        *,
        prompt: Prompt | None = None,
        suffix: Suffix | None = None,
        lengths: Text | None = None,
    ) -> Tensor:
        """Return the law (B,V) of the token after text and suffix; differentiable in soft tokens that ask for that."""
        text, ends = self._text(tokens, lengths)
        soft = None if prompt is None else self.soft_rows(prompt)
        after = self._suffix(suffix)
        with only_for(soft, after):
            inputs = self._inputs(followed(self.embedded(text), ends, after), soft)
            last = (0 if soft is None else len(soft)) + ends + len(after)
            states = self.layer_states(inputs)[-1]
            return self.laws(self.scores(states[torch.arange(len(text), device=text.device), last]))

    def activations(self, tokens: Text, *, lengths: Text | None = None) -> dict[str, Tensor]:
        """Return activations (B,T,width) after each token, t = 1..T, by layer: ``layer 1``, …."""
        with torch.no_grad():
            text, _ = self._text(tokens, lengths)
            states = self.layer_states(self._inputs(self.embedded(text)))
            return {f"layer {number}": each[:, 1:] for number, each in enumerate(states, 1)}

    def example(self, text: Tensor, stream: torch.Generator) -> Example:  # noqa: ARG002  nothing is drawn
        """Return texts as they are: every token is predicted from those before it."""
        return Example(text, text != MASK)

    def optimum(self, model: Model, read: Tensor) -> Tensor:
        """Return exact next-token laws (B,T,V) before each token."""
        return beliefs(model, read, impossible="mask").next_token[:, :-1]

    def _text(self, tokens: Text, lengths: Text | None) -> tuple[Tensor, Tensor]:
        return as_text_with_ends(tokens, self.vocabulary_size, lengths=lengths, device=self.embedding.weight.device)

    def _inputs(self, embedded: Tensor, prompt: Tensor | None = None) -> Tensor:
        """Return embeddings (B,1+L+T,width) of the beginning, a prompt and a text."""
        first = self.begin[None] if prompt is None else torch.cat([self.begin[None], prompt])
        return torch.cat([first.expand(len(embedded), -1, -1), embedded], dim=1)

    def _suffix(self, suffix: Suffix | None) -> Tensor:
        """Return the embeddings (S,width) of a suffix."""
        if suffix is None:
            return self.embedding.weight.new_empty(0, self.width)
        tokens = template_tokens("suffix", suffix, self.vocabulary_size)
        if tokens is None:
            return self.soft_rows(suffix, "suffix")
        return self.embedded(tokens.to(self.embedding.weight.device))
