"""Verdicts of an audit held against the texts that were read: what these contradict is withdrawn."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ppl_hmm.audits.reading import Reading
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.recoverability.bilinear import BilinearForm
from ppl_hmm.recoverability.certificate import Certificate
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.refutation import Refutation
from ppl_hmm.recoverability.rounding import surely_scored

if TYPE_CHECKING:
    from ppl_hmm.audits.questions import Question


def held_to_counts(question: Question, texts: Reading) -> Question:
    """Return the question; undecided, with a warning, where the texts that were read contradict its verdict."""
    found = contradiction(question, texts)
    if found is None:
        return question
    certificate = question.certificate.withdrawn(found)
    warnings.warn(
        f"question {question.name!r} of an audit: {certificate.reasons[-1]}; please report this model and task",
        RuntimeWarning,
        stacklevel=6,
    )
    return dataclasses.replace(question, certificate=certificate)


def contradiction(question: Question, texts: Reading) -> str | None:
    """Return how the texts that were read contradict a verdict, None where they do not."""
    certificate, (agreeing, decidable, _) = question.certificate, question.agreement
    if certificate.recoverable and agreeing < decidable:
        return f"what was constructed is wrong on {decidable - agreeing} of {decidable} texts that it claims"
    if question.features is None:
        return None  # attention claims texts whose states are sure, be they none
    told = texts.told(question.features)
    if certificate.recoverable and not decidable and told.any():
        return f"what was constructed claims none of {int(told.sum())} decidable texts"
    if certificate.witness is not None:
        heads = {"constructed": LinearHead.from_weights(certificate.weights.cpu().numpy()), "learned": question.learned}
        features, labels = map(torch.from_numpy, (certificate.witness.features, certificate.witness.labels))
        for name, head in heads.items():
            if head is not None and _surely_right(head, features, labels, certificate, texts.tokens.shape[1]):
                return f"the {name} head is right on all {len(labels)} texts of the witness"
    if isinstance(certificate, HeadCertificate) and _disproves(question, certificate.refutation):
        return "the learned prompt and head are right on all texts of the refutation"
    return None


def _disproves(question: Question, refutation: Refutation | None) -> bool:
    """Say whether the learned prompt and head of two classes are surely right on all texts of a proof of no margin."""
    if refutation is None or question.learned_prompt is None or question.learned is None:
        return False
    if refutation.margin or refutation.task.n_classes > 2:
        return False
    form = BilinearForm.of(refutation.model, refutation.task, refutation.texts)
    head = question.learned.coef_[0] + question.learned.intercept_[0]
    return len(form) == len(refutation.texts) and bool(form.right(form.weights(question.learned_prompt), head).all())


def _surely_right(head: LinearHead, features: Tensor, labels: Tensor, certificate: Certificate, n_tokens: int) -> bool:
    """Say whether a head classifies all texts, and by more than rounding."""
    n_blocks = round(float(features[:1].sum())) or 1  # ΣG = 1 at each mask
    weights = features.new_tensor(head.coef_ + head.intercept_[:, None] / n_blocks)
    right = head.predict(features.cpu().numpy()) == labels.cpu().numpy()
    return bool(right.all()) and bool(surely_scored(features, weights, certificate.model, n_tokens).all())
