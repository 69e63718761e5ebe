"""Parameters of a memory-augmented hidden Markov model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import _moved, schema
from ppl_hmm.base.checks import check_distributions
from ppl_hmm.base.labels import Names
from ppl_hmm.base.records import Record
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.configurations import configurations, prior_of_cells, select_rows
from ppl_hmm.models.hmm import HMM

#: Pairs of a memory and a state that are written out, at most: their transitions take 2 GB.
FLATTENED_LIMIT = 1 << 14


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryHMM(Record):
    """A hidden Markov model with a long-term memory, drawn once for each text, that its states read.

    The memory M = (M_1..M_N) has independent cells of m values; the chain H_t is independent of it. State h reads one
    cell, and emits by its value: P(X_t=x | M, H_t=h) = W[M_cell(h), h, x].

    Parameters
    ----------
    memory_prior
        (P…,N,m): P(M_j = a).
    initial
        π₀ (P…,K): law of H₀, which emits nothing.
    transition
        A (P…,K,K): A[h,h'] = P(H_{t+1}=h' | H_t=h).
    cell_of_state
        (P…,K) integers 0..N−1: the cell that each state reads.
    emission
        W (P…,m,K,V): W[a,h,x] = P(X_t=x | H_t=h, the cell that h reads holds a).

    Raises
    ------
    InvalidInput
        A row that is not a distribution (which, its sum), a negative or non-finite entry, mismatched sizes, a cell
        that does not exist.

    See Also
    --------
    HMM : Without a memory.
    memory_posterior : Laws of its cells given text.

    Notes
    -----
    Source: Wei, Xie & Ma (2021), §4; their hidden state (j, s) is a state h with cell(h) = j.

    Examples
    --------
    >>> from ppl_hmm import MemoryHMM, memory_posterior
    >>> model = MemoryHMM([[0.5, 0.5]], [1.0], [[1.0]], [0], [[[0.9, 0.1]], [[0.1, 0.9]]])  # one state, two values
    >>> memory_posterior(model, [[0], [1]]).numpy().round(2).tolist()
    [[[0.9, 0.1]], [[0.1, 0.9]]]
    """

    memory_prior: Tensor
    initial: Tensor
    transition: Tensor
    cell_of_state: Tensor
    emission: Tensor

    if TYPE_CHECKING:  # array-likes become tensors

        def __init__(
            self,
            memory_prior: ArrayLike | torch.Tensor,
            initial: ArrayLike | torch.Tensor,
            transition: ArrayLike | torch.Tensor,
            cell_of_state: ArrayLike | torch.Tensor,
            emission: ArrayLike | torch.Tensor,
            *,
            names: Names = ...,
        ) -> None: ...

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {
        "memory_prior": (schema.CELL, schema.MEMORY_VALUE),
        "initial": (schema.STATE,),
        "transition": (schema.STATE, schema.STATE_NEXT),
        "cell_of_state": (schema.STATE,),
        "emission": (schema.MEMORY_VALUE, schema.STATE, schema.TOKEN),
    }
    integers: ClassVar[frozenset[str]] = frozenset({"cell_of_state"})

    def __post_init__(self) -> None:
        self._convert()
        n_states = self.initial.shape[-1]
        if (
            self.transition.shape[-2:] != (n_states, n_states)
            or self.cell_of_state.shape[-1] != n_states
            or self.emission.shape[-3:-1] != (self.memory_prior.shape[-1], n_states)
        ):
            raise InvalidInput(
                "sizes of MemoryHMM",
                "memory_prior (N, m), initial (K,), transition (K, K), cell_of_state (K,), emission (m, K, V)",
                ", ".join(f"{name} {tuple(getattr(self, name).shape)}" for name in self.dimensions),
                "transpose emission, rows being laws"
                if self.emission.shape[-1] == n_states != self.emission.shape[-2]
                else "give all the same number of states K and of memory values m",
            )
        for name in self.dimensions:
            if name not in self.integers:
                check_distributions(name, getattr(self, name))
        outside = (self.cell_of_state < 0) | (self.cell_of_state >= self.n_cells)
        if outside.any():
            where = outside.nonzero()[0].tolist()
            raise InvalidInput(
                f"cell_of_state{where}",
                f"a cell in 0..{self.n_cells - 1}",
                str(self.cell_of_state[tuple(where)].item()),
                "add a row to memory_prior, or correct the map",
            )

    @property
    def n_states(self) -> int:
        """K."""
        return self.initial.shape[-1]

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.emission.shape[-1]

    @property
    def n_cells(self) -> int:
        """N."""
        return self.memory_prior.shape[-2]

    @property
    def n_memory_values(self) -> int:
        """The number m of values of a cell."""
        return self.memory_prior.shape[-1]

    def flatten(self) -> HMM:
        """Return the :class:`HMM` of the same law on the m^N·K pairs of a memory and a state.

        Pair c·K + h is state h with the c-th memory, counted with the last cell fastest. Exact inference never needs
        it: it is the model written out, of size (m^N·K)², for small cases and checks.

        Raises
        ------
        InvalidInput
            More than :data:`FLATTENED_LIMIT` pairs; a pair whose probability is positive and smaller than any float.
        """
        n_states, batch_shape = self.n_states, self.batch_shape
        n_pairs = self.n_memory_values**self.n_cells * n_states
        if n_pairs > FLATTENED_LIMIT:
            raise InvalidInput(
                "flatten",
                f"at most {FLATTENED_LIMIT} pairs of a memory and a state",
                f"m^N·K = {self.n_memory_values}^{self.n_cells}·{n_states} = {n_pairs}",
                "use the memory model itself: inference needs no pairs",
            )
        memories = configurations(self.n_cells, self.n_memory_values)
        factors = prior_of_cells(self.memory_prior, memories)
        initial = factors.prod(-1)[..., :, None] * self.initial[..., None, :]
        smallest = torch.finfo(initial.dtype).tiny
        positive = (factors > 0).all(-1)[..., :, None] & (self.initial > 0)[..., None, :]
        if (positive & (initial < smallest)).any():
            raise InvalidInput(
                "flatten",
                f"pairs of a memory and a state of probability zero, or at least {smallest:.1e}",
                f"a positive one of {float(initial[positive].min()):.1e}",
                "use the memory model itself: it sums logarithms",
            )
        emission = select_rows(self.emission, self.cell_of_state, memories)  # (P…,C,K,V)
        # The memory stays; the state moves.
        stays = torch.eye(len(memories), dtype=self.dtype, device=self.device)
        transition = torch.einsum("cd,...hk->...chdk", stays, self.transition)
        return HMM(
            initial=initial.reshape(*batch_shape, n_pairs),
            transition=transition.reshape(*batch_shape, n_pairs, n_pairs),
            emission=emission.reshape(*batch_shape, n_pairs, self.vocabulary_size),
            names={name: order for name, order in self.names.items() if name == schema.TOKEN},
        )


if not TYPE_CHECKING:
    __getattr__ = _moved.former_names(__name__)
