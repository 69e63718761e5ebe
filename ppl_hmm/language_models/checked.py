"""What a check of a language model finds: a record of requirements, each passed, failed or skipped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ppl_hmm.errors import InvalidInput
from ppl_hmm.schema import Outcome, Requirement

_MARKS = {Outcome.PASSED: "ok", Outcome.FAILED: "FAILED", Outcome.SKIPPED: "not checked"}
# How far laws of one context may differ, in any entry; other types are of half precision.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4}
_HALF_PRECISION = 2e-2


@dataclasses.dataclass(frozen=True)
class Checked:
    """One requirement of a language model, and what came of it.

    Attributes
    ----------
    requirement, outcome
        What was checked, and whether it passed, failed or was skipped.
    got, remedy
        What was found instead, and what to mend; empty where it passed.

    See Also
    --------
    ppl_hmm.check_language_model : Makes one for each requirement.

    Examples
    --------
    >>> from ppl_hmm import check_language_model
    >>> str(check_language_model(object()).results[1].outcome)
    'skipped'
    """

    requirement: Requirement
    outcome: Outcome
    got: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        """Return the requirement and its outcome in one line."""
        line = f"{self.requirement:<16}{_MARKS[self.outcome]}"
        return line if self.outcome is Outcome.PASSED else f"{line}: {self.got}; {self.remedy}"


@dataclasses.dataclass(frozen=True)
class LanguageModelCheck:
    """What :func:`ppl_hmm.check_language_model` found.

    Attributes
    ----------
    name
        Class of the language model.
    protocol
        The protocol it was held to: ``'MaskedLM'`` or ``'CausalLM'``.
    results
        A :class:`Checked` for each requirement.

    See Also
    --------
    ppl_hmm.check_language_model : Makes one.

    Examples
    --------
    >>> from ppl_hmm import check_language_model
    >>> check = check_language_model(object())
    >>> check.passed, [str(each.requirement) for each in check.failed]
    (False, ['members'])
    """

    name: str
    protocol: str
    results: tuple[Checked, ...]

    @property
    def passed(self) -> bool:
        """Whether no requirement failed."""
        return not self.failed

    @property
    def failed(self) -> list[Checked]:
        """The requirements that failed."""
        return [each for each in self.results if each.outcome is Outcome.FAILED]

    def __str__(self) -> str:
        """Return a line for each requirement, what was found and what to mend."""
        verdict = "meets" if self.passed else "does not meet"
        skipped = [str(each.requirement) for each in self.results if each.outcome is Outcome.SKIPPED]
        lines = [f"  {each}" for each in self.results if each.outcome is not Outcome.SKIPPED]
        lines += [f"  not checked until these are mended: {', '.join(skipped)}"] if skipped else []
        return "\n".join([f"{self.name} {verdict} the protocol {self.protocol}", *lines])


@dataclasses.dataclass(frozen=True)
class Fault(Exception):
    """A requirement that is not met."""

    got: str
    remedy: str


@dataclasses.dataclass(frozen=True)
class Rule:
    """A requirement, how it is tested, and the requirements that the test rests on."""

    requirement: Requirement
    test: Callable[[], None]  # raises a Fault where it is not met
    after: tuple[Requirement, ...] = ()


def outcomes(rules: Sequence[Rule]) -> Iterator[Checked]:
    """Yield what comes of each rule; whatever else a test raises is a failure of the language model, too."""
    passed: set[Requirement] = set()
    for rule in rules:
        missing = [each for each in rule.after if each not in passed]
        if missing:
            yield Checked(rule.requirement, Outcome.SKIPPED, f"rests on '{missing[0]}'", "mend that first")
            continue
        try:
            rule.test()
        except Fault as fault:
            yield Checked(rule.requirement, Outcome.FAILED, fault.got, fault.remedy)
        except InvalidInput as error:
            what, expected, got, remedy = (*error.args, "", "", "")[:4]
            found = f"{what}: expected {expected}, got {got}" if expected else str(what)
            yield Checked(rule.requirement, Outcome.FAILED, found, remedy or "accept what the check passed")
        except Exception as error:  # of code that is not ours
            found = " ".join(f"{type(error).__name__}: {error}".split())
            yield Checked(rule.requirement, Outcome.FAILED, f"the call raised {found}", "accept what the check passed")
        else:
            passed.add(rule.requirement)
            yield Checked(rule.requirement, Outcome.PASSED)


def require_same(found: Tensor, expected: Tensor, what: str, remedy: str) -> None:
    """Raise a :class:`Fault` unless laws of the same contexts are the same up to rounding."""
    if found.shape != expected.shape:
        raise Fault(f"{what}: shape {tuple(found.shape)} in place of {tuple(expected.shape)}", remedy)
    difference = float((found.detach() - expected.detach()).abs().max())
    if not difference <= _TOLERANCE.get(expected.dtype, _HALF_PRECISION):
        raise Fault(f"{what}: probabilities differ by up to {difference:.2g}", remedy)
