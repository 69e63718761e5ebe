"""Where training takes its text: fresh samples of a model without end, or given texts over and over."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ppl_hmm.base import foreign
from ppl_hmm.base.randomness import CPU, derived_seed, generator
from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.sampling import sample
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Model, Text

# Batches that are drawn together: a draw costs less than sixteen.
_BATCHES_AT_ONCE = 16
_HELD_OUT_SHARE, _HELD_OUT_TEXTS = 0.1, 512


class Corpus(ABC):
    """Texts to train on and to test on, by number: batch n is the same whatever was drawn before."""

    @property
    def model(self) -> Model | None:
        """The model that the text is from, where it is known."""
        return None

    @property
    @abstractmethod
    def description(self) -> dict[str, Tensor]:
        """Arrays that say which corpus it is."""

    @property
    @abstractmethod
    def held_out(self) -> Tensor:
        """Texts (B,T) that no batch has."""

    @abstractmethod
    def batch(self, number: int) -> Tensor:
        """Return the texts (batch_size,T) of a step of training."""

    @staticmethod
    def of(
        source: object,
        vocabulary_size: int,
        batch_size: int,
        length: int,
        seed: int,
        lengths: Text | None = None,
    ) -> Corpus:
        """Return the corpus of a model of V tokens, or of texts.

        Raises
        ------
        InvalidInput
            Another vocabulary, a batch of models, a single text; lengths of a model's samples.
        """
        if not isinstance(source, (HMM, MemoryHMM)):
            if type(source).__module__.startswith("ppl_hmm") or isinstance(source, str):
                foreign.require(source, (HMM, MemoryHMM), "source of training", "an HMM, a MemoryHMM or tokens (B, T)")
            text = as_tokens(source, vocabulary_size, lengths=lengths, device=CPU)  # type: ignore[arg-type]
            return Texts(text, batch_size, seed)
        if lengths is not None:
            raise InvalidInput("lengths", "none with a model, whose samples have one length", "some", "leave them out")
        if source.batch_shape:
            got, remedy = f"a batch {source.batch_shape}", "train one language model for each"
            raise InvalidInput("source of training", "one model", got, remedy)
        if source.vocabulary_size != vocabulary_size:
            expected, got = f"V = {vocabulary_size}, as the language model's", f"V = {source.vocabulary_size}"
            raise InvalidInput("source of training", expected, got, "build the language model with the model's V")
        return Samples(source, batch_size, length, seed)


class Samples(Corpus):
    """Fresh samples of a model, of one length."""

    def __init__(self, model: Model, batch_size: int, length: int, seed: int) -> None:
        self._model = model.detach()
        self._batch_size, self._length, self._seed = batch_size, length, seed
        self._drawn: tuple[int, Tensor] | None = None

    @property
    def model(self) -> Model:
        """The model."""
        return self._model

    @property
    def description(self) -> dict[str, Tensor]:
        """The model's arrays."""
        return {name: getattr(self._model, name) for name in self._model.dimensions}

    @property
    def held_out(self) -> Tensor:
        """Texts of their own stream."""
        return self._sample(_HELD_OUT_TEXTS, "held-out texts")

    def batch(self, number: int) -> Tensor:
        """Return fresh texts."""
        chunk, within = divmod(number, _BATCHES_AT_ONCE)
        if self._drawn is None or self._drawn[0] != chunk:
            self._drawn = chunk, self._sample(_BATCHES_AT_ONCE * self._batch_size, f"training texts {chunk}")
        return self._drawn[1][within * self._batch_size : (within + 1) * self._batch_size]

    def _sample(self, n_texts: int, purpose: str) -> Tensor:
        return sample(self._model, n_texts, self._length, derived_seed(self._seed, purpose)).tokens


class Texts(Corpus):
    """Given texts, a tenth of them held out; each batch is drawn at random from the others."""

    def __init__(self, text: Tensor, batch_size: int, seed: int) -> None:
        if len(text) < 2:
            raise InvalidInput("tokens to train on", "at least two texts", str(len(text)), "cut the text into several")
        order = torch.randperm(len(text), generator=generator(seed, "held-out texts"), device=CPU)
        n_held_out = min(max(round(_HELD_OUT_SHARE * len(text)), 1), _HELD_OUT_TEXTS)
        self._held_out, self._texts = text[order[:n_held_out]], text[order[n_held_out:]]
        self._batch_size, self._seed = batch_size, seed

    @property
    def description(self) -> dict[str, Tensor]:
        """The texts."""
        return {"held_out": self._held_out, "texts": self._texts}

    @property
    def held_out(self) -> Tensor:
        """The texts that are left out."""
        return self._held_out

    def batch(self, number: int) -> Tensor:
        """Return texts drawn with replacement."""
        stream = generator(self._seed, f"training texts {number}")
        return self._texts[torch.randint(len(self._texts), (self._batch_size,), generator=stream, device=CPU)]
