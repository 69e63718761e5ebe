"""What trained language models share: sizes, soft tokens as embeddings, laws of tokens from logits, files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.base.tokens import MASK, as_tokens
from ppl_hmm.errors import at_least
from ppl_hmm.models.kinds import Model, Prompt, Text
from ppl_hmm.models.prompt import prompt_rows

_INITIAL_SCALE = 0.02  # standard deviation of embeddings at the start, as of BERT


class Link(StrEnum):
    """How a law of tokens follows from a model's scores."""

    SOFTMAX = "softmax"
    CLIPPED = "clipped"  # scores are estimates of probabilities: negative ones become zero, and the rest is normalised


class Example(NamedTuple):
    """Text to learn from: what is read, and which of its tokens are predicted."""

    read: Tensor  # (B,T), hidden tokens are MASK
    predicted: Tensor  # (B,T), boolean


class TrainedLM(nn.Module, ABC):
    """A language model of V tokens whose parameters are learned; in float32, soft tokens are embeddings (width,)."""

    link: Link = Link.SOFTMAX
    warm_up: ClassVar[float] = 0.0  # share of training in which the learning rate rises, if nothing else is said

    def __init__(self, vocabulary_size: int, width: int) -> None:
        super().__init__()
        self.vocabulary_size = at_least("vocabulary_size", vocabulary_size, 1)
        self.width = at_least("width", width, 1)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """One language model: ()."""
        return ()

    @property
    def prompt_shape(self) -> tuple[int, ...]:
        """(width,): a soft token is an embedding."""
        return (self.width,)

    @property
    def prompt_constraint(self) -> Literal["nonnegative", "real"]:
        """Embeddings are real."""
        return "real"

    @property
    @abstractmethod
    def embedding(self) -> nn.Embedding:
        """Embeddings of V tokens and, last, of the mask."""

    @property
    @abstractmethod
    def configuration(self) -> dict[str, Any]:
        """Arguments that build a model of this shape again."""

    @property
    @abstractmethod
    def read_position(self) -> int:
        """Position of a text at which heads read: 0 behind a mask in front of it, −1 at its end."""

    @abstractmethod
    def law_read(self, text: Tensor) -> Tensor:
        """Return the law (B,V) at the read position of text (B,T), whose token there is not read."""

    @abstractmethod
    def logits(self, tokens: Text, *, lengths: Text | None = None) -> Tensor:
        """Return scores (B,T,V) of each token given what is read of the others; differentiable in parameters."""

    @abstractmethod
    def example(self, text: Tensor, stream: torch.Generator) -> Example:
        """Return what is read and predicted of text (B,T) in training, drawn from a stream."""

    @abstractmethod
    def optimum(self, model: Model, read: Tensor) -> Tensor:
        """Return the laws (B,T,V) that no language model of this kind can better on a model's text."""

    def laws(self, scores: Tensor) -> Tensor:
        """Return laws of tokens (…,V) from scores."""
        if self.link is Link.SOFTMAX:
            return scores.softmax(-1)
        positive = scores.clamp(min=0) + torch.finfo(scores.dtype).eps  # so that no law is of zeros
        return positive / positive.sum(-1, keepdim=True)

    def checked(self, text: Text, lengths: Text | None = None) -> Tensor:
        """Return checked tokens (B,T) on the device of the parameters."""
        return as_tokens(text, self.vocabulary_size, lengths=lengths, device=self.embedding.weight.device)

    def embedded(self, text: Tensor) -> Tensor:
        """Return the embeddings (…,width) of checked tokens; that of ``MASK`` is the last of the table."""
        return self.embedding(torch.where(text == MASK, self.vocabulary_size, text))

    def soft_rows(self, prompt: Prompt, what: str = "prompt") -> Tensor:
        """Return checked embeddings (L,width) of a prompt."""
        like = self.embedding.weight.detach()
        return prompt_rows(prompt, self.prompt_shape, nonnegative=False, like=like, what=what)

    def save(self, path: str | Path) -> None:
        """Write the model to a new directory: ``weights.safetensors`` and ``language_model.json``; see the loader."""
        from ppl_hmm.language_models.checkpoints import save_language_model

        save_language_model(self, path)


def token_embedding(vocabulary_size: int, width: int) -> nn.Embedding:
    """Return embeddings of V tokens and of the mask."""
    embedding = nn.Embedding(vocabulary_size + 1, width)
    nn.init.normal_(embedding.weight, std=_INITIAL_SCALE * width**0.5)
    return embedding


@contextmanager
def initialised(seed: Seed) -> Iterator[None]:
    """Draw what layers draw from PyTorch's global stream from a seed; that stream goes on as if nothing was drawn."""
    drawn = torch.randint(2**62, (), generator=generator(seed, "parameters"), device=CPU)
    with torch.random.fork_rng(devices=[]), torch.device(CPU):
        torch.manual_seed(int(drawn))
        yield


def only_for(*prompts: Tensor | None) -> torch.set_grad_enabled:
    """Record gradients only for soft tokens that ask for them: without any, laws are numbers."""
    asked = any(prompt is not None and prompt.requires_grad for prompt in prompts)
    return torch.set_grad_enabled(torch.is_grad_enabled() and asked)
