"""Configuration of an experiment, and the cells it falls into.

A cell is one number of states and a fixed block of seeds, whose models train together. The layout depends on the
configuration alone, so that results do not depend on who computes which cell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any

from ppl_hmm.errors import InvalidInput, at_least

SEEDS_PER_CELL = 5
VOCABULARY_SIZE = 10
SMALLEST_MODEL = 2  # with one state every posterior is the same, and no task has two classes


@dataclasses.dataclass(frozen=True)
class Cell:
    """The unit of work: one size, and seeds that train together."""

    n_states: int
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name in the store."""
        return f"states-{self.n_states}-seeds-{self.seeds[0]}-{self.seeds[-1]}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that determines the numbers of an experiment.

    Attributes
    ----------
    experiment
        Its name on the command line.
    states
        Numbers of hidden states K.
    n_seeds
        Seeds 0..n_seeds−1 at each size: each is one model, one task, one data set.
    vocabulary_size, length
        V, and T tokens of raw text.
    n_train, n_validation, n_test
        Sequences.
    prompt_length, restarts
        Of the learned prompts.
    support_threshold
        δ of the second constructed prompt.
    threads
        Threads of linear algebra in a cell.
    """

    experiment: str
    states: tuple[int, ...]
    n_seeds: int
    vocabulary_size: int = VOCABULARY_SIZE
    length: int = 80
    n_train: int = 5000
    n_validation: int = 500
    n_test: int = 1000
    prompt_length: int = 1
    restarts: int = 8
    support_threshold: float = 1e-3
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.states:
            raise InvalidInput("states", "at least one number of states", "none", "pass e.g. states=(4, 8)")
        for n_states in self.states:
            at_least("states", n_states, SMALLEST_MODEL)
        if not isinstance(self.support_threshold, Real) or not self.support_threshold >= 0:
            raise InvalidInput("support_threshold", "a non-negative number", repr(self.support_threshold), "pass 1e-3")
        if len(set(self.states)) < len(self.states):
            raise InvalidInput("states", "different sizes", str(self.states), "drop the repetition")
        for name in (
            "n_seeds",
            "vocabulary_size",
            "length",
            "n_train",
            "n_validation",
            "n_test",
            "prompt_length",
            "restarts",
            "threads",
        ):
            at_least(name, getattr(self, name), 1)

    def cells(self) -> Iterator[Cell]:
        """Yield the cells, largest sizes first: the longest work must not come last."""
        for n_states in sorted(self.states, reverse=True):
            for start in range(0, self.n_seeds, SEEDS_PER_CELL):
                yield Cell(n_states, tuple(range(start, min(start + SEEDS_PER_CELL, self.n_seeds))))

    def as_attributes(self) -> dict[str, Any]:
        """Return the settings as attributes of a store."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_attributes(cls, attributes: dict[str, Any]) -> Settings:
        """Return the settings that ``as_attributes`` wrote."""
        fields: dict[str, Any] = {}
        for name, value in attributes.items():
            fields[name] = tuple(value) if isinstance(value, list) else value
        return cls(**fields)


def as_states(states: Sequence[int]) -> tuple[int, ...]:
    """Return sizes in increasing order."""
    return tuple(sorted(at_least("states", n_states, SMALLEST_MODEL) for n_states in states))
