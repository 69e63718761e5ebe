"""Can a head, a prompt, attention solve this task? Each question with its certificate and what was measured."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.audits.deciding import decided
from ppl_hmm.audits.held import contradiction, held_to_counts
from ppl_hmm.audits.learning import learned_head, learned_prompt
from ppl_hmm.audits.reading import Examples, Reading, Readings
from ppl_hmm.base.randomness import Seed
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.models import HMM, MemoryHMM, SoftPrompt
from ppl_hmm.models.kinds import Model, n_memories
from ppl_hmm.recoverability.certificate import Certificate, SignAgreement
from ppl_hmm.recoverability.constant import constant_certificate
from ppl_hmm.recoverability.flattened import flattened_pair
from ppl_hmm.recoverability.head import exists_on_paper, head_certificate
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.masks import fewest_masks
from ppl_hmm.recoverability.memory import memory_certificate, memory_prompt_certificate
from ppl_hmm.recoverability.position import position_certificate
from ppl_hmm.recoverability.prompt import prompt_certificate
from ppl_hmm.recoverability.robustness import Robustness, robustness_on
from ppl_hmm.recoverability.transfer import smallest_half_range
from ppl_hmm.recoverability.witness import find_witness, separability
from ppl_hmm.schema import Cause, Reader
from ppl_hmm.tasks import MemoryTask, PosteriorTask, Task

#: States of a flattened memory model, at most, for Theorem H.
FLATTENED_LIMIT = 256
#: Columns of an audit that are attributes of a :class:`~ppl_hmm.Robustness`.
RADII = (schema.RADIUS, schema.MEDIAN_RADIUS, schema.CONDITION_RADIUS)


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """One question of an audit and its answer.

    Attributes
    ----------
    name
        ``'head'``, ``'masks'``, ``'prompt'``, ``'attention'``, ``'attention-prompt'`` or ``'channel'``.
    certificate
        The answer: a theorem's weights, a witness, or neither.
    agreement
        How often the certificate's weights and the task agree on the audit's texts.
    features
        What linear heads read of the audit's texts: G (B,V) after :attr:`prompt`, or (B,J·V) at J masks; None for
        attention.
    learned
        Head learned from labelled texts after :attr:`prompt`; None where it is not a linear one.
    learned_accuracy
        Its accuracy on decidable fresh texts; NaN without a head.
    margin
        The largest smallest margin of linear heads on the audit's decidable texts; NaN where it is not asked.
    learned_prompt
        Prompt learned from labelled texts; None where it is not asked, or the certificate's solves the task.
    half_range
        The least half-range of linear heads that solve the certificate's equations; infinite where none is known, NaN
        for attention.
    proof
        The texts that the certificate's witness is of; None without one.
    robustness
        How far the model may move before a certified head fails; None where no theorem certifies one of H₀.
    """

    name: str
    certificate: Certificate
    agreement: SignAgreement
    features: Tensor | None = None
    learned: LinearHead | None = None
    learned_accuracy: float = float("nan")
    margin: float = float("nan")
    learned_prompt: SoftPrompt | None = None
    half_range: float = float("nan")
    proof: Reading | None = None
    robustness: Robustness | None = None

    @property
    def prompt(self) -> SoftPrompt | None:
        """The prompt that heads read after: the learned one, else the certificate's."""
        return self.certificate.prompt if self.learned_prompt is None else self.learned_prompt

    @property
    def radii(self) -> dict[str, float]:
        """How far the model may move before the certified head fails, by :data:`RADII`; NaN where it is not known."""
        return {name: float("nan") if self.robustness is None else getattr(self.robustness, name) for name in RADII}


@dataclasses.dataclass(frozen=True)
class Effort:
    """What is done about prompts where none is constructed."""

    n_prompt_tokens: int  # of the one that is learned; 0 for none
    seed: Seed  # of its starts
    seconds: float  # to find one for the texts, or to prove that there is none


def ask(model: Model, task: Task, readings: Readings, tolerance: float, effort: Effort) -> list[Question]:
    """Return the questions of a model and a task of the same kind, their verdicts held against the texts."""
    asked = _asked(model, task, readings, tolerance, effort)
    return [held_to_counts(question, readings.texts) for question in asked]


@functools.singledispatch
def _asked(model: Model, task: Any, readings: Readings, tolerance: float, effort: Effort) -> list[Question]:
    """Return the questions of a kind of models, each answered by theorem, witness and what is learned."""
    raise NotImplementedError(type(model))


@_asked.register
def _(model: HMM, task: PosteriorTask, readings: Readings, tolerance: float, effort: Effort) -> list[Question]:
    if task.position is not None:
        return [ask_head(schema.HEAD, position_certificate(model, task, tolerance=tolerance), readings)]
    heads = _ask_heads(model, task, readings, tolerance)
    prompt = unless_constant(prompt_certificate(model, task, tolerance=tolerance), model, task)
    if prompt.recoverable:
        return [*heads, ask_head(schema.PROMPT, prompt, readings)]
    if effort.seconds:
        prompt = decided(model, task, prompt, readings.to_decide(), effort.seconds)
    learned = learned_prompt(model, readings.practice, effort.n_prompt_tokens, effort.seed, prompt.found)
    return [*heads, ask_head(schema.PROMPT, prompt, readings, learned)]


@_asked.register
def _(model: MemoryHMM, task: MemoryTask, readings: Readings, tolerance: float, *_: object) -> list[Question]:
    texts = readings.texts
    flattened = _flattened(model, task)
    if flattened is None:
        head = ask_head(schema.HEAD, _too_large(model, task, tolerance), readings)
        heads = [head, dataclasses.replace(head, name=schema.MASKS)]
    else:
        heads = _ask_heads(*flattened, readings, tolerance)
    attention = memory_certificate(model, task, tolerance=tolerance)
    prompted = memory_prompt_certificate(model, task, tolerance=tolerance)
    return [
        *heads,
        Question(schema.ATTENTION, attention, attention.sign_agreement(texts.tokens, texts.lengths)),
        Question(schema.ATTENTION_PROMPT, prompted, prompted.sign_agreement(texts.tokens, texts.lengths)),
    ]


def _ask_heads(model: HMM, task: PosteriorTask, readings: Readings, tolerance: float) -> list[Question]:
    """Ask of a head on one mask, and of one on the fewest masks that are enough, else on those that come nearest.

    Where Theorem H's condition fails and Theorem C's holds for one mask, a head on one mask is proved all the same.
    """
    certificate = unless_constant(head_certificate(model, task, tolerance=tolerance), model, task)
    nearest = certificate if certificate.recoverable else fewest_masks(model, task, tolerance=tolerance)
    if nearest.recoverable and nearest.n_masks == 1:
        certificate = nearest
    head = ask_head(schema.HEAD, certificate, readings)
    if contradiction(head, readings.texts) is not None:
        nearest = fewest_masks(model, task, tolerance=tolerance)
    if nearest.n_masks > 1 or (nearest.recoverable and nearest is not certificate):
        return [head, ask_head(schema.MASKS, nearest, readings)]
    return [head, dataclasses.replace(head, name=schema.MASKS)]


def ask_head(
    name: str, certificate: HeadCertificate, readings: Readings, learned: SoftPrompt | None = None
) -> Question:
    """Measure linear heads after a prompt; look for a witness where nothing is proved of heads without one."""
    texts = readings.texts
    features = _read(texts, certificate)
    agreement = certificate.agreement_on(features, texts.answers, texts.tokens.shape[1])
    robustness, proof = _robustness(certificate, texts, features), None
    if name != schema.PROMPT and not certificate.recoverable:
        certificate, proof = _refuted(certificate, readings)
    if learned is not None:
        features = texts.features(learned)
    examples = Examples.of(texts, features)
    margin = float("nan")
    if len(examples.labels) and not (name == schema.MASKS and certificate.recoverable):
        margin = separability(*examples).margin
    practised, test = (
        examples if each is texts else Examples.of(each, _read(each, certificate, learned))
        for each in (readings.practice, readings.fresh)
    )
    found = learned_head(practised, test)
    half_range = _half_range(certificate)
    return Question(name, certificate, agreement, features, *found, margin, learned, half_range, proof, robustness)


def _read(reading: Reading, certificate: HeadCertificate, learned: SoftPrompt | None = None) -> Tensor:
    """Return what the heads of a question read, after a learned prompt if there is one."""
    if certificate.n_masks > 1:
        return reading.features_at_masks(certificate.n_masks)
    return reading.features(certificate.prompt if learned is None else learned)


def _refuted(certificate: HeadCertificate, readings: Readings) -> tuple[HeadCertificate, Reading | None]:
    """Return the certificate with its witness and the texts that this is of, if some decidable texts are one.

    Short texts are looked at first: they are all there are, and soon read.
    """
    for reading in readings.to_refute():
        features = _read(reading, certificate)
        examples = Examples.of(reading, features)
        if not len(examples.labels):
            continue
        witness = find_witness(*examples, n_classes=certificate.task.n_classes)
        if witness is None:
            continue
        if exists_on_paper(certificate):
            return certificate.beyond_float64(), None
        kept = np.flatnonzero(reading.told(features).cpu().numpy())
        return certificate.refuted_by(dataclasses.replace(witness, texts=kept[witness.texts])), reading
    return certificate, None


def _half_range(certificate: HeadCertificate) -> float:
    """Return the least half-range of heads that solve the certificate's equations, infinite where none is known."""
    model, task = certificate.model, certificate.task
    if certificate.n_masks > 1 or task.place.position is not None or certificate.reader is Reader.CAUSAL:
        return certificate.half_range if certificate.recoverable else float("inf")
    if isinstance(model, HMM) and isinstance(task, PosteriorTask):
        return smallest_half_range(model, task, certificate.prompt, tolerance=certificate.tolerance).half_range
    return float("inf")  # the flattened model would be too large


def _robustness(certificate: HeadCertificate, texts: Reading, features: Tensor) -> Robustness | None:
    """Return how far the model of a certified head may move, where texts were read with the posterior of its H₀."""
    of_first_state = isinstance(certificate.task, PosteriorTask) and certificate.task.position is None
    of_mask = certificate.reader is Reader.MASKED
    if certificate.cause is not Cause.CONDITION_HOLDS or not of_first_state or not of_mask:
        return None
    if texts.law.shape[1] != certificate.task.n_values:  # the law of a memory cell, whose model was flattened
        return None
    return robustness_on(certificate, texts.tokens, features, texts.law)


def unless_constant(certificate: HeadCertificate, model: HMM, task: PosteriorTask) -> HeadCertificate:
    """Return the certificate, or that of the constant head where it proves nothing and all labels are the same."""
    if certificate.recoverable:
        return certificate
    return constant_certificate(model, task, tolerance=certificate.tolerance) or certificate


def _flattened(model: MemoryHMM, task: MemoryTask) -> tuple[HMM, PosteriorTask] | None:
    """Return the flattened model and its task, None where it would be too large for the theorems of linear heads."""
    n_flattened = n_memories(model) * model.n_states
    return flattened_pair(model, task) if n_flattened <= FLATTENED_LIMIT else None


def _too_large(model: MemoryHMM, task: MemoryTask, tolerance: float) -> HeadCertificate:
    """Return the certificate of a memory model whose flattened one would be too large."""
    n_flattened = n_memories(model) * model.n_states
    reason = f"the flattened model has {n_flattened} states: Theorem H was not asked for more than {FLATTENED_LIMIT}"
    infinite = float("inf")
    return HeadCertificate(
        theorem="Theorem H (3.3)",
        weights=model.emission.new_zeros(model.vocabulary_size),
        residual=infinite,
        margin_error=infinite,
        sigma_min=float("nan"),
        support_threshold=0.0,
        tolerance=tolerance,
        cause=Cause.TOO_LARGE,
        reasons=(reason,),
        model=model,
        task=task,
    )
