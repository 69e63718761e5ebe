"""A question of an audit as its tree has it."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import xarray as xr

from ppl_hmm.schema import Cause, Verdict


def learned(question: str) -> str:
    """Return the name of the group of what was learned for a question."""
    return f"{question}-learned"


def found(question: str) -> str:
    """Return the name of the group of what was found for a question and the audit's texts."""
    return f"{question}-found"


@dataclasses.dataclass(frozen=True)
class Asked:
    """A question of an audit: its verdict, what decided it, and what was measured.

    Attributes
    ----------
    question
        Its name.
    verdict, cause
        The answer, and what decided it.
    theorem, reasons
        Which condition was computed, and what came out, a line each.
    residual, margin_error, sigma_min
        Of the certificate: :class:`~ppl_hmm.Certificate`.
    agreeing, decidable, undecidable
        Texts on which what was constructed is right, on which it claims to be, and all others.
    separation_margin
        Largest smallest margin of linear heads on the texts; NaN where it was not asked.
    learned_accuracy
        Of the learned head on new texts whose label is decidable; NaN where none was learned.
    n_masks
        Masks that its heads read; 0 for attention.
    half_range
        Of the certified head, over ‖μ‖_∞; NaN where none is certified, and for attention.
    radius, median_radius, condition_radius
        How far the model may move before this head is wrong on a text, on half of them, and before the theorem's
        condition fails: :class:`~ppl_hmm.Robustness`; NaN where no theorem certifies a head.
    """

    question: str
    verdict: Verdict
    cause: Cause
    theorem: str
    reasons: tuple[str, ...]
    residual: float
    margin_error: float
    sigma_min: float
    agreeing: int
    decidable: int
    undecidable: int
    separation_margin: float
    learned_accuracy: float
    n_masks: int
    half_range: float
    radius: float
    median_radius: float
    condition_radius: float

    @classmethod
    def of(cls, row: xr.Dataset) -> Asked:
        """Read a row of ``/recoverability``."""
        values = {field.name: row[field.name].item() for field in dataclasses.fields(cls)}
        read = {"verdict": Verdict(values["verdict"]), "cause": Cause(values["cause"])}
        return cls(**{**values, **read, "reasons": tuple(values["reasons"].split("\n"))})

    @property
    def recoverable(self) -> bool:
        """Whether the verdict is ``'recoverable'``."""
        return self.verdict is Verdict.RECOVERABLE


class Answer(NamedTuple):
    """The answer to one question, each part in sentences.

    Attributes
    ----------
    question, name
        Of the question, as in the tree and in words.
    verdict, cause
        The answer, and what decided it.
    sentence
        Both, and what was measured, in plain words.
    why
        The theorem's condition and the witness, in formulas.
    measured
        How stable the answer is, in plain words that the sentence does not have.
    quantities
        The rest: what the sentence says, and formulas.
    advice
        What to do.
    """

    question: str
    name: str
    verdict: Verdict
    cause: Cause
    sentence: str
    why: list[str]
    measured: list[str]
    quantities: list[str]
    advice: str

    @property
    def stability(self) -> list[str]:
        """How stable the answer is: :attr:`measured` and :attr:`quantities`."""
        return [*self.measured, *self.quantities]
