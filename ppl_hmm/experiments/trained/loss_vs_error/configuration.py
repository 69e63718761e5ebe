"""The settings of the experiment on loss and downstream error."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput, at_least, one_of, within
from ppl_hmm.experiments.engine.axes import Axis
from ppl_hmm.experiments.engine.grid import Cell, Settings, check_whole_numbers
from ppl_hmm.experiments.figure3.configurations import Extent

_LITTLE = {"steps": 120, "n_checkpoints": 4, "n_train": 200, "n_validation": 200, "n_test": 200, "length": 8}


@dataclasses.dataclass(frozen=True)
class LossVsError(Settings):
    """Settings of ``loss-vs-error``.

    Attributes
    ----------
    states, n_seeds
        Numbers of hidden states K; seeds 0..n_seeds−1, each one model, its tasks and its networks.
    objectives
        Among ``'tokens'`` (cross-entropy) and ``'quad'``: a network is trained on each.
    vocabulary_size, concentration
        Of the random models, whose rows are Dirichlet's.
    width
        Of the causal network of gated recurrent units: the d of its last layer Φ (d,V), below V.
    length
        Tokens of each text.
    steps, batch_size, learning_rate
        Of training, on texts of two tokens more: a template and the word that is read after it.
    n_checkpoints
        Networks that are kept along training, from the untrained one on, at steps that grow by a factor.
    n_train, n_validation, n_test
        Labelled texts: to fit heads, to choose the head of the transfer bound, to measure errors and bounds.

    Raises
    ------
    InvalidInput
        A number that is too small, an unknown objective, equal values, a width of at least V, too few steps.
    """

    experiment: ClassVar[str] = schema.LOSS_VS_ERROR
    title: ClassVar[str] = "Loss against downstream error along training, with bounds: Saunshi, Malladi & Arora (2021)."
    figure: ClassVar[Extent] = Extent((4, 8), 4, {})
    smoke: ClassVar[Extent] = Extent((3,), 1, _LITTLE)

    states: tuple[int, ...]
    n_seeds: int
    objectives: tuple[str, ...] = schema.LOSSES
    vocabulary_size: int = 50
    concentration: float = 0.3
    width: int = 16
    length: int = 15
    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 0.01
    n_checkpoints: int = 10
    n_train: int = 1000
    n_validation: int = 1000
    n_test: int = 1000

    def __post_init__(self) -> None:
        check_whole_numbers(self, {"n_train": 20, "n_checkpoints": 2})
        for size in self.states:
            at_least("states", size, 2)
        for objective in self.objectives:
            one_of("objective", objective, schema.LOSSES)
        within("learning_rate", self.learning_rate, 0.0, 1.0)
        if self.width >= self.vocabulary_size:
            expected = f"less than vocabulary_size = {self.vocabulary_size}"
            raise InvalidInput("width", expected, str(self.width), "conditional means would be the whole law")
        if len(set(self.checkpoints)) < self.n_checkpoints:
            expected, remedy = f"at least {self.n_checkpoints} different numbers of steps", "train longer"
            raise InvalidInput("checkpoints", expected, str(self.checkpoints), remedy)
        self.axes()  # checks them

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps after which a network is kept: none, and then from 1 % of the steps to all by a constant factor."""
        first, last = max(self.steps // 100, 1), self.n_checkpoints - 2
        powers = ((last - number) / max(last, 1) for number in range(last + 1))
        return (0, *(round(self.steps * (first / self.steps) ** power) for power in powers))

    def axes(self) -> tuple[Axis, ...]:
        """Return numbers of states and objectives."""
        return (Axis(schema.N_STATES, self.states, label="states"), Axis(schema.OBJECTIVE, self.objectives))

    def cost(self, cell: Cell) -> float:
        """Return the number of hidden states."""
        return cell[schema.N_STATES]
