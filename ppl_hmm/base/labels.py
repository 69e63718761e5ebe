"""Labels of axes: arrays that name their dimensions or entries are read by these names, never by position.

An axis may have labels, one for each entry: strings, or integers. Integers that permute 0..n−1 are positions, and are
put in order. Other labels are names; axes of one dimension that name the same entries in different orders are brought
into one, and axes that name different entries are an error. ``state_next`` runs over the states, as ``state`` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.base import foreign
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.errors import InvalidInput

Order = tuple[Any, ...]  # the labels of an axis, in order
Labels = dict[str, Order]  # by dimension
Names = Mapping[str, Order]  # what a record, or a result of it, remembers

#: Dimensions that run over the same entries as another.
SAME_ENTRIES = {schema.STATE_NEXT: schema.STATE, schema.OTHER_STATE: schema.STATE}

# Dimensions that never number a batch of models.
_OWN = {
    schema.SEQUENCE,
    schema.POSITION,
    schema.TOKEN,
    schema.STATE,
    schema.STATE_NEXT,
    schema.CELL,
    schema.MEMORY_VALUE,
    schema.CLASS,
    schema.PROMPT_POSITION,
}


class Axis(NamedTuple):
    """An axis of a named array, and its labels if it has some."""

    array: str
    dimension: str
    order: Order | None


class Labelled(NamedTuple):
    """An array-like whose last axes are in our order, and what its axes are called."""

    values: Any
    leading: tuple[str, ...] | None  # names of the axes before; None where they have none
    labels: Labels  # of the axes that have some


def read(
    values: Any, dimensions: Sequence[str], what: str, leading: tuple[str, ...] | None = None
) -> Labelled:
    """Return values with their axes in the order (``leading``…, ``dimensions``), by name where they have names.

    Raises
    ------
    InvalidInput
        A dataset, or an array whose named dimensions are others (which one is missing).
    """
    if isinstance(values, (xr.Dataset, xr.DataTree)):
        remedy = foreign.remedy(values, "array", "pass one variable")
        raise InvalidInput(what, "an array", foreign.described(values), remedy)
    if isinstance(values, pd.Series) and len(dimensions) == 1:
        return Labelled(values, None, _labels({dimensions[0]: values.index}))
    if isinstance(values, pd.DataFrame) and len(dimensions) == 2:
        if [values.columns.name, values.index.name] == list(dimensions):
            values = values.T
        return Labelled(values, None, _labels(dict(zip(dimensions, values.axes, strict=True))))
    if not isinstance(values, (xr.DataArray, xr.Variable)):
        return Labelled(values, None, {})
    if values.dims == tuple(f"dim_{axis}" for axis in range(values.ndim)):  # what xarray calls axes that nobody named
        return Labelled(values.values, None, {})
    return _read_named(values, dimensions, what, leading)


def _read_named(
    values: Any, dimensions: Sequence[str], what: str, leading: tuple[str, ...] | None
) -> Labelled:
    before = [name for name in values.dims if name not in dimensions]
    missing = [name for name in dimensions if name not in values.dims]
    if missing or _OWN.intersection(before):
        raise InvalidInput(
            f"dimension {(missing or before)[0]!r} of variable {what!r}",
            f"dimensions {tuple(dimensions)}",
            f"dimensions {values.dims}",
            "rename the dimension, or pass the bare values",
        )
    if leading is not None and set(leading) == set(before):
        before = list(leading)
    ordered = values.transpose(*before, *dimensions)
    indexes = getattr(ordered, "indexes", {})
    found = {name: indexes[name] for name in ordered.dims if name in indexes}
    return Labelled(ordered.values, tuple(before), _labels(found))


def _labels(indexes: Mapping[str, pd.Index]) -> Labels:
    return {name: tuple(map(_plain, index.tolist())) for name, index in indexes.items()}


def _plain(label: Any) -> Any:
    """Return bytes of classic files as strings, and whole floats as integers."""
    if isinstance(label, bytes):
        return label.decode(errors="replace")
    return int(label) if isinstance(label, float) and label.is_integer() else label


def numbered(order: Order) -> bool:
    """Say whether labels are the positions 0..n−1, in any order."""
    return set(order) == set(range(len(order)))


def is_plain(order: Order) -> bool:
    """Say whether labels are the positions 0..n−1 in order, which say no more than no labels."""
    return order == tuple(range(len(order)))


def permutation(order: Order, wanted: Order, what: str) -> list[int]:
    """Return where the entries of ``wanted`` are in ``order``.

    Raises
    ------
    InvalidInput
        The two do not name the same entries, or one of them names an entry twice.
    """
    if len(set(order)) < len(order):
        raise InvalidInput(f"labels of {what}", "different ones", _written(order), "rename the entries")
    if len(order) != len(wanted) or set(order) != set(wanted):
        raise InvalidInput(
            f"labels of {what}", _written(wanted), _written(order), "rename the entries, or pass the bare values"
        )
    place = {label: position for position, label in enumerate(order)}
    return [place[label] for label in wanted]


def one_order(axes: Iterable[Axis], entries: str) -> Order | None:
    """Return the order that axes of the same entries are brought into; None if no axis has labels.

    It is that of the first labelled axis, or 0..n−1 for positions.

    Parameters
    ----------
    axes
        All axes that run over these entries.
    entries
        The dimension whose axes decide; another that runs over the same entries follows.

    Raises
    ------
    InvalidInput
        Some axes must be put in order, and that of another, without labels, cannot be known.
    """
    axes = list(axes)
    if any(axis.order is not None and not numbered(axis.order) for axis in axes):  # beside names, 0..n−1 is no label
        axes = [axis if axis.order is None or not is_plain(axis.order) else axis._replace(order=None) for axis in axes]
    labelled = [axis for axis in axes if axis.order is not None]
    deciding = [axis for axis in labelled if axis.dimension == entries] or labelled
    written = [axis.order for axis in deciding if axis.order is not None]
    if not written:
        return None
    reference = tuple(range(len(written[0]))) if numbered(written[0]) else written[0]
    bare = [axis.array for axis in axes if axis.order is None]
    if bare and any(order != reference for order in written):
        raise InvalidInput(
            f"{entries} of {bare[0]}",
            f"labels, as {deciding[0].array} has them ({_written(written[0])})",
            "none, so that the order is not known",
            "label all arrays, or none",
        )
    return reference


def moved(values: torch.Tensor, axis: int, order: Order | None, wanted: Order | None, what: str) -> torch.Tensor:
    """Return a tensor whose axis, labelled by ``order``, is in the order ``wanted``; as it is without labels."""
    if order is None or wanted is None or order == wanted or is_plain(order):
        return values
    return _select(values, axis, order, wanted, what)


def aligned(dimensions: Mapping[str, Sequence[str]], **arrays: Any) -> dict[str, torch.Tensor]:
    """Return arrays as tensors whose last axes are their ``dimensions``, the entries of each in one order.

    Raises
    ------
    InvalidInput
        Dimensions or entries of other names; entries out of order beside an array without labels.
    """
    tensors: dict[str, torch.Tensor] = {}
    axes: list[Axis] = []
    leading = None
    for name, values in arrays.items():
        array = read(values, dimensions[name], name, leading)
        leading = array.leading if leading is None else leading
        tensors[name] = as_tensor(array.values, what=name)
        axes += [Axis(name, each, array.labels.get(each)) for each in dimensions[name]]
    entries_of = {axis.dimension: SAME_ENTRIES.get(axis.dimension, axis.dimension) for axis in axes}
    for entries in dict.fromkeys(entries_of.values()):
        same = [axis for axis in axes if entries_of[axis.dimension] == entries]
        order = one_order(same, entries)
        for name, dimension, own in same:
            place = dimensions[name].index(dimension) - len(dimensions[name])
            tensors[name] = moved(tensors[name], place, own, order, f"{dimension} of {name}")
    return tensors


def matched(values: torch.Tensor, order: Order | None, wanted: Order | None, what: str, other: str) -> torch.Tensor:
    """Return values (…,n), labelled by ``order``, beside another array whose entries are ``wanted``.

    Labels 0..n−1 in order are pandas' default and carry no information: beside names they are ignored.

    Raises
    ------
    InvalidInput
        Labels of other entries, or positions out of order beside an array without labels.
    """
    if order is None or order == wanted:
        return values
    if wanted is None:
        if numbered(order) and not is_plain(order):
            got = f"positions {_written(order)}, and none of {other}"
            remedy = f"label {other}, or pass the bare values"
            raise InvalidInput(f"labels of {what}", "positions in order", got, remedy)
        return values
    if (is_plain(order) and not numbered(wanted)) or (is_plain(wanted) and not numbered(order)):
        return values
    return _select(values, -1, order, wanted, what)


def _select(values: torch.Tensor, axis: int, order: Order, wanted: Order, what: str) -> torch.Tensor:
    places = torch.tensor(permutation(order, wanted, what), device=values.device)
    return values.index_select(axis, places)


def is_kept(order: Order | None, dimension: str) -> bool:
    """Say whether labels say more than positions, and so are worth keeping.

    Raises
    ------
    InvalidInput
        Labels that are neither strings nor integers, or not all different.
    """
    if order is None or is_plain(order):
        return False
    wrong = [label for label in order if isinstance(label, bool) or not isinstance(label, (str, int))]
    if wrong:
        raise InvalidInput(
            f"labels of dimension {dimension!r}", "strings or integers", repr(wrong[0]), "rename the entries"
        )
    permutation(order, order, f"dimension {dimension!r}")
    return True


def coordinates(names: Names, sizes: Mapping[Any, int]) -> dict[str, list]:
    """Return the labels of dimensions whose entries have names, for an xarray object of these sizes.

    A dimension of another size has other entries: a head on several masks has a block of tokens for each.
    """
    entries_of = {str(dimension): SAME_ENTRIES.get(str(dimension), str(dimension)) for dimension in sizes}
    return {
        dimension: list(names[entries])
        for dimension, entries in sorted(entries_of.items())
        if entries in names and len(names[entries]) == sizes[dimension]
    }


def _written(order: Order) -> str:
    return ", ".join(map(str, order[:8])) + (", …" if len(order) > 8 else "")


def require_same_rows(features: Any, **others: Any) -> None:
    """Raise :class:`InvalidInput` where another array names the rows of ``features`` in another order.

    For arrays that are read by position. Rows of other names, or of none, may be any.
    """
    rows = _row_names(features)
    for name, values in others.items():
        found = _row_names(values)
        if rows is None or found is None or rows.equals(found) or Counter(rows) != Counter(found):
            continue
        raise InvalidInput(
            f"rows of {name}",
            f"the order of X, {_written(tuple(rows))}",
            _written(tuple(found)),
            f"reorder them, {name}.loc[X.index], or pass bare values",
        )


def _row_names(values: Any) -> pd.Index | None:
    if isinstance(values, xr.DataArray):
        return values.indexes.get(values.dims[0]) if values.ndim else None
    return values.index if isinstance(values, (pd.DataFrame, pd.Series)) else None
