"""Can a head, a prompt, attention solve this task? Each question with its certificate and what was measured."""

from __future__ import annotations

import dataclasses
import warnings
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.positions import Probe
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.protocol import EncodedText
from ppl_hmm.models import HMM, MemoryHMM, SoftPrompt
from ppl_hmm.models.kinds import Model
from ppl_hmm.recoverability.certificate import Certificate, SignAgreement, surely_scored
from ppl_hmm.recoverability.constant import constant_certificate
from ppl_hmm.recoverability.flattened import flattened_pair
from ppl_hmm.recoverability.head import exists_on_paper, head_certificate
from ppl_hmm.recoverability.memory import memory_certificate, memory_prompt_certificate
from ppl_hmm.recoverability.position import position_certificate
from ppl_hmm.recoverability.prompt import prompt_certificate
from ppl_hmm.recoverability.witness import find_witness, separability
from ppl_hmm.tasks import Answers, MemoryTask, PosteriorTask, Task, latent_posterior

#: Penalties that learned heads are chosen from: conditionals of nearly aliased states differ by little.
LEARNING_GRID = (1.0, 1e2, 1e4, 1e6, 1e8, 1e10)
#: States of a flattened memory model, at most, for Theorem H.
FLATTENED_LIMIT = 256
_VALIDATION_SHARE = 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """What exact inference and the exact language model make of texts."""

    tokens: Tensor  # (B,T)
    lengths: Tensor | None  # (B,)
    law: Tensor  # (B,n): posterior of the latent that the task asks of
    answers: Answers
    tolerance: float  # margins within it are undecidable
    probe: Probe  # the mask that heads read: (∅, x), but for tasks on a position
    encoded: EncodedText  # of its input

    @classmethod
    def of(cls, model: Model, task: Task, tokens: Tensor, lengths: Tensor | None = None) -> Reading:
        """Read texts (B,T), masked past the end of each."""
        law, probe = latent_posterior(model, task, tokens), task.place.probe(tokens)
        tolerance = float(task.tolerance_after(tokens.shape[1], model.n_states))
        encoded = OracleLM(model).encode(probe.inputs)
        return cls(tokens, lengths, law, task.answers(law, tolerance), tolerance, probe, encoded)

    def features(self, prompt: SoftPrompt | None = None) -> Tensor:
        """Return what a head reads of each text (B,V), after a prompt; zeros for impossible contexts."""
        rows = None if prompt is None else prompt.rows
        return self.probe.features(lambda positions: self.encoded.conditionals(rows, positions).detach())

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
        G (B,V) that linear heads read on the audit's texts, after the certificate's prompt; None for attention.
    learned
        Head learned from labelled texts after the certificate's prompt; None where it is not a linear one.
    learned_accuracy
        Its accuracy on decidable fresh texts; NaN without a head.
    margin
        The largest smallest margin of linear heads on the audit's decidable texts; NaN where it is not asked.
    """

    name: str
    certificate: Certificate
    agreement: SignAgreement
    features: Tensor | None = None
    learned: LinearHead | None = None
    learned_accuracy: float = float("nan")
    margin: float = float("nan")


def ask(
    model: Model, task: Task, texts: Reading, practice: Reading, fresh: Reading, tolerance: float
) -> list[Question]:
    """Return the questions of a model and a task of the same kind, their verdicts held against the texts.

    Certificates and witnesses are about ``texts``; heads are learned on ``practice`` and tested on ``fresh`` texts.
    """
    return [_held_to_counts(question, texts) for question in _asked(model, task, (texts, practice, fresh), tolerance)]


def _asked(
    model: Model, task: Task, readings: tuple[Reading, Reading, Reading], tolerance: float
) -> list[Question]:
    """Return the questions, each answered by theorem and witness."""
    texts = readings[0]
    if isinstance(model, HMM) and isinstance(task, PosteriorTask):
        if task.position is not None:
            return [_ask_head(schema.HEAD, position_certificate(model, task, tolerance=tolerance), readings)]
        head = _unless_constant(head_certificate(model, task, tolerance=tolerance))
        prompt = _unless_constant(prompt_certificate(model, task, tolerance=tolerance))
        return [_ask_head(schema.HEAD, head, readings), _ask_head(schema.PROMPT, prompt, readings)]
    assert isinstance(model, MemoryHMM)
    assert isinstance(task, MemoryTask)  # both checked by the caller
    attention = memory_certificate(model, task, tolerance=tolerance)
    prompted = memory_prompt_certificate(model, task, tolerance=tolerance)
    return [
        _ask_head(schema.HEAD, _flattened_certificate(model, task, tolerance), readings),
        Question(schema.ATTENTION, attention, attention.sign_agreement(texts.tokens, texts.lengths)),
        Question(schema.ATTENTION_PROMPT, prompted, prompted.sign_agreement(texts.tokens, texts.lengths)),
    ]


def _ask_head(name: str, certificate: Certificate, readings: tuple[Reading, Reading, Reading]) -> Question:
    """Measure linear heads after the certificate's prompt; without one, look for a witness where nothing is proved."""
    texts, practice, fresh = readings
    features = texts.features(certificate.prompt)
    examples = Examples.of(texts, features)
    margin = separability(*examples).margin if len(examples.labels) else float("nan")
    if name == schema.HEAD and not certificate.recoverable and len(examples.labels):
        witness = find_witness(*examples, n_classes=certificate.task.n_classes)
        if witness is not None and exists_on_paper(certificate):
            certificate = certificate.beyond_float64()
        elif witness is not None:
            kept = np.flatnonzero(texts.told(features).cpu().numpy())
            certificate = certificate.refuted_by(dataclasses.replace(witness, texts=kept[witness.texts]))
    practised, test = (
        examples if each is texts else Examples.of(each, each.features(certificate.prompt))
        for each in (practice, fresh)
    )
    learned, accuracy = _learn(practised, test)
    agreement = certificate.agreement_on(features, texts.answers, texts.tokens.shape[1])
    return Question(name, certificate, agreement, features, learned, accuracy, margin)


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
    if certificate.verdict == "not recoverable":
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


def _learn(examples: Examples, test: Examples) -> tuple[LinearHead | None, float]:
    """Return the learned head and its accuracy; the only label that was seen, if there is one, needs no head."""
    if not len(examples.labels) or not len(test.labels):
        return None, float("nan")
    if len(np.unique(examples.labels)) == 1:
        return None, float((test.labels == examples.labels[0]).mean())
    n_validation = max(1, int(_VALIDATION_SHARE * len(examples.labels)))
    validation = Examples(*(part[:n_validation] for part in examples))
    training = Examples(*(part[n_validation:] for part in examples))
    if len(np.unique(training.labels)) == 1:
        training = examples
    head = LinearHead.select(*training, *validation, grid=LEARNING_GRID)
    return head, float(head.score(*test))


def _unless_constant(certificate: Certificate) -> Certificate:
    """Return the certificate, or that of the constant head where it proves nothing and all labels are the same."""
    if certificate.recoverable:
        return certificate
    assert isinstance(certificate.model, HMM)
    assert isinstance(certificate.task, PosteriorTask)  # Theorems H and P are about these
    constant = constant_certificate(certificate.model, certificate.task, tolerance=certificate.tolerance)
    return constant or certificate


def _flattened_certificate(model: MemoryHMM, task: MemoryTask, tolerance: float) -> Certificate:
    """Return what Theorem H says of a memory model, of one state where the flattened model would be too large."""
    n_flattened = model.n_memory_values**model.n_cells * model.n_states
    if n_flattened <= FLATTENED_LIMIT:
        return _unless_constant(head_certificate(*flattened_pair(model, task), tolerance=tolerance))
    reason = f"the flattened model has {n_flattened} states: Theorem H was not asked for more than {FLATTENED_LIMIT}"
    infinite = float("inf")
    return Certificate(
        theorem="Theorem H (3.3)",
        weights=model.emission.new_zeros(model.vocabulary_size),
        residual=infinite,
        margin_error=infinite,
        sigma_min=float("nan"),
        support_threshold=0.0,
        tolerance=tolerance,
        verdict="undecided",
        reasons=(reason,),
        model=model,
        task=task,
    )
