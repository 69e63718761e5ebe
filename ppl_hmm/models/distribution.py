"""The law of a text under hidden Markov models as a Pyro distribution, by exact inference in place of enumeration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pyro.distributions import Categorical, DiscreteHMM
from pyro.distributions.hmm import HiddenMarkovModel
from torch import Tensor
from torch.distributions import constraints

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact import chain, paths
from ppl_hmm.randomness import Seed, generator
from ppl_hmm.text import MASK


class CategoricalHMM(HiddenMarkovModel):
    """Distribution of texts (…,T); takes the place of Pyro's ``DiscreteHMM`` with homogeneous categorical emissions.

    The same arguments, shapes and conventions (silent H₀), with a fast ``log_prob`` and gradient, and with the
    posterior of the states. A token may also be ``MASK`` (−1), for unobserved. As with ``DiscreteHMM`` the event shape
    is (1,), which stands for any T, unless ``duration`` is given. Parallel enumeration is not supported: the states are
    summed out already.

    Parameters
    ----------
    initial_logits
        (…,K): logarithms of the law of H₀, not necessarily normalised; −inf for exact zeros.
    transition_logits
        (K,K), or (…,1,K,K) as ``DiscreteHMM`` has it: from the row's state to the column's.
    observation_dist
        ``Categorical(logits=(K,V))``, or (…,1,K,V). (``probs=`` would clamp exact zeros.)
    duration
        T, needed to sample.

    Raises
    ------
    InvalidInput
        Emissions that are not categorical, or parameters that change over time.
    """

    arg_constraints = dict.fromkeys(  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
        ("initial_logits", "transition_logits", "emission_logits"), constraints.real
    )

    def __init__(
        self,
        initial_logits: Tensor,
        transition_logits: Tensor,
        observation_dist: Categorical,
        validate_args: bool | None = None,
        duration: int | None = None,
    ) -> None:
        if not isinstance(observation_dist, Categorical):
            raise InvalidInput(
                "observation_dist", "a Categorical", type(observation_dist).__name__, "use Pyro's DiscreteHMM"
            )
        n_states = initial_logits.shape[-1]
        transition = _without_time(transition_logits, (n_states, n_states), "transition_logits")
        emission = _without_time(
            observation_dist.logits, (n_states, observation_dist.logits.shape[-1]), "observation_dist"
        )
        self.initial_logits = initial_logits.log_softmax(-1)
        self.transition_logits = transition.log_softmax(-1)
        self.emission_logits = emission.log_softmax(-1)
        batch_shape = torch.broadcast_shapes(initial_logits.shape[:-1], transition.shape[:-2], emission.shape[:-2])
        self._of_parameters = batch_shape
        super().__init__(duration, batch_shape, torch.Size((1,)), validate_args=validate_args)

    @constraints.dependent_property(event_dim=1, is_discrete=True)
    def support(self) -> constraints.Constraint:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Tokens 0..V−1, or ``MASK``."""
        return constraints.independent(constraints.integer_interval(MASK, self.emission_logits.shape[-1] - 1), 1)

    def expand(self, batch_shape: Sequence[int], _instance: CategoricalHMM | None = None) -> CategoricalHMM:
        """Return the distribution of as many independent texts; parameters are not copied."""
        new: Any = self._get_checked_instance(CategoricalHMM, _instance)
        for name in ("initial_logits", "transition_logits", "emission_logits", "_of_parameters"):
            setattr(new, name, getattr(self, name))
        super(CategoricalHMM, new).__init__(
            self.duration,
            torch.broadcast_shapes(self.batch_shape, torch.Size(batch_shape)),
            self.event_shape,
            validate_args=False,
        )
        new._validate_args = self.__dict__.get("_validate_args")
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log P(value) (…), −inf for impossible text, differentiable in all logits. Cost O(B·T·K²)."""
        if self._validate_args:
            self._validate_sample(value)
        arranged = self._arrange(value)
        return arranged.restore(chain.log_evidence(*arranged.arrays))

    def smooth(self, value: Tensor) -> Tensor:
        """Return P(H_t | value) (…,T,K), t = 1..T; zeros for impossible text."""
        arranged = self._arrange(value)
        return arranged.restore(chain.forward_backward(*arranged.arrays, range(value.shape[-1])).marginals)

    def viterbi(self, value: Tensor) -> Tensor:
        """Return the most probable states H₁..H_T (…,T), with the best H₀; arbitrary for impossible text."""
        arranged = self._arrange(value)
        return arranged.restore(paths.best_path(*arranged.arrays)[:, :, 0, 1:])

    def sample_posterior(self, value: Tensor, n_draws: int, seed: Seed) -> Tensor:
        """Return draws of the states from P(H₁..H_T | value): (n_draws,…,T). The text must be possible."""
        arranged = self._arrange(value)
        stream = generator(seed, "posterior of a distribution")
        draws = paths.sample_paths(*arranged.arrays, n_draws, stream)[..., 1:]
        return torch.stack([arranged.restore(draw) for draw in draws.unbind(2)])

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return texts (…,T); by Pyro, from its own stream of random numbers."""
        if self.duration is None:
            raise InvalidInput("duration", "the number of tokens", "None", "pass duration=T to sample")
        emission = Categorical(logits=self.emission_logits[..., None, :, :])
        transition = self.transition_logits[..., None, :, :]
        other = DiscreteHMM(self.initial_logits, transition, emission, duration=self.duration)
        return other.expand(self.batch_shape).sample(torch.Size(sample_shape))

    def _arrange(self, value: Tensor) -> _Arranged:
        """Return texts under their models: dimensions in which parameters differ come first."""
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        own = (1,) * (len(shape) - len(self._of_parameters)) + tuple(self._of_parameters)
        of_models = [dim for dim, size in enumerate(own) if size > 1]
        order = (*of_models, *(dim for dim in range(len(shape)) if dim not in of_models))
        length, n_tokens = value.shape[-1], self.emission_logits.shape[-1]
        n_models = torch.Size(self._of_parameters).numel()
        ids = value.long().expand(*shape, length).permute(*order, len(shape)).reshape(n_models, -1, length)

        def models(logits: Tensor, n_own: int) -> Tensor:
            own_shape = logits.shape[logits.ndim - n_own :]
            return _probabilities(logits).expand(*self._of_parameters, *own_shape).reshape(n_models, *own_shape)

        emission = models(self.emission_logits, 2).mT
        table = torch.cat([emission, torch.ones_like(emission[:, :1])], dim=1)
        arrays = (models(self.initial_logits, 1), models(self.transition_logits, 2), table)
        return _Arranged((*arrays, torch.where(ids < 0, n_tokens, ids)), shape, order)


class _Arranged(NamedTuple):
    """Arrays for :mod:`ppl_hmm.exact`, and the way back."""

    arrays: tuple[Tensor, Tensor, Tensor, Tensor]  # initial, transition, table, ids
    shape: torch.Size
    order: tuple[int, ...]

    def restore(self, values: Tensor) -> Tensor:
        """Give results (P,B,…) the shape of the texts back."""
        values = values.reshape([*(self.shape[dim] for dim in self.order), *values.shape[2:]])
        places = [self.order.index(dim) for dim in range(len(self.order))]
        return values.permute([*places, *range(len(places), values.ndim)])


def _probabilities(logits: Tensor) -> Tensor:
    """Return exp(logits), whose gradient at −inf is zero whatever comes from above, infinities included."""
    possible = logits > -torch.inf
    return torch.where(possible, torch.where(possible, logits, 0).exp(), 0)


def _without_time(logits: Tensor, shape: tuple[int, int], what: str) -> Tensor:
    """Return logits (…,K,J) of (K,J) or (…,1,K,J), the form with an axis for time."""
    if logits.shape[-2:] != shape:
        raise InvalidInput(what, f"shape (…, {shape[0]}, {shape[1]})", f"{tuple(logits.shape)}", "check K")
    if logits.ndim == 2:
        return logits
    if logits.shape[-3] != 1:
        raise InvalidInput(
            what,
            "(K, J), or (…, 1, K, J) with an axis of one for time",
            f"shape {tuple(logits.shape)}",
            "add the axis with [..., None, :, :]; for parameters that change over time use Pyro's DiscreteHMM",
        )
    return logits.squeeze(-3)
