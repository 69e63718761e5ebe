"""Processes that emit on their transitions, and the hidden Markov models of the same text."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base import foreign
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.checks import ROW_SUM_TOLERANCE, check_distributions, transposed
from ppl_hmm.base.labels import Names, read
from ppl_hmm.base.records import Record
from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.stationary import closed_classes, long_run_law
from ppl_hmm.models.hmm import HMM

# Laws on edges into one state that differ by so many times their rounding are one law.
_SAME_LAW = 64


@dataclasses.dataclass(frozen=True, eq=False)
class MealyHMM(Record):
    """A process that emits on its transitions, with the hidden Markov model of the same text.

    A Mealy machine draws token and next state together: T[x,s,s'] = P(x, s' | s). In an :class:`~ppl_hmm.HMM` a
    state emits by one law, whichever state came before. A state s' that is entered with several laws of tokens becomes
    one state for each of them here.

    Parameters
    ----------
    initial
        η (S,): law of the state before the first token.
    matrices
        T (V,S,S).

    Raises
    ------
    InvalidInput
        Matrices that do not sum to one (which state, what sum), negative entries, mismatched sizes, batch dimensions.

    See Also
    --------
    HMM.from_mealy : The same, started from the stationary law by default.
    process : Known processes by name.

    Notes
    -----
    States of ``hmm`` are pairs (s', c), sorted; c numbers the distinct laws P(x | s → s') of edges into s'. Then
    A[(s,·),(s',c)] = Σ_x T[x,s,s'] where the edge has law c, else 0, and W[(s',c)] is that law. π₀ shares η(s) among
    the pairs of s as the first transition does: it is stationary if η is. A state that is never entered is one pair
    whose emission row is never read. Texts have the same probability under both. Cost O(S³·V).

    Examples
    --------
    >>> from ppl_hmm import HMM
    >>> even = HMM.from_mealy([[[0.5, 0], [0, 0]], [[0, 0.5], [1, 0]]])  # ones come in even numbers
    >>> even.n_states, even.hmm.n_states, even.state_of.tolist()
    (2, 3, [0, 0, 1])
    >>> even.mealy_beliefs(even.hmm.initial).numpy().round(4).tolist()
    [0.6667, 0.3333]
    """

    initial: Tensor
    matrices: Tensor

    if TYPE_CHECKING:  # array-likes become tensors

        def __init__(
            self,
            initial: ArrayLike | torch.Tensor,
            matrices: ArrayLike | torch.Tensor,
            *,
            names: Names = ...,
        ) -> None: ...

    dimensions: ClassVar[dict[str, tuple[str, ...]]] = {
        "initial": (schema.STATE,),
        "matrices": (schema.TOKEN, schema.STATE, schema.STATE_NEXT),
    }

    def __post_init__(self) -> None:
        self._convert()
        self.require_single("a Mealy machine")
        _check_matrices(self.matrices)
        check_distributions("initial", self.initial)
        if len(self.initial) != self.n_states:
            expected = f"({self.n_states},), a probability for each state of the matrices"
            raise InvalidInput("initial of a Mealy machine", expected, str(tuple(self.initial.shape)), "check S")

    @property
    def n_states(self) -> int:
        """S."""
        return self.matrices.shape[-1]

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.matrices.shape[0]

    @property
    def hmm(self) -> HMM:
        """The hidden Markov model of the same text, of K ≥ S states."""
        return self._lifted[0]

    @property
    def state_of(self) -> Tensor:
        """(K,): the state of the machine that each state of ``hmm`` stands for."""
        return self._lifted[1]

    def mealy_beliefs(self, beliefs: ArrayLike | Tensor) -> Tensor:
        """Return laws (…,S) of the machine's state from laws (…,K) of the state of ``hmm``: their sums.

        Raises
        ------
        InvalidInput
            A trailing dimension other than K.
        """
        laws = as_tensor(beliefs, self.device, what="beliefs").to(self.dtype)
        if laws.ndim == 0 or laws.shape[-1] != len(self.state_of):
            expected = f"shape (…, {len(self.state_of)}), laws of the states of .hmm"
            raise InvalidInput("beliefs", expected, str(tuple(laws.shape)), "pass beliefs of the model .hmm")
        return laws.new_zeros(*laws.shape[:-1], self.n_states).index_add(-1, self.state_of, laws)

    @functools.cached_property
    def _lifted(self) -> tuple[HMM, Tensor]:
        """Return the model and the state of each of its states."""
        moves = self.matrices.sum(0)
        of_edge, source, state_of = _edges(self.matrices.detach(), moves.detach())
        entering = moves.new_zeros(self.n_states, len(state_of)).scatter_add(1, of_edge, moves)
        inflow = self.initial @ entering
        total = torch.zeros_like(self.initial).index_add(0, state_of, inflow)[state_of]
        first = torch.cat([state_of.new_ones(1), state_of.diff()]) > 0
        shares = torch.where(total > 0, inflow / torch.where(total > 0, total, 1), first.to(inflow))
        weights = moves[source, state_of][:, None]
        silent = torch.full_like(self.matrices[:, 0, 0], 1 / self.vocabulary_size)
        laws = self.matrices[:, source, state_of].T / torch.where(weights > 0, weights, 1)
        model = HMM(
            self.initial[state_of] * shares,
            entering[state_of],
            torch.where(weights > 0, laws, silent),
            names={name: each for name, each in self.names.items() if name == schema.TOKEN},
        )
        return model, state_of


def settled(matrices: ArrayLike | Tensor) -> MealyHMM:
    """Return the machine that starts in its stationary law.

    Raises
    ------
    InvalidInput
        As :class:`MealyHMM`; more than one stationary law (two states that never meet).
    """
    values = as_tensor(read(matrices, MealyHMM.dimensions["matrices"], "matrices").values, what="matrices")
    n_states = values.shape[-1] if values.ndim else 0
    single = values.dtype if values.dtype == torch.float32 else torch.float64
    anywhere = torch.full((n_states,), 1 / max(n_states, 1), dtype=single, device=values.device)
    machine = MealyHMM(anywhere, matrices)  # type: ignore[arg-type]  # as all records, of array-likes
    moves = machine.matrices.detach().sum(0)
    classes = closed_classes(moves)
    if len(classes) > 1:
        raise InvalidInput(
            "initial of a Mealy machine",
            "a law of the first state where several are stationary",
            f"none, and states {int(classes[0][0])} and {int(classes[1][0])} never meet",
            "pass initial",
        )
    return dataclasses.replace(machine, initial=long_run_law(machine.initial, moves / moves.sum(-1, keepdim=True)))


def _check_matrices(matrices: Tensor) -> None:
    """Raise :class:`InvalidInput` unless matrices (V,S,S) hold P(x, s' | s)."""
    matrices = matrices.detach()
    if matrices.shape[-2] != matrices.shape[-1] or 0 in matrices.shape:
        expected = "shape (V, S, S): tokens, states, next states"
        raise InvalidInput("matrices", expected, str(tuple(matrices.shape)), "pass one square matrix for each token")
    if matrices.amin() < 0:
        where = (matrices < 0).nonzero()[0].tolist()
        raise InvalidInput(
            f"matrices{where}",
            "a probability P(x, s' | s)",
            str(matrices[tuple(where)].item()),
            "a process whose matrices have negative entries is no hidden Markov model; use one with probabilities",
        )
    sums = matrices.sum((0, 2))
    wrong = (sums - 1).abs() > ROW_SUM_TOLERANCE[matrices.dtype]
    if wrong.any():
        state = int(wrong.nonzero()[0])
        raise InvalidInput(
            f"matrices of state {state}",
            "entries over all tokens and next states that sum to 1",
            f"a sum of {sums[state].item():.10g}",
            "columns sum to 1: transpose each matrix, matrices[x][s][s'] is P(x, s' | s)"
            if transposed(matrices.sum(0))
            else "give P(x, s' | s) as matrices[x][s][s'], and divide the state's entries by their sum",
        )


def _edges(matrices: Tensor, moves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pair (s', c) of each edge (S,S), a state that leads to each pair (K,), and its s' (K,).

    An edge of probability zero has the first pair of s'; so has a state that is never entered, from state 0.
    """
    tolerance = _SAME_LAW * torch.finfo(matrices.dtype).eps
    of_edge, sources, states = torch.zeros_like(moves, dtype=torch.int64), [], []
    n_pairs = 0
    for state, weights in enumerate(moves.T):
        of_edge[:, state] = n_pairs
        entering = weights.nonzero()[:, 0]
        laws = (matrices[:, entering, state] / weights[entering]).T
        same = torch.isclose(laws[:, None], laws, rtol=tolerance, atol=0).all(-1)
        first, numbers = same.int().argmax(-1).unique(return_inverse=True) if len(laws) else (entering, entering)
        of_edge[entering, state] += numbers
        sources.append(entering[first] if len(laws) else entering.new_zeros(1))
        states += [state] * len(sources[-1])
        n_pairs = len(states)
    return of_edge, torch.cat(sources), torch.tensor(states, device=moves.device)


def as_machine(model: HMM | MealyHMM, what: str) -> MealyHMM:
    """Return a single model as a machine in float64, without gradients, each state's probabilities summing to one.

    Raises
    ------
    InvalidInput
        Another kind of model, or a batch; ``what`` is asked of it.
    """
    foreign.require(model, (HMM, MealyHMM), f"model of {what}", "an HMM or MealyHMM")
    model.require_single(what)
    machine = (model if isinstance(model, MealyHMM) else model.to_mealy()).detach().to(torch.float64)
    matrices = machine.matrices / machine.matrices.sum((0, 2))[:, None]
    return dataclasses.replace(machine, initial=machine.initial / machine.initial.sum(), matrices=matrices)
