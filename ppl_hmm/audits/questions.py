"""Can a head, a prompt, attention solve this task? Each question with its certificate and what was measured."""

from __future__ import annotations

import dataclasses
import warnings
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.audits.learning import learned_head, learned_prompt
from ppl_hmm.audits.reading import Examples, Reading
from ppl_hmm.base.randomness import Seed
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.models import HMM, MemoryHMM, SoftPrompt
from ppl_hmm.models.kinds import Model
from ppl_hmm.recoverability.certificate import Certificate, SignAgreement
from ppl_hmm.recoverability.constant import constant_certificate
from ppl_hmm.recoverability.flattened import flattened_pair
from ppl_hmm.recoverability.head import exists_on_paper, head_certificate
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.memory import memory_certificate, memory_prompt_certificate
from ppl_hmm.recoverability.position import position_certificate
from ppl_hmm.recoverability.prompt import prompt_certificate
from ppl_hmm.recoverability.rounding import surely_scored
from ppl_hmm.recoverability.witness import find_witness, separability
from ppl_hmm.schema import Cause, Verdict
from ppl_hmm.tasks import MemoryTask, PosteriorTask, Task

#: States of a flattened memory model, at most, for Theorem H.
FLATTENED_LIMIT = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """One question of an audit and its answer.

    Attributes
    ----------
    name
        ``'head'``, ``'prompt'``, ``'attention'`` or ``'attention-prompt'``.
    certificate
        The answer: a theorem's weights, a witness, or neither.
    agreement
        How often the certificate's weights and the task agree on the audit's texts.
    features
        G (B,V) that linear heads read on the audit's texts, after :attr:`prompt`; None for attention.
    learned
        Head learned from labelled texts after :attr:`prompt`; None where it is not a linear one.
    learned_accuracy
        Its accuracy on decidable fresh texts; NaN without a head.
    margin
        The largest smallest margin of linear heads on the audit's decidable texts; NaN where it is not asked.
    learned_prompt
        Prompt learned from labelled texts; None where it is not asked, or the certificate's solves the task.
    """

    name: str
    certificate: Certificate
    agreement: SignAgreement
    features: Tensor | None = None
    learned: LinearHead | None = None
    learned_accuracy: float = float("nan")
    margin: float = float("nan")
    learned_prompt: SoftPrompt | None = None

    @property
    def prompt(self) -> SoftPrompt | None:
        """The prompt that heads read after: the learned one, else the certificate's."""
        return self.certificate.prompt if self.learned_prompt is None else self.learned_prompt


class Readings(NamedTuple):
    """What is read of three sets of texts: certificates are held against the first, heads learned on the second."""

    texts: Reading
    practice: Reading
    fresh: Reading  # that heads are tested on


def ask(
    model: Model, task: Task, readings: Readings, tolerance: float, *, n_prompt_tokens: int, seed: Seed
) -> list[Question]:
    """Return the questions of a model and a task of the same kind, their verdicts held against the texts.

    Where no prompt is constructed, one of ``n_prompt_tokens`` is learned; none for 0.
    """
    asked = _asked(model, task, readings, tolerance, n_prompt_tokens, seed)
    return [_held_to_counts(question, readings.texts) for question in asked]


def _asked(
    model: Model, task: Task, readings: Readings, tolerance: float, n_prompt_tokens: int, seed: Seed
) -> list[Question]:
    """Return the questions, each answered by theorem, witness and what is learned."""
    texts = readings.texts
    if isinstance(model, HMM) and isinstance(task, PosteriorTask):
        if task.position is not None:
            return [_ask_head(schema.HEAD, position_certificate(model, task, tolerance=tolerance), readings)]
        head = _unless_constant(head_certificate(model, task, tolerance=tolerance))
        prompt = _unless_constant(prompt_certificate(model, task, tolerance=tolerance))
        learned = None if prompt.recoverable else learned_prompt(model, readings.practice, n_prompt_tokens, seed)
        return [_ask_head(schema.HEAD, head, readings), _ask_head(schema.PROMPT, prompt, readings, learned)]
    assert isinstance(model, MemoryHMM)
    assert isinstance(task, MemoryTask)  # both checked by the caller
    attention = memory_certificate(model, task, tolerance=tolerance)
    prompted = memory_prompt_certificate(model, task, tolerance=tolerance)
    return [
        _ask_head(schema.HEAD, _flattened_certificate(model, task, tolerance), readings),
        Question(schema.ATTENTION, attention, attention.sign_agreement(texts.tokens, texts.lengths)),
        Question(schema.ATTENTION_PROMPT, prompted, prompted.sign_agreement(texts.tokens, texts.lengths)),
    ]


def _ask_head(
    name: str, certificate: HeadCertificate, readings: Readings, learned: SoftPrompt | None = None
) -> Question:
    """Measure linear heads after a prompt; look for a witness where nothing is proved of heads without one."""
    texts = readings.texts
    features = texts.features(certificate.prompt)
    agreement = certificate.agreement_on(features, texts.answers, texts.tokens.shape[1])
    if name == schema.HEAD and not certificate.recoverable:
        certificate = _refuted(certificate, texts, features)
    prompt = certificate.prompt
    if learned is not None:
        prompt, features = learned, texts.features(learned)
    examples = Examples.of(texts, features)
    margin = separability(*examples).margin if len(examples.labels) else float("nan")
    practised, test = (
        examples if each is texts else Examples.of(each, each.features(prompt))
        for each in (readings.practice, readings.fresh)
    )
    return Question(name, certificate, agreement, features, *learned_head(practised, test), margin, learned)


def _refuted(certificate: HeadCertificate, texts: Reading, features: Tensor) -> HeadCertificate:
    """Return the certificate with its witness, if some of the decidable texts are one."""
    examples = Examples.of(texts, features)
    if not len(examples.labels):
        return certificate
    witness = find_witness(*examples, n_classes=certificate.task.n_classes)
    if witness is None:
        return certificate
    if exists_on_paper(certificate):
        return certificate.beyond_float64()
    kept = np.flatnonzero(texts.told(features).cpu().numpy())
    return certificate.refuted_by(dataclasses.replace(witness, texts=kept[witness.texts]))


def _held_to_counts(question: Question, texts: Reading) -> Question:
    """Return the question; undecided, with a warning, where the texts that were read contradict its verdict."""
    contradiction = _contradiction(question, texts)
    if contradiction is None:
        return question
    certificate = question.certificate.withdrawn(contradiction)
    warnings.warn(
        f"question {question.name!r} of an audit: {certificate.reasons[-1]}; please report this model and task",
        RuntimeWarning,
        stacklevel=5,
    )
    return dataclasses.replace(question, certificate=certificate)


def _contradiction(question: Question, texts: Reading) -> str | None:
    """Return how the texts that were read contradict a verdict, None where they do not."""
    certificate, (agreeing, decidable, _) = question.certificate, question.agreement
    if certificate.recoverable and agreeing < decidable:
        return f"what was constructed is wrong on {decidable - agreeing} of {decidable} texts that it claims"
    if question.features is None:
        return None  # attention claims texts whose states are sure, be they none
    told = texts.told(question.features)
    if certificate.recoverable and not decidable and told.any():
        return f"what was constructed claims none of {int(told.sum())} decidable texts"
    if certificate.verdict is Verdict.NOT_RECOVERABLE:
        heads = {"constructed": LinearHead.from_weights(certificate.weights.cpu().numpy()), "learned": question.learned}
        features, labels = question.features[told], texts.answers.labels[told]
        for name, head in heads.items():
            if head is not None and _surely_right(head, features, labels, certificate, texts.tokens.shape[1]):
                return f"the {name} head is right on all {len(labels)} decidable texts"
    return None


def _surely_right(
    head: LinearHead, features: Tensor, labels: Tensor, certificate: Certificate, n_tokens: int
) -> bool:
    """Say whether a head classifies all texts, and by more than rounding."""
    weights = features.new_tensor(head.coef_ + head.intercept_[:, None])  # ΣG = 1
    right = head.predict(features.cpu().numpy()) == labels.cpu().numpy()
    return bool(right.all()) and bool(surely_scored(features, weights, certificate.model, n_tokens).all())


def _unless_constant(certificate: HeadCertificate) -> HeadCertificate:
    """Return the certificate, or that of the constant head where it proves nothing and all labels are the same."""
    if certificate.recoverable:
        return certificate
    assert isinstance(certificate.model, HMM)
    assert isinstance(certificate.task, PosteriorTask)  # Theorems H and P are about these
    constant = constant_certificate(certificate.model, certificate.task, tolerance=certificate.tolerance)
    return constant or certificate


def _flattened_certificate(model: MemoryHMM, task: MemoryTask, tolerance: float) -> HeadCertificate:
    """Return what Theorem H says of a memory model, of one state where the flattened model would be too large."""
    n_flattened = model.n_memory_values**model.n_cells * model.n_states
    if n_flattened <= FLATTENED_LIMIT:
        return _unless_constant(head_certificate(*flattened_pair(model, task), tolerance=tolerance))
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
