"""The answer of a theorem for one model and one task."""

from __future__ import annotations

import abc
import dataclasses
from typing import NamedTuple, Self

import xarray as xr
from torch import Tensor

from ppl_hmm.errors import PplHmmError
from ppl_hmm.models import SoftPrompt
from ppl_hmm.models.kinds import Model, Text
from ppl_hmm.recoverability.witness import Witness
from ppl_hmm.schema import Cause, Verdict
from ppl_hmm.tasks import Task

#: Largest relative residual that counts as solved, by default.
RESIDUAL_TOLERANCE = 1e-9


class SignAgreement(NamedTuple):
    """How often what was constructed and the task agree.

    ``undecidable`` texts have a margin within the task's tolerance (and, where agreement is claimed, within the
    certificate's bound), or a score that is rounding; nothing is claimed on them.
    """

    agreeing: int
    decidable: int
    undecidable: int

    @property
    def share(self) -> float:
        """Share of decidable texts on which they agree; 1 where none is decidable."""
        return self.agreeing / self.decidable if self.decidable else 1.0


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Certificate(abc.ABC):
    """Constructive weights of a theorem, with the quantities that say whether its condition holds.

    The base of :class:`~ppl_hmm.recoverability.linear.HeadCertificate`, of linear heads, and
    :class:`~ppl_hmm.MemoryCertificate`, of attention. Each says what its weights are, and what they are bounded by.

    Attributes
    ----------
    theorem
        Its name and number in Wei, Xie & Ma (2021).
    weights
        What the theorem constructs.
    residual
        How far the weights are from what the theorem asks of them; 0 = solved.
    margin_error
        The part of the margins' error that comes from the weights, for every text.
    sigma_min
        Smallest singular value of the rows that are read: they are independent iff it is positive.
    support_threshold
        δ: the theorem's "never" is relaxed to "with probability at most δ"; 0 for proofs.
    tolerance
        Largest residual that counts as solved.
    cause
        What decided the verdict.
    reasons
        The same in words, one line each.
    prompt
        In front of the text, or after it where a head reads the next-token law; None without one.
    witness
        Texts that no weights of the theorem's kind classify; None where none are known.

    See Also
    --------
    head_certificate : Of a linear head.
    prompt_certificate : Of a prompt and a linear head.
    position_certificate : Of a linear head, for a task on a position.
    memory_certificate : Of attention, for a task on a memory cell.

    Examples
    --------
    >>> from ppl_hmm import Certificate, PosteriorTask, head_certificate, random_hmm
    >>> model, task = random_hmm("dirichlet", 3, 5, seed=0), PosteriorTask([[1, 0, 0], [0, 0, 1]])
    >>> certificate = head_certificate(model, task)
    >>> isinstance(certificate, Certificate)
    True
    >>> print(f"{certificate.verdict}: {certificate.cause}")
    recoverable: condition holds
    """

    theorem: str
    weights: Tensor
    residual: float
    margin_error: float
    sigma_min: float
    support_threshold: float
    tolerance: float
    cause: Cause
    reasons: tuple[str, ...]
    model: Model = dataclasses.field(repr=False)
    task: Task = dataclasses.field(repr=False)
    prompt: SoftPrompt | None = dataclasses.field(default=None, repr=False)
    witness: Witness | None = dataclasses.field(default=None, repr=False)

    @property
    def verdict(self) -> Verdict:
        """``'recoverable'``, ``'not recoverable'`` or ``'undecided'``: what the cause leads to."""
        return self.cause.verdict

    @property
    def recoverable(self) -> bool:
        """Whether the verdict is ``'recoverable'``."""
        return self.verdict is Verdict.RECOVERABLE

    @abc.abstractmethod
    def sign_agreement(self, tokens: Text, lengths: Text | None = None) -> SignAgreement:
        """Return on how many of the decidable texts (B,T) what was constructed agrees with the task."""

    @abc.abstractmethod
    def to_dataset(self) -> xr.Dataset:
        """Return the weights as a labelled dataset."""

    def withdrawn(self, contradiction: str) -> Self:
        """Return the undecided certificate of a verdict that what was measured contradicts."""
        of_theorem = self.reasons if self.witness is None else self.reasons[1:]
        reason = f"the verdict '{self.verdict}' was withdrawn: {contradiction}"
        return dataclasses.replace(self, cause=Cause.CONTRADICTED, reasons=(*of_theorem, reason), witness=None)


class ConditionNotMet(PplHmmError, ValueError):
    """A theorem's condition fails; ``certificate`` carries the quantities that say so.

    See Also
    --------
    constructed_head : Raises it where no head is certified.
    constructed_prompt : Raises it where no prompt is.

    Examples
    --------
    >>> from ppl_hmm import ConditionNotMet, constructed_head, example
    >>> try:
    ...     constructed_head(*example("aliased"))
    ... except ConditionNotMet as error:
    ...     print(error.certificate.cause)
    condition fails
    """

    def __init__(self, certificate: Certificate, remedy: str) -> None:
        super().__init__(
            certificate.theorem,
            f"a residual of at most {certificate.tolerance:g}",
            f"{certificate.residual:.3g} ({'; '.join(certificate.reasons)})",
            remedy,
        )
        self.certificate = certificate

    def __reduce__(self) -> tuple:
        return type(self), (self.certificate, self.args[3])
