"""The law of a text under hidden Markov models as a Pyro distribution, by exact inference in place of enumeration."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from pyro.distributions import Categorical, DiscreteHMM
from pyro.distributions.hmm import HiddenMarkovModel
from torch import Tensor
from torch.distributions import constraints

from ppl_hmm.base.checks import require_possible
from ppl_hmm.base.randomness import Seed, generator
from ppl_hmm.base.tokens import MASK, as_tokens
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.exact import chain, paths, predictive
from ppl_hmm.models import HMM
from ppl_hmm.programs.logits import alike, require_floats, warn_of_probabilities
from ppl_hmm.programs.plates import Arranged, arrange, broadcast, warn_of_plates_read_as_time, without_time
from ppl_hmm.programs.tokens import whole_tokens

_require_possible = functools.partial(require_possible, what="text [{}]")


class CategoricalHMM(HiddenMarkovModel):
    """Distribution of texts (…,T); takes the place of Pyro's ``DiscreteHMM`` with homogeneous categorical emissions.

    The same arguments, shapes and conventions (silent H₀), with a fast ``log_prob`` and gradient, and with the
    posterior of the states. As with ``DiscreteHMM`` the event shape is (1,), which stands for any T, unless
    ``duration`` is given. Parallel enumeration is not supported: the states are summed out already.

    Every method that takes text checks it, whatever the validation settings of Pyro and PyTorch. Tokens are integers
    0..V−1 (or floats that are whole, as Pyro may pass them), or ``MASK`` (−1) for unobserved; text of several lengths
    ends in ``MASK``.

    Parameters
    ----------
    initial_logits
        (…,K): logarithms of the law of H₀, not necessarily normalised; −inf for exact zeros.
    transition_logits
        (K,K), or (…,1,K,K) as ``DiscreteHMM`` has it: from the row's state to the column's.
    observation_dist
        ``Categorical(logits=(K,V))`` of Pyro or PyTorch, or (…,1,K,V). (``probs=`` would clamp exact zeros.)
    duration
        T, needed to sample.

    Raises
    ------
    InvalidInput
        Emissions that are not categorical, parameters that change over time, shapes or devices that do not fit. Of
        methods: tokens out of range or not whole, no tokens, shapes that do not fit the plates.

    Warns
    -----
    UserWarning
        Parameters (…,n,1,K,J) whose axis of one may be a plate, where plates of equal size n hide the error. With
        validation, probabilities in place of their logarithms.

    See Also
    --------
    ppl_hmm.HMM.to_categorical_hmm : The distribution of a model.
    ppl_hmm.posterior, ppl_hmm.viterbi, ppl_hmm.sample_posterior : The same answers for an :class:`~ppl_hmm.HMM`.

    Notes
    -----
    Logits of several dtypes are promoted as in ``DiscreteHMM``; computations are in float32 at least. Validation
    refuses NaN and +inf in logits, and finite logits whose probability is no float (below −103 in float32, −745 in
    float64). Without validation nothing is refused: NaN and +inf give a wrong number or NaN, and such finite logits
    count as probability zero.

    Parameters have an axis for each plate, then one for time, then (K,K) or (K,V). A parameter that is drawn inside
    plates, or outside them with vectorised particles, has no axis for time. ``.unsqueeze(-3)`` adds it and is never
    wrong. Without it the innermost plate is read as time: a transition for each group, (n,1,K,K) under plates (group,
    text), would become one for each text. Sizes show that error, except where there are as many groups as texts: then
    a ``UserWarning`` does.

    Examples
    --------
    >>> import pyro, torch
    >>> import pyro.distributions as dist
    >>> from ppl_hmm import CategoricalHMM
    >>> transition = torch.tensor([[0.7, 0.3], [0.2, 0.8]], dtype=torch.float64)
    >>> emission = dist.Categorical(logits=torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]]).log())
    >>> law = CategoricalHMM(torch.tensor([0.6, 0.4]).log(), transition.log(), emission)
    >>> law.log_prob([[0, 1, 2, 2], [2, 1, 0, 0]]).numpy().round(4)
    array([-4.0903, -4.6416])
    >>> law.viterbi([0, 1, 2, 2])
    tensor([0, 1, 1, 1])

    Seven groups of five texts, with a transition for each group:

    >>> def program(texts):
    ...     with pyro.plate("group", 7, dim=-2):
    ...         transition = pyro.sample("transition", dist.Dirichlet(torch.ones(2, 2)).to_event(1))
    ...         with pyro.plate("text", 5, dim=-1):  # the transition is (7,1,2,2): plates, no time
    ...             law = CategoricalHMM(torch.zeros(2), transition.log().unsqueeze(-3), emission)
    ...             return pyro.sample("tokens", law, obs=texts)
    >>> trace = pyro.poutine.trace(program).get_trace(torch.zeros(7, 5, 4, dtype=torch.int64))
    >>> trace.compute_log_prob()
    >>> trace.nodes["tokens"]["log_prob"].shape
    torch.Size([7, 5])
    """

    arg_constraints = dict.fromkeys(  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
        ("initial_logits", "transition_logits", "emission_logits"), constraints.real
    )

    def __init__(
        self,
        initial_logits: Tensor,
        transition_logits: Tensor,
        observation_dist: torch.distributions.Categorical,
        validate_args: bool | None = None,
        duration: int | None = None,
    ) -> None:
        if not isinstance(observation_dist, torch.distributions.Categorical):
            kind = type(observation_dist)
            raise InvalidInput(
                "observation_dist",
                "a Categorical of Pyro or PyTorch",
                f"{kind.__module__}.{kind.__qualname__}",
                "use Pyro's DiscreteHMM for other emissions",
            )
        initial, transition, emission = alike(
            initial_logits=initial_logits,
            transition_logits=transition_logits,
            observation_dist=observation_dist.logits,
        )
        if initial.ndim == 0 or 0 in (*initial.shape, *emission.shape):
            shapes = f"{tuple(initial.shape)} and {tuple(emission.shape)}"
            raise InvalidInput("initial_logits and observation_dist", "shapes (…, K) and (…, K, V)", shapes, "check K")
        n_states, n_tokens = initial.shape[-1], emission.shape[-1]
        transition = without_time(transition, (n_states, n_states), "transition_logits")
        emission = without_time(emission, (n_states, n_tokens), "observation_dist")
        self.initial_logits = initial.log_softmax(-1)
        self.transition_logits = transition.log_softmax(-1)
        self.emission_logits = emission.log_softmax(-1)
        self._of_parameters = broadcast(
            "plates of parameters",
            initial_logits=initial.shape[:-1],
            transition_logits=transition.shape[:-2],
            observation_dist=emission.shape[:-2],
        )
        duration = None if duration is None else at_least("duration", duration, 1)
        super().__init__(duration, self._of_parameters, torch.Size((1,)), validate_args=validate_args)
        if self._validate_args:
            require_floats(**{name: getattr(self, name) for name in self.arg_constraints})
            warn_of_probabilities(initial_logits=initial, transition_logits=transition)

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
            broadcast("plates", distribution=self.batch_shape, expanded=batch_shape),
            self.event_shape,
            validate_args=False,
        )
        new._validate_args = self.__dict__.get("_validate_args")
        return new

    def to_hmm(self) -> HMM:
        """Return the model, or a batch of as many as ``batch_shape`` says, with its gradient.

        See Also
        --------
        ppl_hmm.HMM.to_categorical_hmm : The way back.

        Examples
        --------
        >>> from ppl_hmm import example
        >>> model, _ = example("aliased")
        >>> model.to_categorical_hmm().to_hmm().allclose(model)
        True
        """
        return HMM(
            self.initial_logits.exp().expand(*self.batch_shape, -1),
            self.transition_logits.exp().expand(*self.batch_shape, -1, -1),
            self.emission_logits.exp().expand(*self.batch_shape, -1, -1),
        )

    def log_prob(self, value: ArrayLike | Tensor) -> Tensor:
        """Return log P(value) (…), −inf for impossible text, differentiable in all logits. Cost O(B·T·K²)."""
        arranged = self._arrange(value)
        return arranged.restore(chain.log_evidence(arranged.chain))

    def initial_posterior(self, value: ArrayLike | Tensor) -> Tensor:
        """Return P(H₀ | value) (…,K), without gradient; zeros for impossible text. Cost O(B·T·K²).

        Examples
        --------
        >>> from ppl_hmm import example
        >>> model, _ = example("aliased")
        >>> posterior = model.to_categorical_hmm().initial_posterior([[0, 1, 1]])  # (1,K)
        >>> round(float(posterior.sum()), 6)
        1.0
        """
        arranged = self._arrange(value)
        return arranged.restore(chain.forward_backward(arranged.chain, []).initial)

    def filter(self, value: ArrayLike | Tensor) -> Categorical:
        """Return P(H_T | value) as a ``Categorical`` (…) over K states, as ``DiscreteHMM.filter`` does.

        Its ``logits``, differentiable, are the ``initial_logits`` of the text to come. Cost O(B·T·K²) time; memory
        O(B·K), or O(B·T·K²) where a gradient is wanted.

        Raises
        ------
        ImpossibleText
            Text of probability zero, which has no such law.

        Examples
        --------
        >>> from ppl_hmm import example
        >>> law = example("aliased")[0].to_categorical_hmm()
        >>> so_far = law.filter([0, 1, 1])
        >>> later = CategoricalHMM(so_far.logits, law.transition_logits, Categorical(logits=law.emission_logits))
        >>> bool((law.log_prob([0, 1, 1]) + later.log_prob([0, 2])).isclose(law.log_prob([0, 1, 1, 0, 2])))
        True
        """
        arranged = self._arrange(value)
        logits = arranged.restore(predictive.log_filtered(arranged.chain))
        _require_possible((logits > -torch.inf).any(-1))
        return Categorical(logits=logits, validate_args=self._validate_args)

    def smooth(self, value: ArrayLike | Tensor) -> Tensor:
        """Return P(H_t | value) (…,T,K), t = 1..T, without gradient; zeros for impossible text. Cost O(B·T·K²)."""
        arranged = self._arrange(value)
        return arranged.restore(chain.forward_backward(arranged.chain, arranged.positions).marginals)

    @torch.no_grad()
    def viterbi(self, value: ArrayLike | Tensor) -> Tensor:
        """Return the most probable states H₁..H_T (…,T), with the best H₀; −1 for impossible text. Cost O(B·T·K²).

        Each ``MASK`` is a position, whose state is found too, behind the last token as well, as in Pyro.
        """
        arranged = self._arrange(value)
        best = paths.best_path(arranged.chain)
        possible = paths.log_joint(arranged.chain, best) > -torch.inf
        return arranged.restore(torch.where(possible[..., None], best, -1)[:, :, 0, 1:])

    @torch.no_grad()
    def sample_posterior(self, value: ArrayLike | Tensor, n_draws: int, seed: Seed) -> Tensor:
        """Return draws of the states from P(H₁..H_T | value): (n_draws,…,T). Cost O(B·T·K·(K+n_draws)).

        Raises
        ------
        ImpossibleText
            Text of probability zero.
        """
        n_draws = at_least("n_draws", n_draws, 1)
        arranged = self._arrange(value)
        _require_possible(arranged.restore(chain.log_evidence(arranged.chain)) > -torch.inf)
        stream = generator(seed, "posterior of a distribution")
        draws = paths.sample_paths(arranged.chain, n_draws, stream)[..., 1:]
        return torch.stack([arranged.restore(draw) for draw in draws.unbind(2)])

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return texts (…,T); by Pyro, from its own stream of random numbers."""
        if self.duration is None:
            raise InvalidInput("duration", "the number of tokens", "None", "pass duration=T to sample")
        plates = self._plates(())
        emission = Categorical(logits=self.emission_logits[..., None, :, :])
        transition = self.transition_logits[..., None, :, :]
        other = DiscreteHMM(self.initial_logits, transition, emission, duration=self.duration)
        return other.expand(plates).sample(torch.Size(sample_shape))

    def _plates(self, of_text: Sequence[int]) -> torch.Size:
        """Return the plates of text under this distribution."""
        plates = broadcast("plates", distribution=self.batch_shape, text=of_text)
        logits = {"transition_logits": self.transition_logits, "observation_dist": self.emission_logits}
        warn_of_plates_read_as_time(plates, self.initial_logits, **logits)
        return plates

    def _arrange(self, value: ArrayLike | Tensor) -> Arranged:
        """Return checked texts under their models."""
        n_tokens = self.emission_logits.shape[-1]
        tokens = whole_tokens(value, n_tokens, self.emission_logits.device)
        plates = self._plates(tokens.shape[:-1])
        ids = as_tokens(tokens[None].flatten(0, -2), n_tokens).reshape(tokens.shape)
        if self._validate_args:
            self._validate_sample(ids)
        logits = (self.initial_logits, self.transition_logits, self.emission_logits)
        return arrange(ids, plates, self._of_parameters, *logits)
