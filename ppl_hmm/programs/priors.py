"""Dirichlet priors of the laws of a model: what a program takes in place of a model whose parameters are unknown.

A prior has the fields of its model, and each row of a field is the concentration α of the Dirichlet law of that row.
Laws that are not marked as concentrations, as the cells that states read, are known.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.base import foreign
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.records import Record
from ppl_hmm.base.tokens import as_tokens, ends
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.inference.queries import log_likelihood
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Model, Text


@dataclasses.dataclass(frozen=True, eq=False)
class DirichletRows(Record):
    """What the priors of all kinds of models have in common: concentrations above zero, in the model's fields."""

    model_class: ClassVar[type[Model]]

    def __post_init__(self) -> None:
        self._convert()
        self.require_single(type(self).__name__)
        for name, concentration in self.concentrations.items():
            wrong = ~(torch.isfinite(concentration) & (concentration > 0))
            if wrong.any():
                where = wrong.nonzero()[0].tolist()
                got = str(concentration[tuple(where)].item())
                raise InvalidInput(
                    f"concentration of {name}{where}", "a finite number above zero", got, "use 1 for a flat prior"
                )
        self.mean()  # refuses fields whose sizes do not fit

    @property
    def concentrations(self) -> dict[str, Tensor]:
        """Concentrations of unknown laws, by field: those of each law in its last dimension."""
        return {name: getattr(self, name) for name in self.dimensions if name not in self.integers}

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.concentrations["emission"].shape[-1]

    def mean(self) -> Model:
        """Return the model whose laws are the means of the prior's: α/Σα.

        Raises
        ------
        InvalidInput
            Sizes that do not fit.
        """
        laws = {name: each / each.sum(-1, keepdim=True) for name, each in self.concentrations.items()}
        known = {name: getattr(self, name) for name in self.integers}
        return self.model_class(**laws, **known, names=self.names)

    def updated(self, model: Model, tokens: Text, *, lengths: Text | None = None) -> Self:
        """Return the prior with the expected counts of text added, as a model counts its hidden states.

        With the most likely model this is where a :class:`~ppl_hmm.DirichletGuide` starts. It is an exact posterior
        only if the text says which state each token comes from. Counts are θ·∂log P(x)/∂θ. Cost O(B·T·K²).

        Raises
        ------
        InvalidInput
            A model of another kind or size; text that does not fit it.
        """
        expected = f"a single {self.model_class.__name__}"
        foreign.require(model, self.model_class, f"model of a {type(self).__name__}", expected)
        model.require_single(f"model of a {type(self).__name__}")
        model = model.aligned_to(self)
        for name, concentration in self.concentrations.items():
            found, wanted = (f"shape {tuple(each.shape)}" for each in (getattr(model, name), concentration))
            if found != wanted:
                raise InvalidInput(f"{name} of the model", wanted, found, "take the prior's sizes")
        text = as_tokens(tokens, self.vocabulary_size, lengths=lengths, device=model.device)
        laws = {name: getattr(model, name).detach().requires_grad_() for name in self.concentrations}
        with torch.enable_grad():
            evidence = _log_evidence(dataclasses.replace(model, **laws), text)
        gradients = torch.autograd.grad(evidence, list(laws.values()), allow_unused=True, materialize_grads=True)
        counts = {
            name: torch.where(law > 0, law * gradient, 0).detach()
            for (name, law), gradient in zip(laws.items(), gradients, strict=True)
        }
        return dataclasses.replace(self, **{name: each + counts[name] for name, each in self.concentrations.items()})


@dataclasses.dataclass(frozen=True, eq=False)
class HMMPrior(DirichletRows):
    """Dirichlet prior of a hidden Markov model: each row of its laws has one of its own.

    Parameters
    ----------
    initial
        (K,): π₀ ∼ Dirichlet(initial).
    transition
        (K,K): A[h,·] ∼ Dirichlet(transition[h]).
    emission
        (K,V): W[h,·] ∼ Dirichlet(emission[h]).

    Raises
    ------
    InvalidInput
        A concentration that is not above zero (which), sizes that do not fit, batch dimensions.

    See Also
    --------
    hmm_program : The Pyro program of text under such a prior.
    MemoryHMMPrior : With a memory.
    DirichletGuide : Laws of the same parameters for Pyro's SVI.

    Examples
    --------
    >>> from ppl_hmm import HMMPrior
    >>> prior = HMMPrior.symmetric(2, 3, concentration=0.5)
    >>> prior.emission.tolist()
    [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    >>> prior.mean().initial.tolist()
    [0.5, 0.5]
    """

    initial: Tensor
    transition: Tensor
    emission: Tensor

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = HMM.dimensions
    model_class: ClassVar[type[Model]] = HMM

    @classmethod
    def symmetric(cls, n_states: int, vocabulary_size: int, concentration: float = 1.0) -> Self:
        """Return the prior with one concentration for all entries: K states, V tokens."""
        k, v = at_least("n_states", n_states, 1), at_least("vocabulary_size", vocabulary_size, 1)
        alpha = _checked_number(concentration)
        return cls(alpha.expand(k), alpha.expand(k, k), alpha.expand(k, v))


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryHMMPrior(DirichletRows):
    """Dirichlet prior of a memory-augmented hidden Markov model, of which each state's cell is known.

    Parameters
    ----------
    memory_prior
        (N,m): P(M_j = ·) ∼ Dirichlet(memory_prior[j]).
    initial, transition
        (K,) and (K,K), as in :class:`HMMPrior`.
    cell_of_state
        (K,) integers 0..N−1: the cell that each state reads.
    emission
        (m,K,V): W[a,h,·] ∼ Dirichlet(emission[a,h]).

    Raises
    ------
    InvalidInput
        A concentration that is not above zero (which), sizes that do not fit, batch dimensions.

    See Also
    --------
    memory_program : The Pyro program of text under such a prior.
    HMMPrior : Without a memory.

    Examples
    --------
    >>> from ppl_hmm import MemoryHMMPrior
    >>> prior = MemoryHMMPrior.symmetric([0, 0, 1], n_memory_values=2, vocabulary_size=4)
    >>> tuple(prior.memory_prior.shape), tuple(prior.emission.shape)
    ((2, 2), (2, 3, 4))
    """

    memory_prior: Tensor
    initial: Tensor
    transition: Tensor
    cell_of_state: Tensor
    emission: Tensor

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = MemoryHMM.dimensions
    integers: ClassVar[frozenset[str]] = MemoryHMM.integers
    model_class: ClassVar[type[Model]] = MemoryHMM

    @classmethod
    def symmetric(
        cls, cell_of_state: ArrayLike | Tensor, n_memory_values: int, vocabulary_size: int, concentration: float = 1.0
    ) -> Self:
        """Return the prior with one concentration for all entries; the cells (K,) say how many there are."""
        cells = as_tensor(cell_of_state, what="cell_of_state", kind="integers")
        if cells.ndim != 1 or not len(cells) or cells.is_floating_point() or cells.min() < 0:
            got = f"{cells.dtype} of shape {tuple(cells.shape)}"
            raise InvalidInput("cell_of_state", "integers from 0 on, one for each state", got, "pass e.g. [0, 0, 1]")
        k, m = len(cells), at_least("n_memory_values", n_memory_values, 1)
        v, alpha = at_least("vocabulary_size", vocabulary_size, 1), _checked_number(concentration)
        n = int(cells.max()) + 1
        return cls(alpha.expand(n, m), alpha.expand(k), alpha.expand(k, k), cells, alpha.expand(m, k, v))


Prior = HMMPrior | MemoryHMMPrior


def _checked_number(concentration: float) -> Tensor:
    number = as_tensor(concentration, what="concentration").double()
    if number.ndim:
        got = f"shape {tuple(number.shape)}"
        raise InvalidInput("concentration", "one number", got, "give the fields themselves for others")
    return number


def _log_evidence(model: Model, text: Tensor) -> Tensor:
    """Return Σ log P(x) () of texts (B,T), each read up to its last observed token: masks after it would be counted."""
    lengths = ends(text)
    parts = (log_likelihood(model, text[lengths == n, :n]).sum() for n in lengths.unique().tolist() if n)
    return sum(parts, start=0.0 * model.emission.sum())
