"""Downstream tasks: labels as functions of the exact posterior.

The label of a text is deterministic: F*(x) = 1(μᵀP(H₀|x) ≥ 0), or argmax_c w_cᵀP(H₀|x) for C classes. It comes from
the raw text alone, without mask or prompt. Source: Wei, Xie & Ma (2021), §3, the downstream task.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference import Posterior
from ppl_hmm.records import Record
from ppl_hmm.text import as_tensor

# A margin within this share of ‖μ‖_∞ is below what float64 arithmetic on the posterior decides.
_RELATIVE_TOLERANCE = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class PosteriorTask(Record):
    """Classify a text by its posterior of the initial state.

    Parameters
    ----------
    weights
        (P…,C,K): w_c for each of C ≥ 2 classes; for two classes μ = w_1 − w_0.

    Raises
    ------
    InvalidInput
        Fewer than two classes, or a non-finite weight.
    """

    weights: torch.Tensor

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {"weights": (schema.CLASS, schema.STATE)}

    def __post_init__(self) -> None:
        self._convert()
        if self.n_classes < 2 or self.n_states < 1:
            raise InvalidInput(
                "weights of a task",
                "shape (C, K) with at least two classes",
                f"shape {tuple(self.weights.shape)}",
                "give one row of weights for each class",
            )

    @property
    def n_classes(self) -> int:
        """C."""
        return self.weights.shape[-2]

    @property
    def n_states(self) -> int:
        """K."""
        return self.weights.shape[-1]

    @property
    def contrast(self) -> Tensor:
        """μ = w_1 − w_0 (P…,K), for two classes."""
        if self.n_classes != 2:
            raise InvalidInput(
                "contrast μ of a task", "two classes", f"{self.n_classes} classes", "compare classes pair by pair"
            )
        return self.weights[..., 1, :] - self.weights[..., 0, :]

    @property
    def tolerance(self) -> Tensor:
        """τ (P…): margins within it are undecidable by default; 1e-12·‖μ‖_∞, over all pairs of classes."""
        spread = self.weights.amax(-2) - self.weights.amin(-2)
        return _RELATIVE_TOLERANCE * spread.amax(-1)

    def labels(self, posterior: Posterior | ArrayLike | Tensor) -> Tensor:
        """Return the class (P…,B) of each text from its posterior, or from P(H₀|x) (P…,B,K); ties go up."""
        scores = self._scores(posterior)
        if self.n_classes == 2:
            return (self._binary_margins(posterior) >= 0).long()
        # argmax takes the first of equals: look from the highest class down.
        return self.n_classes - 1 - scores.flip(-1).argmax(-1)

    def margins(self, posterior: Posterior | ArrayLike | Tensor) -> Tensor:
        """Return the margin (P…,B): signed μᵀP(H₀|x) for two classes, top minus second score for more."""
        if self.n_classes == 2:
            return self._binary_margins(posterior)
        top = self._scores(posterior).topk(2, dim=-1).values
        return top[..., 0] - top[..., 1]

    def decidable(self, posterior: Posterior | ArrayLike | Tensor, tolerance: float | None = None) -> Tensor:
        """Say for each text (P…,B) whether |margin| exceeds the tolerance (default: :attr:`tolerance`)."""
        limit = self.tolerance[..., None] if tolerance is None else tolerance
        return self.margins(posterior).abs() > limit

    def _binary_margins(self, posterior) -> Tensor:
        return (self._initial(posterior) @ self.contrast[..., None])[..., 0]

    def _scores(self, posterior) -> Tensor:
        return self._initial(posterior) @ self.weights.transpose(-1, -2)

    def _initial(self, posterior: Posterior | ArrayLike | Tensor) -> Tensor:
        if isinstance(posterior, Posterior):
            initial = posterior.initial
        else:
            initial = as_tensor(posterior, self.device, what="posterior of a task")
        if initial.ndim < 2 or initial.shape[-1] != self.n_states:
            raise InvalidInput(
                "posterior of a task",
                f"P(H₀|x) of shape (…, B, {self.n_states})",
                f"shape {tuple(initial.shape)}",
                "use a model and a task with the same states",
            )
        return initial.to(self.weights)
