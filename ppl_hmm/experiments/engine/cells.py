"""Compute a cell: threads and time around what an experiment computes, and its columns as a dataset."""

from __future__ import annotations

import pkgutil
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput
from ppl_hmm.experiments.engine.grid import Cell, Settings

#: What an experiment computes for one cell; the first argument is its own class of settings. It returns columns by
#: name: a list or array with one entry a seed, or what a dataset takes, ``(dimensions, values, attributes)``.
Columns = Callable[[Any, Cell], Mapping[str, Any] | xr.Dataset]
#: The same, or its name as ``'module:function'``, which is imported where cells are computed and nowhere else.
Compute = Columns | str

_KINDS = "biufU"  # truth values, whole numbers, numbers, strings


def compute_cell(compute: Compute, settings: Settings, cell: Cell) -> xr.Dataset:
    """Return what ``compute`` gives for a cell, and the wall time.

    The same settings and cell give the same numbers in every process: the number of threads is a setting.

    Raises
    ------
    InvalidInput
        Columns that do not fit the cell (which); a name of no function.
    """
    columns = imported(compute)  # before the clock starts, and before threads of libraries are limited: it loads some
    from ppl_hmm.base.threads import threads  # loads PyTorch, which a process that leaves cells to others does without

    started = time.perf_counter()
    try:
        with threads(settings.threads), threadpool_limits(settings.threads):
            results = _as_cell(columns(settings, cell), cell)
    except Exception as error:
        error.add_note(f"in cell {cell.name} of experiment {settings.experiment}")
        raise
    seconds = np.full([len(labels) for labels in cell.labels.values()], time.perf_counter() - started)
    description = {"units": "s", "long_name": "wall time of the cell that the seed belongs to"}
    results[schema.SECONDS] = (tuple(cell.labels), seconds, description)
    return results


def imported(compute: Compute) -> Columns:
    """Return the function itself."""
    if not isinstance(compute, str):
        return compute
    try:
        return pkgutil.resolve_name(compute)
    except (ImportError, AttributeError, ValueError) as error:
        expected = "a function, or its name as 'module:function'"
        raise InvalidInput("function of an experiment", expected, f"{compute!r}: {error}", "mend the name") from None


def _as_cell(results: Mapping[str, Any] | xr.Dataset, cell: Cell) -> xr.Dataset:
    """Return columns with the dimensions of the grid: (…, *axes, seed)."""
    dataset = _as_dataset(results, cell)
    for name, column in dataset.data_vars.items():
        _require_column(name, column, cell)
    for dimension, labels in cell.labels.items():
        if dimension in dataset.coords and dataset[dimension].values.tolist() != labels:
            got = str(dataset[dimension].values.tolist())
            raise InvalidInput(f"labels {dimension!r} of cell {cell.name}", str(labels), got, "leave them out")
    there = {name: labels for name, labels in cell.labels.items() if name in dataset.dims}
    others = {name: labels for name, labels in cell.labels.items() if name not in dataset.dims}
    dataset = dataset.assign_coords(there).expand_dims(others)
    truths = [name for name, column in dataset.data_vars.items() if column.dtype.kind == "b"]
    flags = {name: dataset[name].astype(np.int8).assign_attrs(schema.FLAGS) for name in truths}
    return dataset.assign(flags).transpose(..., *cell.labels)


def _as_dataset(results: Mapping[str, Any] | xr.Dataset, cell: Cell) -> xr.Dataset:
    if isinstance(results, xr.Dataset):
        return results.reset_coords()
    if not isinstance(results, Mapping):
        expected, got = "columns by name, or a dataset", type(results).__name__
        raise InvalidInput(f"results of cell {cell.name}", expected, got, "return e.g. {'accuracy': [0.5, 0.75]}")
    columns = {}
    for name, values in results.items():
        try:
            given = values if isinstance(values, (tuple, xr.DataArray)) else (schema.SEED, np.asarray(values))
            columns[name] = xr.Dataset({name: given})[name]
        except (TypeError, ValueError, RuntimeError) as error:
            expected, remedy = "a list or array with an entry a seed", "or name dimensions: (dimensions, values)"
            raise InvalidInput(f"column {name!r} of cell {cell.name}", expected, str(error), remedy) from None
    try:
        return xr.Dataset(columns).reset_coords()
    except ValueError as error:
        expected, remedy = "columns that share their dimensions", "rename a dimension"
        raise InvalidInput(f"results of cell {cell.name}", expected, str(error), remedy) from None


def _require_column(name: object, column: xr.DataArray, cell: Cell) -> None:
    """Raise :class:`InvalidInput` unless a column has an entry for each seed, of a kind that a store holds."""
    what, n_seeds = f"column {name!r} of cell {cell.name}", len(cell.seeds)
    if not isinstance(name, str) or "/" in name or name in {schema.SECONDS, *cell.labels}:
        raise InvalidInput(what, "a string that no axis and no file has for a name", repr(name), "rename it")
    if column.sizes.get(schema.SEED) != n_seeds or any(column.sizes.get(axis, 1) != 1 for axis in cell.point):
        expected = f"a dimension {schema.SEED!r} of {n_seeds}"
        raise InvalidInput(what, expected, str(dict(column.sizes)), "return an entry for each of cell.seeds")
    if column.dtype.kind not in _KINDS:
        expected = "numbers, truth values or strings"
        raise InvalidInput(what, expected, str(column.dtype), "convert its entries, e.g. by float(x)")
