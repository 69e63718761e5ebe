"""Parameters of a hidden Markov model over tokens, and its equals in other libraries."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from numpy.typing import ArrayLike

from ppl_hmm import _moved, schema
from ppl_hmm.base.checks import check_distributions
from ppl_hmm.base.labels import Names
from ppl_hmm.base.records import Record, broadcast_shapes
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models.conversions import discrete_parameters, hmmlearn_parameters

if TYPE_CHECKING:
    from pyro.distributions import DiscreteHMM

    from ppl_hmm.models.mealy import MealyHMM
    from ppl_hmm.programs.distribution import CategoricalHMM

_log = logging.getLogger("ppl_hmm")


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

    See Also
    --------
    MemoryHMM : With a memory that its states read.
    posterior : Laws of its states given text.
    sample : Text that it draws.

    Notes
    -----
    Array-likes become float64 tensors unless all are float32. Leading batch dimensions P… hold several models of
    equal size. Source: Wei, Xie & Ma (2021), §2, whose A and W are column-stochastic (transposed here).

    Examples
    --------
    >>> from ppl_hmm import HMM, log_likelihood
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> log_likelihood(model, [[0, 1, 2, 2]]).numpy().round(4).tolist()
    [-4.0903]
    """

    initial: torch.Tensor
    transition: torch.Tensor
    emission: torch.Tensor

    if TYPE_CHECKING:  # array-likes become tensors

        def __init__(
            self,
            initial: ArrayLike | torch.Tensor,
            transition: ArrayLike | torch.Tensor,
            emission: ArrayLike | torch.Tensor,
            *,
            names: Names = ...,
        ) -> None: ...

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
                "transpose emission, rows being laws"
                if self.emission.shape[-1] == n_states != self.emission.shape[-2]
                else "give all three the same number of states K",
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
    def from_mealy(
        cls, matrices: ArrayLike | torch.Tensor, initial: ArrayLike | torch.Tensor | None = None
    ) -> MealyHMM:
        """Return a process that emits on its transitions, with the hidden Markov model of the same text.

        Parameters
        ----------
        matrices
            T (V,S,S): T[x,s,s'] = P(x, s' | s), for each s a law of pairs (x, s').
        initial
            (S,): law of the state before the first token; by default the stationary law.

        Raises
        ------
        InvalidInput
            Matrices that do not sum to one (which state, what sum); negative entries: such a process is no hidden
            Markov model; several stationary laws and no ``initial``.

        See Also
        --------
        ppl_hmm.MealyHMM : What is returned: its ``hmm`` has a state for each law with which a state is entered.
        to_mealy : The way back.

        Examples
        --------
        >>> from ppl_hmm import HMM
        >>> even = HMM.from_mealy([[[0.5, 0], [0, 0]], [[0, 0.5], [1, 0]]])  # ones come in even numbers
        >>> even.hmm.n_states, even.initial.numpy().round(4).tolist()
        (3, [0.6667, 0.3333])
        """
        from ppl_hmm.models.mealy import MealyHMM, settled

        return settled(matrices) if initial is None else MealyHMM(initial, matrices)  # type: ignore[arg-type]

    def to_mealy(self) -> MealyHMM:
        """Return the same law of text as a process that emits on its transitions: T[x,h,h'] = A[h,h'] W[h',x].

        For a single model; its states and its initial law stay.

        See Also
        --------
        from_mealy : The way back.

        Examples
        --------
        >>> from ppl_hmm import HMM
        >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.75, 0.25], [0, 1]])
        >>> model.to_mealy().matrices[1].numpy().round(4).tolist()
        [[0.225, 0.1], [0.05, 0.8]]
        """
        from ppl_hmm.models.mealy import MealyHMM

        self.require_single("to_mealy")
        matrices = self.transition * self.emission.T[:, None, :]
        return MealyHMM(self.initial, matrices, names=self.names)

    @classmethod
    def from_hmmlearn(cls, model: Any) -> HMM:
        """Return the HMM that gives every text the probability that an hmmlearn ``CategoricalHMM`` gives it.

        hmmlearn's first state emits, with law ``startprob_``; here it comes after one move from the silent H₀. Where
        a law π₀ with π₀A = ``startprob_`` exists, it becomes ``initial``, and the states are those of the model. Of
        several such laws the least certain one is taken: that with the smallest Σπ₀².

        Otherwise one silent start state is added *last*, and a warning is logged. State K moves to state h with
        probability ``startprob_[h]`` and is never visited again, so states 0..K−1 keep their indices; its emission row
        is never used and is set uniform. H₀ is then certain to be state K: P(H₀|x) is the same for every text, so that
        tasks on H₀ ask nothing. Ask about another position: ``PosteriorTask(weights, position=0)`` is about the state
        that emits the first token.

        Raises
        ------
        InvalidInput
            No ``CategoricalHMM`` or subclass of it, or one without parameters; one of another shape, or not finite.

        Notes
        -----
        π₀A has a relative error of at most 1e-12 in each entry, and so has the probability of every text. By
        non-negative least squares: O(K³).
        """
        from ppl_hmm.models.initial import law_before  # loads scipy

        start, transition, emission = hmmlearn_parameters(model)
        law = law_before(start.numpy(), transition.numpy())
        if law is not None:
            return HMM(torch.from_numpy(law), transition, emission)
        _log.warning(
            "from_hmmlearn: no law of a silent initial state leads to startprob_, so a silent start state was added "
            "last; H₀ is certain to be it, P(H₀|x) is the same for every text, and tasks on H₀ ask nothing; ask about "
            "another position, e.g. PosteriorTask(weights, position=0)"
        )
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

        See Also
        --------
        to_categorical_hmm : The same law, with faster exact inference and ``MASK``.
        from_discrete_hmm : The way back.

        Examples
        --------
        >>> import torch
        >>> from ppl_hmm import HMM
        >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
        >>> model.to_discrete_hmm().log_prob(torch.tensor([0, 1, 2, 2])).numpy().round(4).item()
        -4.0903
        """
        from pyro.distributions import Categorical, DiscreteHMM

        emission = self.emission.log()[..., None, :, :]
        return DiscreteHMM(
            self.initial.log(), self.transition.log()[..., None, :, :], Categorical(logits=emission), duration=duration
        )

    def to_categorical_hmm(self, duration: int | None = None) -> CategoricalHMM:
        """Return the Pyro distribution of texts under this model, with exact inference in place of ``DiscreteHMM``'s.

        Leading batch dimensions become its ``batch_shape``. ``duration`` is T, which it needs in order to sample.

        See Also
        --------
        ppl_hmm.CategoricalHMM.to_hmm : The way back.

        Examples
        --------
        >>> from ppl_hmm import HMM
        >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
        >>> model.to_categorical_hmm().log_prob([[0, 1, 2, 2], [2, 1, 0, 0]]).numpy().round(4)
        array([-4.0903, -4.6416])
        """
        from pyro.distributions import Categorical

        from ppl_hmm.programs.distribution import CategoricalHMM

        emission = Categorical(logits=self.emission.log()[..., None, :, :])
        return CategoricalHMM(self.initial.log(), self.transition.log()[..., None, :, :], emission, duration=duration)

    @classmethod
    def from_discrete_hmm(cls, distribution: DiscreteHMM | CategoricalHMM) -> HMM:
        """Return the parameters of a homogeneous ``DiscreteHMM`` with categorical emissions, or a ``CategoricalHMM``.

        Raises
        ------
        InvalidInput
            Another distribution, emissions that are not categorical, or a model that changes over time.

        See Also
        --------
        to_discrete_hmm, to_categorical_hmm : The ways back.

        Examples
        --------
        >>> from ppl_hmm import HMM
        >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
        >>> HMM.from_discrete_hmm(model.to_discrete_hmm()).allclose(model)
        True
        """
        from pyro.distributions import DiscreteHMM

        from ppl_hmm.programs.distribution import CategoricalHMM

        if isinstance(distribution, CategoricalHMM):
            return distribution.to_hmm()
        if not isinstance(distribution, DiscreteHMM):
            kind = type(distribution).__name__
            raise InvalidInput("from_discrete_hmm", "a DiscreteHMM or CategoricalHMM", kind, "build one of them")
        initial, transition, emission = discrete_parameters(distribution)
        batch_shape = broadcast_shapes(initial.shape[:-1], transition.shape[:-2], emission.shape[:-2])
        return HMM(
            initial.expand(*batch_shape, *initial.shape[-1:]),
            transition.expand(*batch_shape, *transition.shape[-2:]),
            emission.expand(*batch_shape, *emission.shape[-2:]),
        )


if not TYPE_CHECKING:
    __getattr__ = _moved.former_names(__name__)
