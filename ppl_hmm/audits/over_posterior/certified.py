"""What theorems say of each draw: the head, how it is read, and how much noise it bears."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.recoverability.conditioning import Spectrum
from ppl_hmm.recoverability.half_range import smallest_half_range
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.masks import chain_certificate, fewest_masks
from ppl_hmm.recoverability.position import position_certificate
from ppl_hmm.recoverability.prompt import prompt_certificate
from ppl_hmm.schema import Verdict
from ppl_hmm.tasks import PosteriorTask


class Certified(NamedTuple):
    """The answer of one draw to one question."""

    verdict: Verdict
    half_range: float  # of the head over ‖μ‖_∞; ∞ where none is constructed
    weights: Tensor | None  # of the head (1 or C,J·V); None where none is constructed


def certified(question: str, model: HMM, task: PosteriorTask, n_masks: int) -> Certified:
    """Return the answer of a model to a question; ``n_masks`` are those of the question of several."""
    if task.position is not None:
        return _of_certificate(position_certificate(model, task))
    if question == schema.MASKS:
        return _of_certificate(chain_certificate(model, task, n_masks))
    if question == schema.PROMPT:
        found = prompt_certificate(model, task)
        return _head(model, task, found.prompt) if found.recoverable else Certified(found.verdict, np.inf, None)
    return _head(model, task)


def masks_needed(model: HMM, task: PosteriorTask, one: Certified, several: Certified, n_masks: int) -> float:
    """Return the fewest masks whose head recovers a task on H₀; ∞ where none of those tried does."""
    if one.verdict is Verdict.RECOVERABLE:
        return 1
    if several.verdict is Verdict.RECOVERABLE and n_masks == 2:
        return 2
    found = fewest_masks(model, task)
    return found.n_masks if found.recoverable else np.inf


def smallest_singular_value(model: HMM) -> float:
    """Return σ_min(W): 0 where there are more states than tokens."""
    return Spectrum.of(model.emission).sigma_min


def questions_of(task: PosteriorTask, questions: Sequence[str] | None) -> tuple[str, ...]:
    """Return the questions about a task, by default those that take little time; raise :class:`InvalidInput`."""
    known = (schema.HEAD,) if task.position is not None else (schema.HEAD, schema.MASKS, schema.PROMPT)
    if questions is None:
        return known[:2]
    chosen = (questions,) if isinstance(questions, str) else tuple(questions)
    if not chosen or set(chosen) - set(known) or len(set(chosen)) < len(chosen):
        got = ", ".join(map(str, chosen)) or "none"
        raise InvalidInput("questions", f"some of {', '.join(known)}", got, "choose from the list")
    return chosen


def _head(model: HMM, task: PosteriorTask, prompt: SoftPrompt | None = None) -> Certified:
    """Return the head of least half-range that solves Theorem H's equations, after a prompt if there is one."""
    found = smallest_half_range(model, task, prompt)
    if found.weights is None:  # a weaker equation may have a solution
        return Certified(head_certificate(model, task, prompt).verdict, np.inf, None)
    weights = found.weights.reshape(-1, model.vocabulary_size)
    return Certified(Verdict.RECOVERABLE, found.half_range / float(task.scale), weights)


def _of_certificate(found: HeadCertificate) -> Certified:
    if not found.recoverable:
        return Certified(found.verdict, np.inf, None)
    weights = found.weights.reshape(-1, found.weights.shape[-1])
    return Certified(found.verdict, found.half_range / float(found.task.scale), weights)
