"""Downstream tasks: labels as functions of the exact posterior.

The label of a text is deterministic: F*(x) = 1(μᵀp(x) ≥ 0), or argmax_c w_cᵀp(x) for C classes, where p(x) is the
posterior of one latent: P(H₀|x), P(H_t|·) at another position, or P(M_{j*}|x) for a memory model. It comes from the raw
text alone, without mask or prompt. Source: Wei, Xie & Ma (2021), §3 and §4, the downstream tasks; other positions are
ours.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple, TypeVar, cast

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base import foreign
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.labels import matched, read
from ppl_hmm.base.positions import Given, Place
from ppl_hmm.base.records import Record
from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.rounding import message_rounding
from ppl_hmm.exact.support import possible_states
from ppl_hmm.inference.queries import MemoryPosterior, Posterior, initial_posterior, memory_posterior, state_posterior
from ppl_hmm.models import HMM, MemoryHMM

# A margin within this share of ‖μ‖_∞ is below what float64 arithmetic on the posterior decides, whatever the text.
_RELATIVE_TOLERANCE = 1e-12

TaskT = TypeVar("TaskT", bound="Task")
Law = Posterior | ArrayLike | Tensor


class Answers(NamedTuple):
    """What a task says of each text (P…,B)."""

    labels: Tensor
    margins: Tensor
    decidable: Tensor  # whether |margin| exceeds the tolerance


@dataclasses.dataclass(frozen=True, eq=False)
class Task(Record):
    """Base of tasks: weights (P…,C,n) on the posterior (P…,B,n) of one latent with n values."""

    weights: Tensor

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
        latent = self.dimensions["weights"][-1]
        law, order = self._given(posterior)
        n_values = self.weights.shape[-1]
        if law.ndim < 2 or law.shape[-1] != n_values:
            raise InvalidInput(
                "posterior of a task",
                f"laws of shape (…, B, {n_values})",
                f"shape {tuple(law.shape)}",
                "use a model and a task of the same size",
            )
        return matched(law.to(self.weights), order, self.names.get(latent), f"{latent} of a posterior", "the task")

    def _given(self, posterior: Law) -> tuple[Tensor, tuple[str, ...] | None]:
        """Return the law (P…,B,n) as it was given, and the names of its values, if it has any."""
        latent = self.dimensions["weights"][-1]
        if isinstance(posterior, Posterior):
            return self._law_of(posterior), posterior.names.get(latent)
        array = read(posterior, (schema.SEQUENCE, latent), "posterior of a task")
        return as_tensor(array.values, self.device, what="posterior of a task"), array.labels.get(latent)

    def _law_of(self, posterior: Posterior) -> Tensor:
        raise NotImplementedError


def decide(scores: Tensor) -> Tensor:
    """Return the class (…) that scores (…,1) choose between two, score ≥ 0, or scores (…,C) among C; ties go up."""
    if scores.shape[-1] == 1:
        return (scores[..., 0] >= 0).long()
    # argmax takes the first of equals: look from the highest class down.
    return scores.shape[-1] - 1 - scores.flip(-1).argmax(-1)


@dataclasses.dataclass(frozen=True, eq=False)
class PosteriorTask(Task):
    """Classify a text by its posterior of one state: the initial one, or that at a position.

    Parameters
    ----------
    weights
        (P…,C,K): w_c for each of C ≥ 2 classes; for two classes μ = w_1 − w_0.
    position
        None for the silent initial state, P(H₀|x). t ≥ 0 for the state that emits the token at position t, 0 being the
        first token as passed; t < 0 counted from the end of each text, −1 being its last token that is not ``MASK``.
        Past the end of a shorter text a t ≥ 0 asks of the state that its next tokens would come from.
    given
        What the state's posterior is given: ``'text'`` for P(H_t|x), ``'prefix'`` for P(H_t|x_1..x_t), the tokens up to
        the position, ``'context'`` for P(H_t|x_{-t}), all tokens but the one there.

    Raises
    ------
    InvalidInput
        Fewer than two classes, a non-finite weight, or a difference of weights that overflows; a position that is no
        integer, a ``given`` that is unknown, or other than ``'text'`` without a position.

    Examples
    --------
    >>> from ppl_hmm import HMM, PosteriorTask, latent_posterior
    >>> model = HMM([1.0, 0.0], [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.1, 0.9]])
    >>> task = PosteriorTask([[1, 0], [0, 1]], position=-1)  # which state is the text in at its end?
    >>> task.labels(latent_posterior(model, task, [[0, 0, 0], [0, 1, 1]])).tolist()
    [0, 1]
    """

    position: int | None = None
    given: Given = "text"

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {"weights": (schema.CLASS, schema.STATE)}
    settings: ClassVar[dict[str, int | str | None]] = {"position": None, "given": "text"}

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "position", self.place.position)

    @property
    def n_states(self) -> int:
        """K."""
        return self.weights.shape[-1]

    @property
    def place(self) -> Place:
        """The state that is asked of, what is given to its posterior, and where a head's mask stands."""
        return Place(self.position, self.given)

    def _law_of(self, posterior: Posterior) -> Tensor:
        if self.position is None:
            return posterior.initial
        n_positions = posterior.smoothed.shape[-2]
        if self.given != "text" or self.position < 0:
            raise InvalidInput(
                f"posterior of a task on {self.place}",
                "laws (…, B, K) of that state",
                "a Posterior, which is given all of the text and does not know where it ends",
                "pass latent_posterior(model, task, tokens)",
            )
        if self.position >= n_positions:
            raise InvalidInput("position", f"one in 0..{n_positions - 1}", str(self.position), "pass longer texts")
        return posterior.smoothed[..., self.position, :]


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryTask(Task):
    """Classify a text by its posterior of one memory cell, P(M_{j*}|x).

    Parameters
    ----------
    weights
        (P…,C,m): w_c for each of C ≥ 2 classes; for two classes μ = w_1 − w_0.
    target_cell
        (P…) integer: j*, counted from 0.

    Raises
    ------
    InvalidInput
        Fewer than two classes, a non-finite weight, a difference of weights that overflows, a cell that is no integer
        or negative.
    """

    target_cell: Tensor

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {
        "weights": (schema.CLASS, schema.MEMORY_VALUE),
        "target_cell": (),
    }
    integers: ClassVar[frozenset[str]] = frozenset({"target_cell"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.target_cell < 0).any():
            raise InvalidInput(
                "target_cell", "a cell counted from 0", str(int(self.target_cell.min())), "pass e.g. target_cell=0"
            )

    @property
    def n_memory_values(self) -> int:
        """M."""
        return self.weights.shape[-1]

    def _law_of(self, posterior: Posterior) -> Tensor:
        if not isinstance(posterior, MemoryPosterior):
            raise InvalidInput(
                "posterior of a MemoryTask",
                "that of a MemoryHMM",
                type(posterior).__name__,
                "pass posterior(memory_model, tokens)",
            )
        memory = posterior.memory  # (P…,B,N,m)
        if (self.target_cell >= memory.shape[-2]).any():
            raise InvalidInput(
                "target_cell",
                f"a cell in 0..{memory.shape[-2] - 1}",
                str(int(self.target_cell.max())),
                "use a model and a task with the same cells",
            )
        cell = self.target_cell.to(memory.device)[..., None, None, None]
        return torch.take_along_dim(memory, cell, dim=-2)[..., 0, :]


def latent_prior(model: HMM | MemoryHMM, task: Task, tokens: ArrayLike | Tensor | None = None) -> Tensor:
    """Return the law (n,) of what the task asks of, before any text: π₀, π₀A^{t+1}, or P(M_{j*}) of its cell.

    Where the position is counted from the end, the law (B,n) depends on the length of each text in ``tokens`` (B,T).
    """
    if not isinstance(model, HMM):
        return model.memory_prior[_cell(task)]
    place = task.place
    if place.position is None:
        return model.initial
    if place.position >= 0:
        columns = torch.tensor(place.position, device=model.device)
    elif tokens is None:
        raise InvalidInput("texts of a position counted from the end", "tokens (B, T)", "None", "pass the texts")
    else:
        columns = place.columns(as_tokens(cast(Tensor, tokens), model.vocabulary_size, device=model.device))
    laws = [model.initial @ model.transition]
    for _ in range(int(columns.max())):
        laws.append(laws[-1] @ model.transition)
    return torch.stack(laws)[columns]


def require_task(task: object) -> None:
    """Raise :class:`InvalidInput`, naming what to pass, unless this is a task of ours."""
    foreign.require(task, Task, "task", "a PosteriorTask or MemoryTask", wanted="task")


def latent_posterior(
    model: HMM | MemoryHMM, task: Task, tokens: ArrayLike | Tensor, *, lengths: ArrayLike | Tensor | None = None
) -> Tensor:
    """Return what the task asks of text (B,T): P(H₀|x), P(H_t|·), or P(M_{j*}|x) of its cell, (B,n).

    For one model and one task of the same kind; errors and cost as :func:`~ppl_hmm.posterior` and
    :func:`~ppl_hmm.memory_posterior`.

    Raises
    ------
    InvalidInput, ImpossibleText
        As those functions; a text that has no such position.
    """
    require_task(task)
    if isinstance(task, MemoryTask):
        return memory_posterior(cast(MemoryHMM, model), tokens, lengths=lengths)[:, _cell(task)]
    if not isinstance(model, HMM):
        raise InvalidInput(
            "model of a PosteriorTask", "an HMM", type(model).__name__, "flatten() a memory model, or use a MemoryTask"
        )
    place = task.place
    if place.position is None:
        return initial_posterior(model, tokens, lengths=lengths)
    text = as_tokens(
        tokens, model.vocabulary_size, lengths=lengths, batch_shape=model.batch_shape, device=model.device
    )
    return state_posterior(model, place.known(text), place.columns(text))


def require_uncertain(function: str, model: HMM | MemoryHMM, task: Task) -> None:
    """Raise :class:`InvalidInput` where the latent has one possible value: its posterior is then constant."""
    values = _possible_values(model, task).nonzero()[:, 0].tolist()
    if len(values) > 1:
        return
    if isinstance(task, MemoryTask):
        raise InvalidInput(
            f"{function}: memory cell {_cell(task)}",
            "more than one possible value",
            f"value {values[0]} only, so that P(M|x) is the same for every text",
            "ask of another cell, or give the cell another memory_prior",
        )
    raise InvalidInput(
        f"{function}: {task.place}",
        "more than one possible state",
        f"state {values[0]} only, so that its posterior is the same for every text",
        "ask of another position, e.g. PosteriorTask(weights, position=0), or give the model another initial law",
    )


def on_possible_values(model: HMM | MemoryHMM, task: TaskT) -> TaskT:
    """Return the task with zero weights on values that the latent cannot have.

    Their posterior is zero, so that margins stay the same; ‖μ‖_∞, and all that is relative to it, is that of margins.
    """
    possible = _possible_values(model, task).to(task.device)
    return dataclasses.replace(task, weights=task.weights.where(possible, 0.0))


def _possible_values(model: HMM | MemoryHMM, task: Task) -> Tensor:
    """Return which values (n,) the latent can have; at any length of text, if its position is counted from the end."""
    if not isinstance(task, PosteriorTask) or not isinstance(model, HMM):
        return latent_prior(model, task) > 0
    if task.position is None:
        return model.initial > 0
    n_moves = 1 + task.position if task.position >= 0 else None
    return possible_states(model.initial, model.transition, n_moves)


def _cell(task: Task) -> int:
    assert isinstance(task, MemoryTask)  # the kind that fits a memory model
    return int(task.target_cell)
