"""What tasks have in common: classes, margins, and which margins are decidable."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.labels import matched, read
from ppl_hmm.base.positions import Place
from ppl_hmm.base.records import Record
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.rounding import message_rounding
from ppl_hmm.inference.queries import Posterior

# A margin within this share of ‖μ‖_∞ is below what float64 arithmetic on the posterior decides, whatever the text.
_RELATIVE_TOLERANCE = 1e-12

Law = Posterior | ArrayLike | Tensor


class Answers(NamedTuple):
    """What a task says of each text (P…,B)."""

    labels: Tensor
    margins: Tensor
    decidable: Tensor  # whether |margin| exceeds the tolerance


@dataclasses.dataclass(frozen=True, eq=False)
class Task(Record, abc.ABC):
    """Base of tasks: weights (P…,C,n) on the posterior (P…,B,n) of one latent with n values.

    A leaf says which latent that is, and how a model of its kind answers.
    """

    weights: Tensor

    model_type: ClassVar[type[Record]]  # the kind of models that have the latent
    value: ClassVar[str]  # what one of its values is called
    if_certain: ClassVar[str]  # what to do where it has one possible value only
    rank_remedy: ClassVar[str] = "give one row of weights for each class; for a contrast mu pass [[0] * len(mu), mu]"

    def __post_init__(self) -> None:
        self._convert()
        if self.n_classes < 2 or self.weights.shape[-1] < 1:
            raise InvalidInput(
                "weights of a task",
                "shape (C, K), or (C, m) for a memory, with at least two classes",
                f"shape {tuple(self.weights.shape)}",
                "give one row of weights for each class",
            )
        if not torch.isfinite(self.scale).all():
            raise InvalidInput(
                "weights of a task",
                f"differences between classes of at most {torch.finfo(self.dtype).max:.1e}",
                "a difference that overflows",
                "divide all weights by their largest: labels stay the same",
            )

    @property
    def n_classes(self) -> int:
        """C."""
        return self.weights.shape[-2]

    @property
    def n_values(self) -> int:
        """The number n of values of the latent."""
        return self.weights.shape[-1]

    @property
    def latent_dimension(self) -> str:
        """Name of the dimension of the latent's values: ``'state'`` or ``'memory_value'``."""
        return self.dimensions["weights"][-1]

    @property
    @abc.abstractmethod
    def latent(self) -> str:
        """What the task asks of, in words."""

    @property
    def place(self) -> Place:
        """Where the mask stands that a head reads: in front of the text, but for tasks on a position."""
        return Place()

    @property
    def contrast(self) -> Tensor:
        """μ = w_1 − w_0 (P…,n), for two classes."""
        if self.n_classes != 2:
            raise InvalidInput(
                "contrast μ of a task", "two classes", f"{self.n_classes} classes", "compare classes pair by pair"
            )
        return self.weights[..., 1, :] - self.weights[..., 0, :]

    @property
    def contrasts(self) -> Tensor:
        """μ (P…,1,n) for two classes, or w_c − w_0 (P…,C,n): only differences between classes matter."""
        return self.contrast[..., None, :] if self.n_classes == 2 else self.weights - self.weights[..., :1, :]

    @property
    def scale(self) -> Tensor:
        """‖μ‖_∞ (P…), the largest difference of weights over all pairs of classes: no margin is larger."""
        return (self.weights.amax(-2) - self.weights.amin(-2)).amax(-1)

    @property
    def tolerance(self) -> Tensor:
        """τ (P…): margins within it are undecidable by default; 1e-12·‖μ‖_∞ in float64, over all pairs of classes.

        In another precision the same number of its roundings: 5e-4·‖μ‖_∞ in float32.
        """
        return self.tolerance_after(0, 0, self.weights.dtype)

    def tolerance_after(self, n_tokens: int, n_states: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return τ (P…) for posteriors of T tokens and K states: :attr:`tolerance`, or more where the text is long.

        Rounding moves no margin by more than this: :func:`~ppl_hmm.exact.rounding.message_rounding`.
        """
        coarsest = max(torch.finfo(each).eps for each in (dtype, self.weights.dtype))
        n_roundings = message_rounding(n_tokens, n_states) / torch.finfo(torch.float64).eps
        return max(_RELATIVE_TOLERANCE / torch.finfo(torch.float64).eps, n_roundings) * coarsest * self.scale

    def labels(self, posterior: Law) -> Tensor:
        """Return the class (P…,B) of each text from its posterior, or from the law (P…,B,n) itself; ties go up."""
        if self.n_classes == 2:
            return decide(self._binary_margins(posterior)[..., None])
        return decide(self._scores(posterior))

    def margins(self, posterior: Law) -> Tensor:
        """Return the margin (P…,B): signed μᵀp for two classes, top minus second score for more."""
        if self.n_classes == 2:
            return self._binary_margins(posterior)
        top = self._scores(posterior).topk(2, dim=-1).values
        return top[..., 0] - top[..., 1]

    def answers(self, posterior: Law, tolerance: float | Tensor | None = None) -> Answers:
        """Return labels, margins, and which texts are decidable, all from one posterior."""
        return Answers(self.labels(posterior), self.margins(posterior), self.decidable(posterior, tolerance))

    def decidable(self, posterior: Law, tolerance: float | Tensor | None = None) -> Tensor:
        """Say for each text (P…,B) whether |margin| exceeds the tolerance, a number or (P…).

        By default :meth:`tolerance_after` the posterior's tokens; a law alone does not say how many it was given, and
        counts as one of few.
        """
        limit = self._tolerance_of(posterior) if tolerance is None else torch.as_tensor(tolerance, device=self.device)
        return self.margins(posterior).abs() > limit[..., None]

    def _binary_margins(self, posterior: Law) -> Tensor:
        return (self._law(posterior) @ self.contrast[..., None])[..., 0]

    def _scores(self, posterior: Law) -> Tensor:
        """Return scores (P…,B,C), less what all classes share: only differences count, and an offset would round."""
        return self._law(posterior) @ (self.weights - self.weights.amin(-2, keepdim=True)).mT

    def _tolerance_of(self, posterior: Law) -> Tensor:
        if isinstance(posterior, Posterior):
            n_tokens, n_states = posterior.smoothed.shape[-2:]
            return self.tolerance_after(n_tokens, n_states, posterior.smoothed.dtype)
        dtype = self._given(posterior)[0].dtype
        return self.tolerance_after(0, 0, dtype if dtype.is_floating_point else self.weights.dtype)

    def _law(self, posterior: Law) -> Tensor:
        latent = self.latent_dimension
        law, order = self._given(posterior)
        if law.ndim < 2 or law.shape[-1] != self.n_values:
            raise InvalidInput(
                "posterior of a task",
                f"laws of shape (…, B, {self.n_values})",
                f"shape {tuple(law.shape)}",
                "use a model and a task of the same size",
            )
        return matched(law.to(self.weights), order, self.names.get(latent), f"{latent} of a posterior", "the task")

    def _given(self, posterior: Law) -> tuple[Tensor, tuple[str, ...] | None]:
        """Return the law (P…,B,n) as it was given, and the names of its values, if it has any."""
        latent = self.latent_dimension
        if isinstance(posterior, Posterior):
            return self._law_of(posterior), posterior.names.get(latent)
        array = read(posterior, (schema.SEQUENCE, latent), "posterior of a task")
        return as_tensor(array.values, self.device, what="posterior of a task"), array.labels.get(latent)

    @abc.abstractmethod
    def _law_of(self, posterior: Posterior) -> Tensor:
        """Return the law (P…,B,n) of the latent in a posterior."""

    @abc.abstractmethod
    def prior(self, model: Any, tokens: ArrayLike | Tensor | None = None) -> Tensor:
        """Return the law (n,) of the latent before any text; see :func:`latent_prior`."""

    @abc.abstractmethod
    def posterior(self, model: Any, tokens: ArrayLike | Tensor, lengths: ArrayLike | Tensor | None = None) -> Tensor:
        """Return the law (B,n) of the latent given text (B,T); see :func:`latent_posterior`."""

    @abc.abstractmethod
    def possible(self, model: Any) -> Tensor:
        """Return which values (n,) the latent can have, whatever the length of the text."""

    @abc.abstractmethod
    def fits(self, model: Any) -> bool:
        """Say whether a model of the task's kind has its latent, with as many values."""

    @classmethod
    @abc.abstractmethod
    def sizes_of(cls, model: Any) -> str:
        """Return in words which latents a model has, and how many values they have."""


def decide(scores: Tensor) -> Tensor:
    """Return the class (…) that scores (…,1) choose between two, score ≥ 0, or scores (…,C) among C; ties go up."""
    if scores.shape[-1] == 1:
        return (scores[..., 0] >= 0).long()
    # argmax takes the first of equals: look from the highest class down.
    return scores.shape[-1] - 1 - scores.flip(-1).argmax(-1)
