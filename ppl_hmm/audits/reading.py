"""What exact inference makes of texts, and what heads can be asked of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ppl_hmm.audits.texts import MORE_TEXTS, SHORT_TEXTS
from ppl_hmm.base.positions import Probe
from ppl_hmm.language_models.oracle import OracleLM, OracleText
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Model
from ppl_hmm.recoverability.causal_reading import next_token_law
from ppl_hmm.schema import Reader
from ppl_hmm.tasks import Answers, Task, latent_posterior


@dataclasses.dataclass(frozen=True, eq=False)
class MaskedInput:
    """Texts as a masked language model reads them, with the mask that heads read."""

    probe: Probe  # (∅, x), but for tasks on a position
    encoded: OracleText  # of its input

    def features(self, prompt: SoftPrompt | None) -> Tensor:
        """Return G (B,V) at the mask, after a prompt."""
        rows = None if prompt is None else prompt.rows
        return self.probe.features(lambda positions: self.encoded.conditionals(rows, positions).detach())

    def features_at_masks(self, n_masks: int) -> Tensor:
        """Return G (B,J·V) at J masks in front of each text."""
        return self.encoded.at_masks(n_masks).flatten(-2)


@dataclasses.dataclass(frozen=True, eq=False)
class CausalInput:
    """Texts as a causal language model reads them."""

    model: HMM
    task: Task
    tokens: Tensor

    def features(self, prompt: SoftPrompt | None) -> Tensor:
        """Return the law (B,V) of the next token, with a prompt after the text."""
        return next_token_law(self.model, self.task, self.tokens, prompt)


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """What exact inference and the exact language model make of texts."""

    tokens: Tensor  # (B,T)
    lengths: Tensor | None  # (B,)
    law: Tensor  # (B,n): posterior of the latent that the task asks of
    answers: Answers
    tolerance: float  # margins within it are undecidable
    inputs: MaskedInput | CausalInput

    @classmethod
    def of(
        cls, model: Model, task: Task, tokens: Tensor, lengths: Tensor | None = None, reader: Reader = Reader.MASKED
    ) -> Reading:
        """Read texts (B,T), masked past the end of each."""
        law = latent_posterior(model, task, tokens)
        tolerance = float(task.tolerance_after(tokens.shape[1], model.n_states))
        if reader is Reader.CAUSAL and isinstance(model, HMM):
            inputs = CausalInput(model, task, tokens)
        else:
            probe = task.place.probe(tokens)
            inputs = MaskedInput(probe, OracleLM(model).encode(probe.inputs))
        return cls(tokens, lengths, law, task.answers(law, tolerance), tolerance, inputs)

    def features(self, prompt: SoftPrompt | None = None) -> Tensor:
        """Return what a head reads of each text (B,V), with a prompt; zeros for impossible contexts."""
        return self.inputs.features(prompt)

    def features_at_masks(self, n_masks: int) -> Tensor:
        """Return what a head reads at J masks in front of each text (B,J·V); zeros for impossible contexts."""
        if n_masks == 1:
            return self.features()
        assert isinstance(self.inputs, MaskedInput)
        return self.inputs.features_at_masks(n_masks)

    def told(self, features: Tensor) -> Tensor:
        """Say which texts (B,) a head can be asked about: decidable ones whose context is possible."""
        return self.answers.decidable & (features.sum(-1) > 0)


class Examples(NamedTuple):
    """Features and labels of decidable texts: what heads are learned from, and tested on."""

    features: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, reading: Reading, features: Tensor) -> Examples:
        """Take the texts that a head can be asked about."""
        kept = reading.told(features)
        return cls(features[kept].cpu().numpy(), reading.answers.labels[kept].cpu().numpy())


@dataclasses.dataclass(frozen=True, eq=False)
class Readings:
    """What is read of sets of texts: certificates are held against the first, heads learned on the second."""

    texts: Reading
    practice: Reading
    fresh: Reading  # that heads are tested on
    read_short: Callable[[int], Reading | None]  # all texts of few tokens, so many at most; None where V is more

    @functools.cached_property
    def short(self) -> Reading | None:
        """Texts of few tokens, which witnesses are sought among first."""
        return self.read_short(SHORT_TEXTS)

    @functools.cached_property
    def longer(self) -> Reading | None:
        """More of them, which witnesses are sought among last."""
        return self.read_short(MORE_TEXTS)

    def to_decide(self) -> list[Reading]:
        """Return texts that a prompt is sought for, or a proof that none does."""
        return [self.texts] if self.short is None else [self.short, self.texts]

    def to_refute(self) -> Iterator[Reading]:
        """Yield texts that witnesses are sought among."""
        if self.short is not None:
            yield self.short
        yield self.texts
        if self.longer is not None:
            yield self.longer
