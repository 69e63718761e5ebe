"""What an audit recommends: the cheapest thing that works, its cost, and how stable it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.questions import Question
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.schema import Basis, Cause, Remedy

#: Half-ranges over ‖μ‖_∞ above this ask for conditionals that no trained language model is near enough to.
LARGEST_HALF_RANGE = 1e6
# Accuracies that differ by fewer standard errors count as equal.
_STANDARD_ERRORS = 2.0


class Candidate(NamedTuple):
    """Something that may solve a task, with its cost and what is known of it."""

    remedy: Remedy
    certified: bool  # it is proved to solve the task
    n_masks: int  # that a head reads; 0 for attention
    n_prompt_tokens: int
    half_range: float  # of the certified head, over ‖μ‖_∞; NaN where none is certified, and for attention
    accuracy: float  # of what was learned, on new texts; NaN where nothing was


def remedy(questions: Sequence[Question], n_tested: int, log_accuracy: Callable[[], float]) -> xr.Dataset:
    """Return all candidates, the cheapest first, which of them is recommended, and on what basis.

    A head on log-probabilities is learned, ``log_accuracy``, only where nothing else is proved to solve the task.

    Parameters
    ----------
    questions
        Of the audit, answered.
    n_tested
        New texts that accuracies were measured on.
    log_accuracy
        Returns that of a head on log-probabilities.
    """
    candidates = [
        _candidate(question)
        for question in questions
        if question.name != schema.MASKS or question.certificate.n_masks > 1  # type: ignore[attr-defined]
    ]
    if not any(candidate.certified for candidate in candidates):
        nothing = float("nan")
        candidates.append(Candidate(Remedy.LOG_PROBABILITIES, False, 1, 0, nothing, log_accuracy()))
    if any(question.certificate.cause is Cause.CONSTANT_LABEL for question in questions):
        chosen, basis = Remedy.NOTHING, Basis.PROOF
    else:
        chosen, basis = choose(candidates, n_tested)
    columns = {
        name: (schema.REMEDY, [getattr(candidate, name) for candidate in candidates])
        for name in Candidate._fields
        if name not in ("remedy", "certified")
    }
    columns["certified"] = (schema.REMEDY, [np.int8(candidate.certified) for candidate in candidates])
    return xr.Dataset(
        {schema.RECOMMENDED: ((), str(chosen)), schema.BASIS: ((), str(basis)), **columns},
        coords={schema.REMEDY: [str(candidate.remedy) for candidate in candidates]},
    )


def choose(candidates: Sequence[Candidate], n_tested: int) -> tuple[Remedy, Basis]:
    """Return the cheapest candidate that works, from candidates in the order of their cost, and on what basis.

    Of those that are proved to work the first whose half-range some language model can bear, else that of least
    half-range; where nothing is proved, the first that is as accurate as the best within two standard errors.
    """
    certified = [candidate for candidate in candidates if candidate.certified]
    if certified:
        stable = [candidate for candidate in certified if not candidate.half_range > LARGEST_HALF_RANGE]
        chosen = stable[0] if stable else min(certified, key=lambda candidate: candidate.half_range)
        return chosen.remedy, Basis.PROOF
    measured = [candidate for candidate in candidates if np.isfinite(candidate.accuracy)]
    if not measured:
        return Remedy.UNKNOWN, Basis.NONE
    best = max(candidate.accuracy for candidate in measured)
    share = (best * n_tested + 1) / (n_tested + 2)  # neither 0 nor 1, whose standard error is not zero
    as_good = best - _STANDARD_ERRORS * np.sqrt(share * (1 - share) / n_tested)
    return next(candidate.remedy for candidate in measured if candidate.accuracy >= as_good), Basis.MEASUREMENT


def relative_half_range(question: Question) -> float:
    """Return the half-range of the head that is certified, over ‖μ‖_∞; NaN where none is, and for attention."""
    certificate = question.certificate
    if not isinstance(certificate, HeadCertificate) or not certificate.recoverable:
        return float("nan")
    scale = float(certificate.task.contrasts.abs().max()) or 1.0
    return min(question.half_range, certificate.half_range) / scale


def n_masks(question: Question) -> int:
    """Return how many masks the heads of a question read; none for attention."""
    return question.certificate.n_masks if isinstance(question.certificate, HeadCertificate) else 0


def _candidate(question: Question) -> Candidate:
    of_attention = question.features is None  # its certificate is about texts that show the cell
    return Candidate(
        Remedy(question.name),  # which has the name of the question that it answers
        question.certificate.recoverable and (question.agreement.decidable > 0 or not of_attention),
        n_masks(question),
        0 if question.prompt is None else len(question.prompt.rows),
        relative_half_range(question),
        question.learned_accuracy,
    )
