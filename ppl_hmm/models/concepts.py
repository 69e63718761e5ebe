"""Parameters of a mixture of hidden Markov models: one chain whose states belong to concepts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.labels import Names
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models.hmm import HMM


@dataclasses.dataclass(frozen=True, eq=False)
class ConceptHMM(HMM):
    """A hidden Markov model whose states belong to concepts that a text never leaves.

    The concept θ of a text is drawn with H₀, P(θ) = Σ_{h∈θ} π₀(h), and A is block-diagonal over concepts: the text is
    drawn from one of C smaller models. It is an :class:`HMM` wherever one is asked for.

    Parameters
    ----------
    initial, transition, emission
        π₀ (P…,K), A (P…,K,K) and W (P…,K,V), as in :class:`HMM`; A[h,h'] = 0 between states of different concepts.
    concept_of_state
        (P…,K) integers 0..C−1: the concept of each state. Every concept has a state.

    Raises
    ------
    InvalidInput
        As :class:`HMM`; a transition between concepts (which states), a concept without states.

    See Also
    --------
    HMM : Wherever no concept is asked of.
    random_hmm : Its regime ``'ginc'`` draws such models.

    Notes
    -----
    Source: Xie, Raghunathan, Liang & Ma (2021), §2, where pretraining text is a mixture of such models.

    Examples
    --------
    >>> from ppl_hmm import ConceptHMM
    >>> model = ConceptHMM([0.5, 0.5], [[1, 0], [0, 1]], [[0.9, 0.1], [0.1, 0.9]], concept_of_state=[0, 1])
    >>> model.n_concepts
    2
    """

    concept_of_state: Tensor

    if TYPE_CHECKING:  # array-likes become tensors

        def __init__(
            self,
            initial: ArrayLike | torch.Tensor,
            transition: ArrayLike | torch.Tensor,
            emission: ArrayLike | torch.Tensor,
            concept_of_state: ArrayLike | torch.Tensor,
            *,
            names: Names = ...,
        ) -> None: ...

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {**HMM.dimensions, "concept_of_state": (schema.STATE,)}
    integers: ClassVar[frozenset[str]] = frozenset({"concept_of_state"})

    def __post_init__(self) -> None:
        super().__post_init__()
        concept, n_states = self.concept_of_state, self.n_states
        if concept.shape[-1] != n_states:
            raise InvalidInput(
                "concept_of_state",
                f"one concept for each of {n_states} states",
                f"shape {tuple(concept.shape)}",
                "give every state its concept",
            )
        self._check_concepts_have_states()
        across = (self.transition > 0) & (concept[..., :, None] != concept[..., None, :])
        if across.any():
            *model, state, following = across.nonzero()[0].tolist()
            raise InvalidInput(
                f"transition{[*model, state, following]}",
                f"0 between concepts {concept[*model, state]} and {concept[*model, following]} of the two states",
                str(self.transition[*model, state, following].item()),
                "give both states one concept, or remove the transition",
            )

    def _check_concepts_have_states(self) -> None:
        concept = self.concept_of_state
        if concept.min() < 0:
            where = (concept < 0).nonzero()[0].tolist()
            raise InvalidInput(
                f"concept_of_state{where}",
                "a concept 0, 1, …",
                str(concept[tuple(where)].item()),
                "number concepts from 0",
            )
        numbers = torch.arange(self.n_concepts, device=concept.device)
        present = (concept[..., None] == numbers).any(-2)
        if not present.all():
            *model, missing = (~present).nonzero()[0].tolist()
            raise InvalidInput(
                "concept_of_state" + (f" of model {model}" if model else ""),
                f"a state of every concept 0..{self.n_concepts - 1}",
                f"none of concept {missing}",
                "number concepts from 0 without gaps",
            )

    @property
    def n_concepts(self) -> int:
        """C."""
        return int(self.concept_of_state.max()) + 1
