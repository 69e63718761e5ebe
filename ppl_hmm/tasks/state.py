"""Tasks on a state: the silent initial one, or that at a position of the text."""

from __future__ import annotations

import dataclasses
import typing
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base import foreign
from ppl_hmm.base.labels import Names
from ppl_hmm.base.positions import Given, Place
from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.support import possible_states
from ppl_hmm.inference.queries import Posterior, initial_posterior, state_posterior
from ppl_hmm.models import HMM
from ppl_hmm.tasks.base import Task


@typing.final
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

    See Also
    --------
    MemoryTask : On a cell of a memory.
    latent_posterior : The law that its labels are of.
    random_task : A random one.

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

    if TYPE_CHECKING:  # array-likes become tensors

        def __init__(
            self,
            weights: ArrayLike | torch.Tensor,
            position: int | None = None,
            given: Given = "text",
            *,
            names: Names = ...,
        ) -> None: ...

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {"weights": (schema.CLASS, schema.STATE)}
    model_type = HMM
    value = "state"
    if_certain = (
        "ask of another position, e.g. PosteriorTask(weights, position=0), or give the model another initial law"
    )
    settings: ClassVar[dict[str, int | str | None]] = {"position": None, "given": "text"}

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "position", self.place.position)

    @classmethod
    def of_next_state(cls, weights: ArrayLike | Tensor, model: HMM) -> PosteriorTask:
        """Return the task on the state that the next token comes from, P(H_{T+1}|x): weights A w_c on the last state.

        As P(H_{T+1}|x) = AᵀP(H_T|x), labels and margins are those of the last state with these weights (C,K).

        Raises
        ------
        InvalidInput
            No HMM, a batch of models, weights that do not fit the model.

        Examples
        --------
        >>> from ppl_hmm import HMM, PosteriorTask
        >>> model = HMM([1.0, 0.0], [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.1, 0.9]])
        >>> PosteriorTask.of_next_state([[0, 0], [-1, 1]], model).contrast.numpy().round(2).tolist()
        [-0.8, 0.6]
        """
        foreign.require(model, HMM, "model of PosteriorTask.of_next_state", "an HMM")
        model.require_single("PosteriorTask.of_next_state")
        task = cls(weights, position=-1, given="prefix").aligned_to(model)  # type: ignore[arg-type]
        if not task.fits(model):
            got = str(tuple(task.weights.shape))
            raise InvalidInput("weights of a task", f"shape (C, {model.n_states})", got, "give one for each state")
        return dataclasses.replace(task, weights=task.weights @ model.transition.detach().to(task.weights).mT)

    @property
    def n_states(self) -> int:
        """K."""
        return self.n_values

    @property
    def latent(self) -> str:
        """``'the silent state H₀ given the text'``, or the state at a position and what is given."""
        return str(self.place)

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

    def prior(self, model: HMM, tokens: ArrayLike | Tensor | None = None) -> Tensor:
        """Return π₀, or π₀A^{t+1}; (B,K) by the lengths of texts where the position is counted from their end."""
        place = self.place
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

    def posterior(self, model: HMM, tokens: ArrayLike | Tensor, lengths: ArrayLike | Tensor | None = None) -> Tensor:
        """Return P(H₀|x) or P(H_t|·) (B,K)."""
        if not isinstance(model, HMM):
            remedy = "flatten() a memory model, or use a MemoryTask"
            raise InvalidInput("model of a PosteriorTask", "an HMM", type(model).__name__, remedy)
        place = self.place
        if place.position is None:
            return initial_posterior(model, tokens, lengths=lengths)
        text = as_tokens(
            tokens, model.vocabulary_size, lengths=lengths, batch_shape=model.batch_shape, device=model.device
        )
        return state_posterior(model, place.known(text), place.columns(text))

    def possible(self, model: HMM) -> Tensor:
        """Return which states (K,) the latent can be; at any length of text, if counted from its end."""
        if self.position is None:
            return model.initial > 0
        n_moves = 1 + self.position if self.position >= 0 else None
        return possible_states(model.initial, model.transition, n_moves)

    def fits(self, model: HMM) -> bool:
        """Say whether the task has a weight for each state."""
        return self.n_values == model.n_states

    @classmethod
    def sizes_of(cls, model: HMM) -> str:
        """Return e.g. ``'3 states'``."""
        return f"{model.n_states} states"
