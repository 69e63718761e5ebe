"""What every experiment is configured by, and the cells it falls into.

A cell is one size and a fixed block of seeds, whose models may train together. The layout depends on the configuration
alone, so that results do not depend on who computes which cell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

from ppl_hmm.errors import InvalidInput, at_least

SEEDS_PER_CELL = 5


@dataclasses.dataclass(frozen=True)
class Cell:
    """The unit of work: one size, and seeds that are computed together."""

    n_states: int
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name in the store."""
        return f"states-{self.n_states}-seeds-{self.seeds[0]}-{self.seeds[-1]}"


class Extent(NamedTuple):
    """How much of an experiment to compute: its sizes, the seeds at each, and what differs from the default sizes."""

    states: tuple[int, ...]
    n_seeds: int
    sizes: dict[str, Any]


#: The settings of every experiment that is defined, by its name.
DEFINED: dict[str, type[Settings]] = {}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that determines the numbers of an experiment; each experiment has its own subclass.

    Attributes
    ----------
    experiment
        Its name on the command line.
    title
        What it is, in a line.
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
        No sizes, one that is not allowed or there twice, a number below one.
    """

    experiment: ClassVar[str]
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

    def __init_subclass__(cls, **options: Any) -> None:
        """Enter a class into :data:`DEFINED` under its ``experiment``; its own definition may be repeated."""
        super().__init_subclass__(**options)
        if "experiment" not in cls.__dict__:
            return
        other = DEFINED.get(cls.experiment, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise InvalidInput(
                f"experiment {cls.experiment!r}",
                "a name of its own",
                f"that of {other.__module__}.{other.__qualname__}",
                "choose another name",
            )
        DEFINED[cls.experiment] = cls

    def __post_init__(self) -> None:
        if not self.states:
            raise InvalidInput("states", "at least one number of states", "none", f"pass e.g. {self.figure.states}")
        states = tuple(sorted(map(self._allowed, self.states)))
        if len(set(states)) < len(states):
            raise InvalidInput("states", "different sizes", str(states), "drop the repetition")
        object.__setattr__(self, "states", states)
        for field in dataclasses.fields(self):
            if field.type == "int":
                object.__setattr__(self, field.name, at_least(field.name, getattr(self, field.name), 1))

    def _allowed(self, n_states: object) -> int:
        size = at_least("states", n_states, self.smallest)
        if size % self.multiple_of:
            expected, nearest = f"multiples of {self.multiple_of}", size // self.multiple_of * self.multiple_of
            raise InvalidInput("states", expected, str(size), f"pass {nearest} or {nearest + self.multiple_of}")
        return size

    def cells(self) -> Iterator[Cell]:
        """Yield the cells, largest sizes first: the longest work must not come last."""
        for n_states in reversed(self.states):
            for start in range(0, self.n_seeds, SEEDS_PER_CELL):
                yield Cell(n_states, tuple(range(start, min(start + SEEDS_PER_CELL, self.n_seeds))))

    def as_attributes(self) -> dict[str, Any]:
        """Return the settings as attributes of a store."""
        values = {"experiment": self.experiment, **dataclasses.asdict(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
