"""Array-likes of users as tensors: every dtype, missing entries, gradients, checked once.

Integers of every width, byte order and library become int64; those beyond it are an error, never wrapped. A missing
entry (masked, ``<NA>``, or None or NaN among objects) takes the value that the caller has for it, or is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from ppl_hmm.base import foreign
from ppl_hmm.errors import InvalidInput

_LARGEST = torch.iinfo(torch.int64).max
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def as_tensor(
    values: ArrayLike | torch.Tensor,
    device: torch.device | None = None,
    *,
    what: str = "array",
    kind: str = "numbers",
    missing: int | None = None,
) -> torch.Tensor:
    """Return array-likes (lists, NumPy, pandas, xarray, torch) as a contiguous tensor, with their autograd graph.

    Parameters
    ----------
    missing
        What stands for a missing entry; None where no entry may be missing.

    Raises
    ------
    InvalidInput
        Ragged, sparse, not of numbers, an integer beyond 64 bits, a missing entry (which).
    """
    if isinstance(values, torch.Tensor):
        tensor = _dense(values, what)
    elif _holds_arrays(values):
        parts = cast(Sequence[ArrayLike], values)
        tensor = _stacked([as_tensor(each, what=what, kind=kind, missing=missing) for each in parts], what, kind)
    else:
        tensor = torch.from_numpy(_numbers(values, what, kind, missing))
    return tensor.to(device).contiguous()


def require_unmasked(**arrays: Any) -> None:
    """Raise :class:`InvalidInput`, naming the array, where an entry is masked: NumPy would take the value under it."""
    for what, values in arrays.items():
        if _holds_arrays(values):
            for part in values:
                require_unmasked(**{what: part})
        elif np.ma.is_masked(values):
            where = np.argwhere(np.ma.getmaskarray(values))[0].tolist()
            raise InvalidInput(
                f"{what}{where}", "a value", "a masked entry", "leave masked entries out, or fill them: .filled(value)"
            )


def is_list(values: object) -> bool:
    """Say whether values are a plain list or tuple; a named tuple is a record, no list."""
    return isinstance(values, (list, tuple)) and not hasattr(values, "_fields")


def _dense(values: torch.Tensor, what: str) -> torch.Tensor:
    if values.layout != torch.strided or values.is_nested or values.is_quantized or values.device.type == "meta":
        got = "a tensor without values (device meta)" if values.device.type == "meta" else f"layout {values.layout}"
        raise InvalidInput(what, "a dense tensor with values", got, "convert with .to_dense(), or fill in the values")
    if values.dtype not in _UNSIGNED:
        return values
    signed = values.to(torch.int64)  # what is beyond int64 wraps to below zero
    if (signed < 0).any():
        where = (signed < 0).nonzero()[0].tolist()
        raise _beyond(what, where, int(signed[tuple(where)]) + 2**64)
    return signed


def _holds_arrays(values: object) -> bool:
    """Say whether nested lists hold arrays: NumPy would drop the masks and gradients of these."""
    if not is_list(values):
        return False
    types = set(map(type, values))  # type: ignore[call-overload]
    if any(hasattr(each, "__array__") and not issubclass(each, np.generic) for each in types):
        return True
    return any(map(_holds_arrays, values)) if types & {list, tuple} else False  # type: ignore[call-overload]


def _stacked(parts: list[torch.Tensor], what: str, kind: str) -> torch.Tensor:
    shapes, devices = {tuple(part.shape) for part in parts}, {str(part.device) for part in parts}
    if len(shapes) > 1:
        raise _ragged(what, kind, f"parts of shapes {', '.join(map(str, sorted(shapes)))}")
    if len(devices) > 1:
        raise InvalidInput(what, "all parts on one device", ", ".join(sorted(devices)), "move them with .to(device)")
    return torch.stack(parts)


def _numbers(values: ArrayLike, what: str, kind: str, missing: int | None) -> np.ndarray:
    """Return a native, C-contiguous copy in a dtype that PyTorch has."""
    array, absent = _array(values, what, kind)
    if array.dtype.kind in "USV":
        _refuse_item(array.reshape(-1)[:1], what, kind)
    if absent is not None and absent.any():
        where = np.argwhere(absent)[0].tolist()
        if missing is None:
            raise InvalidInput(f"{what}{where}", f"{kind} without gaps", "a missing entry", "fill in what is missing")
        # Where nothing is left the dtype says nothing: None alone is an object, numpy.ma.masked alone a float.
        array = np.full(array.shape, missing) if absent.all() else np.where(absent, missing, array)
    if array.dtype.kind == "O":
        array = _of_objects(array, what, kind)
    if array.dtype.kind == "u" and array.size and int(array.max()) > _LARGEST:
        where = np.argwhere(array > _LARGEST)[0].tolist()
        raise _beyond(what, where, int(array[tuple(where)]))
    dtypes: dict[str, Any] = {"i": np.int64, "u": np.int64, "b": np.bool_, "c": np.complex128}
    floats = array.dtype.newbyteorder("=") if array.dtype.itemsize in (2, 4, 8) else np.float64
    if array.dtype.kind not in "iubcf":
        raise InvalidInput(what, kind, f"dtype {array.dtype}", "convert to numbers")
    return np.array(array, dtype=dtypes.get(array.dtype.kind, floats), order="C")


def _array(values: Any, what: str, kind: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return values as a NumPy array, and which are missing (None: no way to tell, or none)."""
    if isinstance(values, np.ma.MaskedArray):
        return values.data, np.ma.getmaskarray(values)
    if isinstance(values, (pd.DataFrame, pd.Series, pd.Index)):
        values = values.to_numpy()
    if isinstance(values, (str, bytes, Mapping, set)):
        raise _wrong_kind(values, what, kind)
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        if is_list(values) and "inhomogeneous" in str(error):
            raise _ragged(what, kind, str(error)) from None
        raise _wrong_kind(values, what, kind) from None
    if array.ndim == 0 and array.dtype.kind == "O" and not isinstance(array.item(), Real):
        raise _wrong_kind(values, what, kind)
    return array, pd.isna(array) if array.dtype.kind == "O" else None


def _of_objects(array: np.ndarray, what: str, kind: str) -> np.ndarray:
    """Return objects as int64 if all are integers, as booleans if all are, as float64 if all are real."""
    items = array.reshape(-1).tolist()
    types = set(map(type, items))
    if types <= {bool}:
        return array.astype(np.bool_)
    wrong = tuple(each for each in types if each is bool or not issubclass(each, Real))
    if wrong:
        _refuse_item([next(item for item in items if type(item) in wrong)], what, kind)
    if not all(issubclass(each, Integral) for each in types):
        return array.astype(np.float64)
    largest = max(items, key=abs)
    if abs(largest) > _LARGEST:
        where = np.unravel_index(items.index(largest), array.shape)
        raise _beyond(what, [int(i) for i in where], largest)
    return array.astype(np.int64)


def _refuse_item(items: Any, what: str, kind: str) -> None:
    first = items[0].item() if isinstance(items, np.ndarray) else items[0]
    if isinstance(first, (list, tuple, np.ndarray)):
        raise _ragged(what, kind, "rows of different lengths or depths")
    remedy = "convert to numbers"
    if isinstance(first, str) and kind == "integers":
        of_words = "number words of strings by Vocabulary.from_text(texts, unit='word').encode(texts), or, "
        of_words += f"for a Hugging Face model, by {foreign.IDS}"
        remedy = "convert each by int(x)" if _is_integer(first) else of_words
    raise InvalidInput(what, f"a rectangular array of {kind}", f"{type(first).__name__} {first!r}", remedy)


def _is_integer(word: str) -> bool:
    try:
        int(word)
    except ValueError:
        return False
    return True


def _ragged(what: str, kind: str, got: str) -> InvalidInput:
    return InvalidInput(what, f"a rectangular array of {kind}", got, "give all rows the same length")


def _beyond(what: str, where: list[int], value: int) -> InvalidInput:
    return InvalidInput(
        f"{what}{where} out of range", "an integer within 64 bits", str(value), "check where the value comes from"
    )


def _wrong_kind(values: object, what: str, kind: str) -> InvalidInput:
    return InvalidInput(
        what,
        f"an array of {kind}",
        foreign.described(values),
        foreign.remedy(values, "array", "pass a list or an array"),
    )
