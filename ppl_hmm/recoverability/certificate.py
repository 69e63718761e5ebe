"""The answer of a theorem for one model and one task."""

from __future__ import annotations

import dataclasses
from numbers import Real
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

from ppl_hmm.base import foreign
from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.errors import InvalidInput, PplHmmError
from ppl_hmm.exact.rounding import message_rounding
from ppl_hmm.inference.queries import masked_conditionals
from ppl_hmm.models import HMM, MemoryHMM, SoftPrompt
from ppl_hmm.models.kinds import Model, Text
from ppl_hmm.recoverability.witness import Witness
from ppl_hmm.tasks import Answers, MemoryTask, PosteriorTask, Task, decide, latent_posterior

#: Largest relative residual that counts as solved, by default.
RESIDUAL_TOLERANCE = 1e-9

Verdict = Literal["recoverable", "not recoverable", "undecided"]

#: Rounding of bᵀG in float64, relative to ‖b‖₁: scores within it have no sign.
SCORE_ROUNDING = 4e-16


class SignAgreement(NamedTuple):
    """How often the constructed head and the task agree.

    ``undecidable`` texts have a margin within the task's tolerance (and, where agreement is claimed, within the
    certificate's margin error), or a score that is rounding; nothing is claimed on them.
    """

    agreeing: int
    decidable: int
    undecidable: int

    @property
    def share(self) -> float:
        """Share of decidable texts on which they agree; 1 where none is decidable."""
        return self.agreeing / self.decidable if self.decidable else 1.0


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Certificate:
    """Constructive weights of a theorem, with the quantities that say whether its condition holds.

    Attributes
    ----------
    theorem
        Its name and number in Wei, Xie & Ma (2021).
    weights
        b (V,) for two classes, (C,V) for more: the head 1(bᵀG ≥ 0), or argmax_c. Longer where the head reads more than
        G: V+1 blocks of V for a task on a position that is given all of the text.
    residual
        Most that the head moves the margin of any text through the states that count, relative to ‖μ‖_∞; 0 = solved.
    margin_error
        The same over all states, in units of the margin: every text with |margin| above it is classified right, unless
        its score is itself rounding (:meth:`sure`).
    sigma_min
        The K_S-th singular value of W on the K_S states that matter; 0 when K_S > V. Rows are independent iff positive.
    support_threshold
        δ: states entered with probability at most δ count as not entered. For δ > 0 sign agreement is measured, not
        proved.
    tolerance
        Largest residual that counts as solved.
    verdict
        ``'recoverable'`` when the condition holds, ``'not recoverable'`` with a witness, else ``'undecided'``: the
        condition is sufficient.
    reasons
        What decided, one line each.
    witness
        Texts that no linear head classifies, after this prompt.
    score_error
        Scores within it have no sign, besides those that are rounding.
    """

    theorem: str
    weights: Tensor
    residual: float
    margin_error: float
    sigma_min: float
    support_threshold: float
    tolerance: float
    verdict: Verdict
    reasons: tuple[str, ...]
    model: Model = dataclasses.field(repr=False)
    task: Task = dataclasses.field(repr=False)
    prompt: SoftPrompt | None = dataclasses.field(default=None, repr=False)
    witness: Witness | None = dataclasses.field(default=None, repr=False)
    score_error: float = 0.0

    @property
    def recoverable(self) -> bool:
        """Whether the theorem's condition holds."""
        return self.verdict == "recoverable"

    def sign_agreement(self, tokens: Text, lengths: Text | None = None) -> SignAgreement:
        """Return on how many of the decidable texts (B,T) the constructed head agrees with the task.

        Cost O(B·T·K²).
        """
        text = as_tokens(tokens, self.model.vocabulary_size, lengths=lengths, device=self.model.device)
        probe = self.task.place.probe(text)

        def conditionals(positions: list[int]) -> Tensor:
            return masked_conditionals(
                self.model, probe.inputs, prompt=self.prompt, positions=positions, impossible="mask"
            )

        law, n_tokens = latent_posterior(self.model, self.task, text), text.shape[1]
        answers = self.task.answers(law, self.task.tolerance_after(n_tokens, self.model.n_states))
        return self.agreement_on(probe.features(conditionals), answers, n_tokens)

    def agreement_on(self, features: Tensor, answers: Answers, n_tokens: int) -> SignAgreement:
        """Return the same for texts of T tokens whose features G (B,V), after this prompt, and answers are known."""
        scores = features @ self.weights.reshape(-1, self.weights.shape[-1]).mT
        decidable = answers.decidable & self.sure(features, n_tokens)
        if self.support_threshold == 0:
            decidable &= answers.margins.abs() > self.margin_error
        agreeing = (decide(scores) == answers.labels) & decidable
        n_decidable = int(decidable.sum())
        return SignAgreement(int(agreeing.sum()), n_decidable, len(features) - n_decidable)

    def sure(self, features: Tensor, n_tokens: int) -> Tensor:
        """Say which texts (B,) of T tokens the constructed head scores beyond rounding."""
        n_prompt = 0 if self.prompt is None else len(self.prompt.rows)
        return surely_scored(features, self.weights, self.model, n_prompt + n_tokens, self.score_error)

    def refuted_by(self, witness: Witness) -> Self:
        """Return the certificate with verdict ``'not recoverable'`` and its witness."""
        reason = f"{len(witness.texts)} texts that no linear head classifies, residual {witness.residual:.1e}"
        return dataclasses.replace(self, verdict="not recoverable", reasons=(reason, *self.reasons), witness=witness)

    def withdrawn(self, contradiction: str) -> Self:
        """Return the undecided certificate of a verdict that what was measured contradicts."""
        of_theorem = self.reasons if self.witness is None else self.reasons[1:]
        reason = f"the verdict {self.verdict!r} was withdrawn: {contradiction}"
        return dataclasses.replace(self, verdict="undecided", reasons=(*of_theorem, reason), witness=None)

    def beyond_float64(self) -> Self:
        """Return the undecided certificate of a head that exists on paper, where rounding hides it from every text."""
        reason = f"a head exists on paper, σ_min(W) = {self.sigma_min:.1e}, but rounding hides what it reads in G"
        return dataclasses.replace(self, verdict="undecided", reasons=(*self.reasons, reason))


def reading_rounding(model: Model) -> float:
    """Return what rounding adds to a sum over states and tokens, as a share of what is summed."""
    return torch.finfo(torch.float64).eps * (model.n_states + model.vocabulary_size + 3)


def surely_scored(
    features: Tensor, weights: Tensor, model: Model, n_tokens: int, score_error: float = 0.0
) -> Tensor:
    """Say which scores of heads b (V,) or (C,V) on G (B,V) of T tokens differ by more than rounding and an error.

    Each entry of G has a relative rounding error, so a score bᵀG is off by at most that share of |b|ᵀG. The bound is
    doubled, as solving for the weights b can add an error of the same size.
    """
    heads = weights.reshape(-1, weights.shape[-1])
    scores, sizes = features @ heads.mT, (features @ heads.abs().mT).amax(-1)
    if len(heads) == 1:
        certainty = scores[:, 0].abs()
    else:
        top = scores.topk(2, dim=-1).values
        certainty, sizes = top[:, 0] - top[:, 1], 2 * sizes
    share = 2 * (message_rounding(n_tokens + 1, model.n_states) + 2 * reading_rounding(model))
    return certainty > (share * sizes).clamp(min=score_error)


def require_model(function: str, model: object, model_type: type[HMM] | type[MemoryHMM]) -> None:
    """Raise :class:`InvalidInput` unless the model is a single one of the right type."""
    if not isinstance(model, model_type):
        otherwise = "flatten() a memory model, or use the function for its kind of model"
        raise InvalidInput(
            function,
            f"a single {model_type.__name__}",
            foreign.described(model),
            otherwise if isinstance(model, HMM | MemoryHMM) else foreign.remedy(model, "model", otherwise),
        )
    model.require_single(function)


def require_pair(
    function: str, model: Model, task: Task, model_type: type[HMM] | type[MemoryHMM], *, any_position: bool = False
) -> None:
    """Raise :class:`InvalidInput` unless model and task are single ones of the right types and of the same size.

    Tasks on another state than H₀ are refused, too, unless ``any_position``.
    """
    require_model(function, model, model_type)
    task_type, size = (
        (PosteriorTask, f"{model.n_states} states")
        if isinstance(model, HMM)
        else (MemoryTask, f"{model.n_memory_values} values of a cell in 0..{model.n_cells - 1}")
    )
    n_values = model.n_states if isinstance(model, HMM) else model.n_memory_values
    fits = isinstance(task, task_type) and not task.batch_shape and task.weights.shape[-1] == n_values
    if fits and isinstance(task, MemoryTask) and isinstance(model, MemoryHMM):
        fits = int(task.target_cell) < model.n_cells
    if not fits:
        got = type(task).__name__
        if isinstance(task, Task):
            got += f" with weights {tuple(task.weights.shape)}"
        if isinstance(task, MemoryTask):
            got += f" of cell {task.target_cell.tolist()}"
        raise InvalidInput(
            "task", f"one {task_type.__name__} on {size}", got, "use a task of the model's kind and size"
        )
    if task.aligned_to(model) is not task:
        latent = task.dimensions["weights"][-1]
        raise InvalidInput(
            f"names of dimension {latent!r} of the task",
            f"the model's order, {', '.join(map(str, model.names[latent]))}",
            ", ".join(map(str, task.names[latent])),
            "pass task.aligned_to(model)",
        )
    if not any_position and task.place.position is not None:
        raise InvalidInput(
            function, "a task on the silent H₀", f"one on {task.place}", "use position_certificate, or audit"
        )


def require_thresholds(support_threshold: float, tolerance: float) -> None:
    """Raise :class:`InvalidInput` unless both are non-negative numbers."""
    for name, value in (("support_threshold", support_threshold), ("tolerance", tolerance)):
        if not isinstance(value, Real) or not value >= 0:
            raise InvalidInput(name, "a non-negative number", repr(value), "pass e.g. 0.0")


class ConditionNotMet(PplHmmError, ValueError):
    """A theorem's condition fails; ``certificate`` carries the quantities that say so."""

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
