"""The settings of the experiment on the kernel view of fine-tuning."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from ppl_hmm import schema
from ppl_hmm.errors import at_least, one_of
from ppl_hmm.experiments.engine.axes import Axis
from ppl_hmm.experiments.engine.grid import Cell, Settings, check_whole_numbers
from ppl_hmm.experiments.figure3.configurations import Extent

#: What a trained network is known by: the axes of the grid.
NETWORK = (
    schema.REGIME,
    schema.N_STATES,
    schema.ARCHITECTURE,
    schema.WIDTH,
    schema.OBJECTIVE,
    schema.TRAINING_STEPS,
)
_LITTLE_TRAINING = {"regimes": ("wei2021",), "widths": (8,), "length": 8, "training_steps": (60,)}
_LITTLE = {**_LITTLE_TRAINING, "n_tasks": 1, "shots": (4,), "steps": 10, "n_test": 50}


@dataclasses.dataclass(frozen=True)
class KernelView(Settings):
    """Settings of ``kernel-view``.

    Attributes
    ----------
    states, n_seeds
        Numbers of hidden states; seeds 0..n_seeds−1, each one draw of few-shot examples, fresh head and order.
    architectures, widths, objectives, training_steps
        One network is trained for each combination and model: ``'bidirectional'`` (two GRU streams) or
        ``'transformer'``; of a width; on ``'tokens'``, or ``'exact'`` for distillation of the exact laws; for so many
        steps.
    n_tasks
        Random tasks on the initial state, of each model.
    shots
        Examples of each class.
    regimes
        Of random models: text of ``'wei2021'`` is nearly certain of its states, that of ``'dirichlet'`` is not.
    vocabulary_size, length
        Of the models and their text.
    learning_rate
        Of the training of the networks, at its peak.
    steps, sgd_rate, sign_rate, adam_rate
        Of fine-tuning, all examples in each step. The rate of SGD is ``sgd_rate``·N/λ, λ the largest eigenvalue of the
        kernel of N examples; a rate that diverges is halved until it does not.
    n_test
        Test texts.

    Raises
    ------
    InvalidInput
        A number that is too small, an unknown architecture or objective, equal values.
    """

    experiment: ClassVar[str] = schema.KERNEL_VIEW
    title: ClassVar[str] = "Fine-tuning of trained networks against its tangent kernel: Malladi et al. (2023)."
    figure: ClassVar[Extent] = Extent((8,), 5, {})
    smoke: ClassVar[Extent] = Extent((3,), 2, _LITTLE)

    states: tuple[int, ...]
    n_seeds: int
    architectures: tuple[str, ...] = schema.ARCHITECTURES
    widths: tuple[int, ...] = (64,)
    objectives: tuple[str, ...] = ("tokens",)
    training_steps: tuple[int, ...] = (1600,)
    regimes: tuple[str, ...] = ("wei2021", "dirichlet")
    n_tasks: int = 2
    shots: tuple[int, ...] = (16, 64)
    vocabulary_size: int = 10
    length: int = 20
    learning_rate: float = 3e-3
    steps: int = 40
    sgd_rate: float = 4.0
    sign_rate: float = 3e-4
    adam_rate: float = 1e-3
    n_test: int = 200
    threads: int = 1

    def __post_init__(self) -> None:
        check_whole_numbers(self, {})
        for size in self.states:
            at_least("states", size, 2)
        for architecture in self.architectures:
            one_of("architecture", architecture, schema.ARCHITECTURES)
        for objective in self.objectives:
            one_of("objective", objective, ("tokens", "exact"))
        for name in ("widths", "training_steps", "shots"):
            for number in Axis(name, getattr(self, name)).values:
                at_least(name, number, 1)
        self.axes()  # checks them

    @property
    def length_with_mask(self) -> int:
        """Tokens that networks read, and are trained on: transformers know no position that training did not reach."""
        return self.length + 1

    def axes(self) -> tuple[Axis, ...]:
        """Return models and what networks there are: a cell has all tasks of its network, which is trained once."""
        return (
            Axis(schema.REGIME, self.regimes),
            Axis(schema.N_STATES, self.states, label="states"),
            Axis(schema.ARCHITECTURE, self.architectures),
            Axis(schema.WIDTH, self.widths),
            Axis(schema.OBJECTIVE, self.objectives),
            Axis(schema.TRAINING_STEPS, self.training_steps),
        )

    def cost(self, cell: Cell) -> float:
        """Return the width of the network, twice for a transformer."""
        return cell[schema.WIDTH] * (1 + (cell[schema.ARCHITECTURE] == schema.TRANSFORMER))
