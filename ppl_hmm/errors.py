"""The package's exceptions and the one style of their messages.

Every message says four things: *what* is wrong, what was *expected*, what was *got*, and the *remedy*.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real


class PplHmmError(Exception):
    """Base of every error raised on purpose: ``what: expected …, got …; remedy``.

    A single argument is a ready message: some callers (Pyro's tracing among them) rebuild exceptions from their text.
    """

    def __init__(self, what: str, expected: str = "", got: str = "", remedy: str = "") -> None:
        parts = (what, expected, got, remedy) if remedy else (what,)
        super().__init__(*parts)

    def __str__(self) -> str:
        if len(self.args) == 1:
            return self.args[0]
        what, expected, got, remedy = self.args[:4]
        return f"{what}: expected {expected}, got {got}; {remedy}"


class InvalidInput(PplHmmError, ValueError):
    """An argument is not what the function is defined on."""


class ImpossibleText(InvalidInput):
    """The model gives the text (or its context) probability zero."""


class ForeignFile(InvalidInput):
    """A file or store cannot be read, cannot be written, or was made by something else."""


def one_of(what: str, value: object, choices: Iterable[str]) -> None:
    """Raise :class:`InvalidInput` listing ``choices`` unless ``value`` is among them."""
    names = sorted(choices)
    if not isinstance(value, str) or value not in names:  # an array would compare entry by entry
        raise InvalidInput(f"unknown {what}", f"one of {', '.join(names)}", repr(value), "choose from the list")


def at_least(what: str, value: object, minimum: int) -> int:
    """Return ``value`` as an int; raise :class:`InvalidInput` unless it is an integer of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise InvalidInput(what, f"an integer of at least {minimum}", repr(value), "pass a larger number")
    return int(value)


def within(what: str, value: object, lowest: float, highest: float) -> float:
    """Return ``value`` as a float; raise :class:`InvalidInput` unless it is a number from ``lowest`` to ``highest``."""
    if isinstance(value, bool) or not isinstance(value, Real) or not lowest <= value <= highest:  # type: ignore[operator]
        raise InvalidInput(what, f"a number in {lowest:g}..{highest:g}", repr(value), "choose one in the range")
    return float(value)
