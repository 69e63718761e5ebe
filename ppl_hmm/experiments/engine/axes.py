"""The axes of a grid: named values, checked when they are written down."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput

Scalar = int | float | str

# Keywords of xarray's selections: an axis of such a name could not be selected by keyword.
_KEYWORDS = {"indexers", "method", "tolerance", "drop", "missing_dims", "coords", "assume_sorted", "method_non_numeric"}


@dataclasses.dataclass(frozen=True)
class Axis:
    """A dimension of the grid, and its values.

    Attributes
    ----------
    dimension
        Its name in the results.
    values
        Different whole numbers, finite numbers or strings, in the order that the results have.
    label
        Its name in messages and in the names of cells; by default that of the dimension.

    Raises
    ------
    InvalidInput
        A name that results cannot have; no values, equal ones, or values of other or of several kinds.

    Examples
    --------
    >>> Axis("concentration", (0.1, 1, 10)).values
    (0.1, 1.0, 10.0)
    """

    dimension: str
    values: tuple[Scalar, ...]
    label: str = ""

    def __post_init__(self) -> None:
        name = self.dimension
        if not isinstance(name, str) or not name.isidentifier() or name in {*_KEYWORDS, schema.SEED, schema.SECONDS}:
            got = repr(name)
            raise InvalidInput("name of an axis", "a word that xarray and the engine leave free", got, "choose another")
        object.__setattr__(self, "label", self.label or name)
        object.__setattr__(self, "values", self._checked())

    def _checked(self) -> tuple[Scalar, ...]:
        """Return the values as one kind."""
        if not isinstance(self.values, (tuple, list, range)):
            raise InvalidInput(self.label, "a tuple of values", repr(self.values), "pass e.g. (1, 2)")
        values = _as_one_kind(self.values)
        if values is None:
            expected = "finite numbers, or strings"
            raise InvalidInput(self.label, expected, str(tuple(self.values)), "convert them, e.g. by float(x)")
        if not values:
            raise InvalidInput(self.label, "at least one value", "none", "pass e.g. (1, 2)")
        if len(set(values)) < len(values):
            raise InvalidInput(self.label, "different values", str(values), "drop the repetition")
        return values


def _as_one_kind(values: Sequence[Any]) -> tuple[Scalar, ...] | None:
    """Return values as integers, else as floats, else as strings; None for others."""
    if all(isinstance(value, str) for value in values):
        return tuple(map(str, values))
    if any(isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) for value in values):
        return None
    return tuple(map(int if all(isinstance(value, Integral) for value in values) else float, values))
