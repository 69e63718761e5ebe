"""The configuration of each experiment, found by the experiment's name."""

from __future__ import annotations

import dataclasses
import json
from numbers import Real
from typing import Any, ClassVar, Literal

from ppl_hmm.errors import ForeignFile, InvalidInput
from ppl_hmm.experiments.engine.grid import DEFINED, Extent, Settings

# Of a run that takes seconds.
_LITTLE_TEXT = {"length": 20, "n_train": 300, "n_validation": 100, "n_test": 200}


@dataclasses.dataclass(frozen=True)
class HeadVsPrompt(Settings):
    """Settings of ``head-vs-prompt``: those of every experiment, and of its prompts.

    Attributes
    ----------
    prompt_length, restarts
        Of the learned prompts.
    support_threshold
        δ of the second constructed prompt.
    """

    experiment: ClassVar[str] = "head-vs-prompt"
    title: ClassVar[str] = (
        "Head tuning against prompt tuning: Figure 3 (left), with exact conditionals in place of a transformer."
    )
    panel: ClassVar[Literal["left", "right"]] = "left"
    figure: ClassVar[Extent] = Extent((4, 8, 10, 15, 25, 30), 20, {})
    smoke: ClassVar[Extent] = Extent((4, 12), 2, {**_LITTLE_TEXT, "restarts": 2})
    smallest: ClassVar[int] = 2  # with one state every posterior is the same, and no task has two classes

    prompt_length: int = 1
    restarts: int = 8
    support_threshold: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.support_threshold, Real) or not self.support_threshold >= 0:
            raise InvalidInput("support_threshold", "a non-negative number", repr(self.support_threshold), "pass 1e-3")


@dataclasses.dataclass(frozen=True)
class MemoryVsVanilla(Settings):
    """Settings of ``memory-vs-vanilla``: those of every experiment; size S is S/4 memory values of 4 states each."""

    experiment: ClassVar[str] = "memory-vs-vanilla"
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
CONFIGURATIONS: dict[str, type[Settings]] = {
    configuration.experiment: configuration for configuration in (HeadVsPrompt, MemoryVsVanilla)
}


class UnknownExperiment(ForeignFile):
    """The settings are of an experiment that is not defined here."""


def from_attributes(attributes: dict[str, Any]) -> Settings:
    """Return the settings that :meth:`Settings.as_attributes` wrote, of the experiment they name.

    Raises
    ------
    UnknownExperiment
        No such experiment is defined.
    KeyError, TypeError, InvalidInput
        No name; other fields than it has; values it refuses.
    """
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in attributes.items()
        if name != "experiment"
    }
    name = attributes["experiment"]
    if name not in DEFINED:
        known, remedy = ", ".join(sorted(DEFINED)), "import the module that defines it"
        raise UnknownExperiment("experiment", f"one of {known}", repr(name), remedy)
    return DEFINED[name](**fields)


def require_readable(settings: Settings) -> None:
    """Raise unless settings can be read back from the file they are written to.

    Raises
    ------
    InvalidInput
        A field that JSON cannot hold or changes (which), or a class without a name of its own.
    """
    if DEFINED.get(getattr(settings, "experiment", "")) is not type(settings):
        raise InvalidInput(
            f"settings {type(settings).__name__}", "a class attribute 'experiment' of its own", "none", "name it"
        )
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        try:
            again = json.loads(json.dumps(value))
            unchanged = (tuple(again) if isinstance(again, list) else again) == value
        except (TypeError, ValueError):
            unchanged = False
        if not unchanged:
            raise InvalidInput(
                f"field {field.name!r} of {type(settings).__name__}",
                "a number, a string, a truth value, or a tuple of these",
                repr(value),
                "pass such a value, e.g. float(x)",
            )
