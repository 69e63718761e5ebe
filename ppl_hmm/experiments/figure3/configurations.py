"""The settings of both panels, found by the experiment's name."""

from __future__ import annotations

import dataclasses
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.experiments.engine.axes import Axis
from ppl_hmm.experiments.engine.grid import Cell, Settings, check_whole_numbers

if TYPE_CHECKING:
    import xarray as xr

# Of a run that takes seconds.
_LITTLE_TEXT = {"length": 20, "n_train": 300, "n_validation": 100, "n_test": 200}

# Less has no balanced task: with one token every text has the same posterior, and one text has one label.
_SMALLEST = {"vocabulary_size": 2, "n_train": 2}


class Extent(NamedTuple):
    """How much of an experiment to compute: its sizes, the seeds at each, and what differs from the default sizes."""

    states: tuple[int, ...]
    n_seeds: int
    sizes: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Figure3Settings(Settings):
    """Settings that both panels have.

    Attributes
    ----------
    title
        What the experiment is, in a line.
    panel
        The published numbers beside it: this panel of the paper's Figure 3.
    figure, smoke
        What the figure shows; the same code on little text, in seconds.
    smallest, multiple_of
        Which sizes are allowed.
    states
        Numbers of hidden states in all, kept in increasing order.
    n_seeds
        Seeds 0..n_seeds−1 at each size: each is one model, one task, one data set.
    vocabulary_size, length
        V, and T tokens of raw text.
    n_train, n_validation, n_test
        Sequences.
    threads
        Threads of linear algebra in a cell.

    Raises
    ------
    InvalidInput
        No sizes, one that is not allowed or there twice, a number that is too small.
    """

    title: ClassVar[str]
    panel: ClassVar[Literal["left", "right"]]
    figure: ClassVar[Extent]
    smoke: ClassVar[Extent]
    smallest: ClassVar[int]
    multiple_of: ClassVar[int] = 1

    states: tuple[int, ...]
    n_seeds: int
    vocabulary_size: int = 10
    length: int = 80
    n_train: int = 5000
    n_validation: int = 500
    n_test: int = 1000
    threads: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "states", tuple(sorted(map(self._allowed, self.states))))
        check_whole_numbers(self, _SMALLEST)
        self.axes()  # checks them

    def _allowed(self, n_states: object) -> int:
        size = at_least("states", n_states, self.smallest)
        if size % self.multiple_of:
            expected, nearest = f"multiples of {self.multiple_of}", size // self.multiple_of * self.multiple_of
            raise InvalidInput("states", expected, str(size), f"pass {nearest} or {nearest + self.multiple_of}")
        return size

    def axes(self) -> tuple[Axis, ...]:
        """Return the one axis: numbers of hidden states."""
        return (Axis(schema.N_STATES, self.states, label="states"),)

    def cost(self, cell: Cell) -> float:
        """Return the number of hidden states."""
        return cell[schema.N_STATES]

    def references(self) -> dict[str, xr.Dataset]:
        """Return the published numbers."""
        from ppl_hmm.reference import published  # loads arrays, which the command line's settings do without

        return {schema.PUBLISHED: published(self.panel)}


@dataclasses.dataclass(frozen=True)
class HeadVsPrompt(Figure3Settings):
    """Settings of ``head-vs-prompt``: those of both panels, and of its prompts.

    Attributes
    ----------
    prompt_length, restarts
        Of the learned prompts.
    support_threshold
        δ of the second constructed prompt.
    """

    experiment: ClassVar[str] = schema.HEAD_VS_PROMPT
    title: ClassVar[str] = (
        "Head tuning against prompt tuning: Figure 3 (left), with exact conditionals in place of a transformer."
    )
    panel: ClassVar[Literal["left", "right"]] = "left"
    figure: ClassVar[Extent] = Extent((4, 8, 10, 15, 25, 30), 20, {})
    # With 25 states heads fall behind prompts on little text as well: 0.76 against 0.98.
    smoke: ClassVar[Extent] = Extent((4, 25), 2, {**_LITTLE_TEXT, "restarts": 2})
    smallest: ClassVar[int] = 2  # with one state every posterior is the same, and no task has two classes

    prompt_length: int = 1
    restarts: int = 8
    support_threshold: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.support_threshold, Real) or not self.support_threshold >= 0:
            raise InvalidInput("support_threshold", "a non-negative number", repr(self.support_threshold), "pass 1e-3")


@dataclasses.dataclass(frozen=True)
class MemoryVsVanilla(Figure3Settings):
    """Settings of ``memory-vs-vanilla``: those of both panels; size S is S/4 memory values of 4 states each."""

    experiment: ClassVar[str] = schema.MEMORY_VS_VANILLA
    title: ClassVar[str] = (
        "Attention with a memory against a linear head without: Figure 3 (right), with exact conditionals."
    )
    panel: ClassVar[Literal["left", "right"]] = "right"
    figure: ClassVar[Extent] = Extent((8, 12, 20, 28), 20, {})
    smoke: ClassVar[Extent] = Extent((8, 12), 2, _LITTLE_TEXT)
    states_per_value: ClassVar[int] = 4
    smallest: ClassVar[int] = 2 * states_per_value  # a memory of one value has the same posterior for every text
    multiple_of: ClassVar[int] = states_per_value


#: The experiments of this package.
CONFIGURATIONS: dict[str, type[Figure3Settings]] = {
    configuration.experiment: configuration for configuration in (HeadVsPrompt, MemoryVsVanilla)
}
