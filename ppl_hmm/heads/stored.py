"""Read the parts of a head from a labelled dataset; every error names the variable or attribute, and why."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ppl_hmm import schema
from ppl_hmm.base.arrays import require_unmasked
from ppl_hmm.errors import InvalidInput

_REMEDY = "fit the head again, or correct the file"


def weights(dataset: xr.Dataset, name: str, dimensions: tuple[str, ...], kind: str) -> np.ndarray:
    """Return a variable of finite real numbers, its axes in the order of ``dimensions``."""
    variable = _variable(dataset, name, dimensions, kind)
    return finite(variable.transpose(*dimensions).values, f"variable {name!r} of {kind}")


def finite(values: ArrayLike, what: str) -> np.ndarray:
    """Return an array as float64; raise :class:`InvalidInput` unless it holds finite real numbers."""
    require_unmasked(**{what: values})
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # e.g. rows of different lengths
        raise InvalidInput(what, "an array of real numbers", str(error), _REMEDY) from None
    if array.dtype.kind not in "iuf":
        raise InvalidInput(what, "real numbers", str(array.dtype), _REMEDY)
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0].tolist()
        raise InvalidInput(what, "finite numbers", f"{array[tuple(where)]} at {where}", _REMEDY)
    return array


def classes(dataset: xr.Dataset, kind: str) -> np.ndarray:
    """Return the classes: at least two different numbers, truth values or strings."""
    values, what = _variable(dataset, "classes", (schema.CLASS,), kind).values, f"variable 'classes' of {kind}"
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values):
        values = values.astype(str)
    if values.dtype.kind == "f":
        finite(values, what)
    elif values.dtype.kind not in "iubUT":
        raise InvalidInput(what, "numbers or strings", str(values.dtype), _REMEDY)
    if len(values) < 2 or len(np.unique(values)) < len(values):
        raise InvalidInput(what, "at least two, no two of them equal", str(values.tolist()), _REMEDY)
    return values


def require_shape(array: np.ndarray, expected: tuple[int, ...], what: str) -> None:
    """Raise unless an array has a shape and holds finite numbers."""
    if array.shape != expected or not np.isfinite(array).all():
        got = f"shape {array.shape}" if array.shape != expected else "NaN or infinity"
        raise InvalidInput(what, f"finite numbers of shape {expected}", got, "fit the head again")


def number(dataset: xr.Dataset, name: str, default: float, kind: str, above: float = -math.inf) -> float:
    """Return an attribute that is a finite number above a limit, or its default where there is none."""
    value = dataset.attrs.get(name, default)
    if isinstance(value, bool) or not isinstance(value, Real) or not above < float(value) < math.inf:
        expected = "a finite number" + (f" above {above:g}" if above > -math.inf else "")
        raise InvalidInput(f"attribute {name!r} of {kind}", expected, repr(value), _REMEDY)
    return float(value)


def _variable(dataset: xr.Dataset, name: str, dimensions: tuple[str, ...], kind: str) -> xr.DataArray:
    if name not in dataset:
        found = ", ".join(map(str, dataset.variables)) or "none"
        raise InvalidInput(f"variable {name!r} of {kind}", "a variable of that name", f"variables {found}", _REMEDY)
    if set(dataset[name].dims) != set(dimensions):
        raise InvalidInput(
            f"variable {name!r} of {kind}",
            f"dimensions {dimensions}",
            f"dimensions {tuple(map(str, dataset[name].dims))}",
            "rename the dimensions",
        )
    return dataset[name]
