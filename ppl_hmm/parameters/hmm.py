"""Parameters of a hidden Markov model over tokens, and its equals in other libraries."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput
from ppl_hmm.parameters.distributions import check_distributions
from ppl_hmm.records import Record, broadcast_shapes
from ppl_hmm.text import as_tensor

if TYPE_CHECKING:
    from pyro.distributions import DiscreteHMM


@dataclasses.dataclass(frozen=True, eq=False)
class HMM(Record):
    """A hidden Markov model over tokens, with a silent initial state.

    Parameters
    ----------
    initial
        π₀ (P…,K): law of H₀, which emits nothing.
    transition
        A (P…,K,K): A[h,h'] = P(H_{t+1}=h' | H_t=h).
    emission
        W (P…,K,V): W[h,x] = P(X_t=x | H_t=h).

    Raises
    ------
    InvalidInput
        A row that is not a distribution (which, its sum), a negative or non-finite entry, mismatched sizes.

    Notes
    -----
    Array-likes become float64 tensors unless all are float32. Leading batch dimensions P… hold several models of
    equal size. Source: Wei, Xie & Ma (2021), §2, whose A and W are column-stochastic (transposed here).
    """

    initial: torch.Tensor
    transition: torch.Tensor
    emission: torch.Tensor

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {
        "initial": (schema.STATE,),
        "transition": (schema.STATE, schema.STATE_NEXT),
        "emission": (schema.STATE, schema.TOKEN),
    }

    def __post_init__(self) -> None:
        self._convert()
        n_states = self.initial.shape[-1]
        if self.transition.shape[-2:] != (n_states, n_states) or self.emission.shape[-2] != n_states:
            raise InvalidInput(
                "sizes of HMM",
                "initial (K,), transition (K, K), emission (K, V)",
                f"initial {tuple(self.initial.shape)}, transition {tuple(self.transition.shape)}, "
                f"emission {tuple(self.emission.shape)}",
                "give all three the same number of states K",
            )
        for name in HMM.dimensions:
            check_distributions(name, getattr(self, name))

    @property
    def n_states(self) -> int:
        """K."""
        return self.initial.shape[-1]

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.emission.shape[-1]

    def to_hmmlearn(self) -> Any:
        """Return the ``hmmlearn.hmm.CategoricalHMM`` of the same law: its first state emits, so start = π₀A."""
        self.require_single("to_hmmlearn")
        from hmmlearn.hmm import CategoricalHMM

        model = CategoricalHMM(n_components=self.n_states, n_features=self.vocabulary_size, init_params="")
        model.startprob_ = (self.initial @ self.transition).detach().cpu().numpy()
        model.transmat_ = self.transition.detach().cpu().numpy()
        model.emissionprob_ = self.emission.detach().cpu().numpy()
        return model

    @classmethod
    def from_hmmlearn(cls, model: Any) -> HMM:
        """Return the exact equal of an hmmlearn ``CategoricalHMM``, with one silent start state added *last*.

        The start state K moves to state h with probability ``startprob_[h]`` and is never visited again, so states
        0..K−1 keep their indices. Its emission row is never used; it is set uniform.
        """
        if type(model).__name__ != "CategoricalHMM" or not hasattr(model, "emissionprob_"):
            raise InvalidInput(
                "from_hmmlearn",
                "a CategoricalHMM with parameters",
                type(model).__name__,
                "fit it, or set startprob_, transmat_ and emissionprob_",
            )
        start = as_tensor(model.startprob_).double()
        transition, emission = as_tensor(model.transmat_).double(), as_tensor(model.emissionprob_).double()
        n_states, vocabulary_size = emission.shape
        silent = start.new_zeros(n_states + 1)
        silent[-1] = 1.0
        padded = torch.cat([transition, start[None]])
        return HMM(
            initial=silent,
            transition=torch.cat([padded, padded.new_zeros(n_states + 1, 1)], dim=1),
            emission=torch.cat([emission, emission.new_full((1, vocabulary_size), 1 / vocabulary_size)]),
        )

    def to_discrete_hmm(self, duration: int | None = None) -> DiscreteHMM:
        """Return Pyro's ``DiscreteHMM`` with these parameters (it has the same silent H₀).

        Log-probabilities are passed as ``logits``: ``probs`` would clamp exact zeros. ``duration`` is T, which
        ``DiscreteHMM`` needs in order to sample.
        """
        from pyro.distributions import Categorical, DiscreteHMM

        emission = self.emission.log()[..., None, :, :]
        return DiscreteHMM(
            self.initial.log(), self.transition.log()[..., None, :, :], Categorical(logits=emission), duration=duration
        )

    @classmethod
    def from_discrete_hmm(cls, distribution: DiscreteHMM) -> HMM:
        """Return the parameters of a homogeneous ``DiscreteHMM`` with categorical emissions.

        Raises
        ------
        InvalidInput
            The emissions are not categorical, or the model changes over time.
        """
        emission = getattr(distribution.observation_dist, "logits", None)
        if emission is None or not hasattr(distribution.observation_dist, "_num_events"):
            raise InvalidInput(
                "observation distribution of DiscreteHMM",
                "Categorical",
                type(distribution.observation_dist).__name__,
                "only tokens are supported",
            )
        transition = distribution.transition_logits
        # Without a time dimension the parameters are constant in time.
        transition, emission = (logits if logits.ndim > 2 else logits[None] for logits in (transition, emission))
        if transition.shape[-3] != 1 or emission.shape[-3] != 1:
            raise InvalidInput(
                "DiscreteHMM",
                "parameters constant in time (time dimension of size 1)",
                f"transition {tuple(transition.shape)}, emission {tuple(emission.shape)}",
                "pass a homogeneous model",
            )
        transition, emission = transition[..., 0, :, :].exp(), emission[..., 0, :, :].exp()
        initial = distribution.initial_logits.exp()
        batch_shape = broadcast_shapes(initial.shape[:-1], transition.shape[:-2], emission.shape[:-2])
        return HMM(
            initial.expand(*batch_shape, *initial.shape[-1:]),
            transition.expand(*batch_shape, *transition.shape[-2:]),
            emission.expand(*batch_shape, *emission.shape[-2:]),
        )
