"""Settings as a file holds them: checked before they are written, and found again by the experiment's name."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ppl_hmm.errors import ForeignFile, InvalidInput
from ppl_hmm.experiments.engine.grid import DEFINED, Settings, require_grid


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
    settings = DEFINED[name](**fields)
    require_grid(settings)
    return settings


def require_runnable(settings: Settings) -> None:
    """Raise unless settings make a grid, and can be read back from the file they are written to.

    Raises
    ------
    InvalidInput
        No settings at all; a class without a name or fields of its own; a field that JSON cannot hold or changes
        (which); axes or seeds that make no grid.
    """
    if not isinstance(settings, Settings):
        got = type(settings).__name__
        raise InvalidInput("settings of an experiment", "an instance of a Settings class", got, "define one")
    kind = type(settings)
    if DEFINED.get(getattr(settings, "experiment", "")) is not kind:
        raise InvalidInput(f"settings {kind.__name__}", "a class attribute 'experiment' of its own", "none", "name it")
    if not dataclasses.is_dataclass(settings) or "n_seeds" not in {
        field.name for field in dataclasses.fields(settings)
    }:
        remedy = "decorate it with dataclasses.dataclass(frozen=True)"
        raise InvalidInput(f"settings {kind.__name__}", "a dataclass with a field 'n_seeds'", "another class", remedy)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if not _survives_json(value):
            raise InvalidInput(
                f"field {field.name!r} of {kind.__name__}",
                "a number, a string, a truth value, or a tuple of these",
                repr(value),
                "pass such a value, e.g. float(x)",
            )
    require_grid(settings)


def _survives_json(value: object) -> bool:
    try:
        again = json.loads(json.dumps(value))
        return bool((tuple(again) if isinstance(again, list) else again) == value)
    except (TypeError, ValueError):
        return False
