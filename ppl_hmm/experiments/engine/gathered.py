"""The tree of an experiment, gathered from its cells, and which of its files belong to which cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.errors import ForeignFile, InvalidInput
from ppl_hmm.experiments.engine.defined import from_attributes
from ppl_hmm.experiments.engine.grid import Settings
from ppl_hmm.storage.layout import rename_former


def gather(cells: list[xr.Dataset], configuration: dict[str, Any]) -> xr.DataTree:
    """Return cells as one tree over the whole grid of the configuration.

    Where a cell is missing, numbers are NaN, whole numbers too, strings are empty, and yes-or-no is −1.

    Raises
    ------
    ForeignFile
        There are no cells.
    InvalidInput
        Cells whose columns do not fit together.
    """
    settings = from_attributes(configuration["settings"])
    if not cells:
        raise ForeignFile(
            f"experiment {settings.experiment}", "a finished cell", "none yet", "wait for the first, or run it"
        )
    results = _combine([rename_former(cell) for cell in cells], settings)
    tree = xr.DataTree.from_dict(
        {
            f"/{schema.RESULTS}": results.drop_vars(schema.SECONDS, errors="ignore"),
            f"/{schema.TIMINGS}": results[[name for name in (schema.SECONDS,) if name in results]],
            **{f"/{group}": dataset for group, dataset in settings.references().items()},
            f"/{schema.SETTINGS}": xr.Dataset(attrs=configuration["settings"]),
        }
    )
    tree.attrs = {"package": configuration["package"], "version": configuration["version"]}
    return tree


def _combine(cells: list[xr.Dataset], settings: Settings) -> xr.Dataset:
    """Return the cells in one dataset over the whole grid of the settings."""
    grid = _labels(settings)
    names = dict.fromkeys(str(name) for cell in cells for name in cell.data_vars)
    columns = {name: [cell[name] for cell in cells if name in cell] for name in names}
    n_cells = len(settings.cells())
    combined = {name: _column(parts, grid, len(parts) == n_cells) for name, parts in columns.items()}
    return xr.Dataset(combined, coords=grid)


def _column(parts: Sequence[xr.DataArray], grid: dict[str, Any], complete: bool) -> xr.DataArray:
    """Return a column over the whole grid from its parts, one a cell."""
    first = parts[0]
    own = first.isel(dict.fromkeys(grid, 0), drop=True)  # what cells share: their other dimensions
    for part in parts:
        other = part.isel(dict.fromkeys(grid, 0), drop=True)
        if other.dims != own.dims or not own.coords.equals(other.coords) or other.sizes != own.sizes:
            expected, got = f"{dict(own.sizes)} and the same labels in every cell", str(dict(other.sizes))
            raise InvalidInput(f"column {first.name!r}", expected, got, "pad it to one size, or label it alike")
    missing, dtype = _missing(first, np.result_type(*(part.dtype for part in parts)), complete)
    sizes = {**own.sizes, **{dim: len(labels) for dim, labels in grid.items()}}
    values = np.full([sizes[dim] for dim in first.dims], missing, dtype)
    column = xr.DataArray(values, {**own.coords, **grid}, first.dims, attrs=first.attrs)
    for part in parts:
        column.loc[{dim: part[dim] for dim in grid}] = part
    return column


def _missing(column: xr.DataArray, dtype: np.dtype, complete: bool) -> tuple[Any, np.dtype]:
    """Return what stands where a cell is missing, and the type of the column that holds it."""
    if "flag_values" in column.attrs:
        return schema.NOT_ASKED, dtype
    if dtype.kind == "U":
        return "", dtype
    if dtype.kind == "f":
        return np.nan, dtype
    return (0, dtype) if complete else (np.nan, np.dtype(float))


def _labels(settings: Settings) -> dict[str, list[Any]]:
    """Return the labels of the whole grid along each of its dimensions."""
    return {
        **{axis.dimension: list(axis.values) for axis in settings.axes()},
        schema.SEED: list(range(settings.n_seeds)),
    }


def chunks(tree: xr.DataTree, settings: Settings) -> dict[str, Any]:
    """Return the encoding that makes a chunk of each cell."""
    lengths = {**dict.fromkeys(_labels(settings), 1), schema.SEED: settings.seeds_per_cell}
    return {
        f"/{group}": {
            str(name): {"chunks": tuple(min(size, lengths.get(str(dim), size)) for dim, size in variable.sizes.items())}
            for name, variable in tree[group].data_vars.items()
        }
        for group in (schema.RESULTS, schema.TIMINGS)
    }


def cell_of(settings: Settings, name: str) -> str | None:
    """Return the name of the cell that a file of the results belongs to, None for what belongs to all.

    The last numbers of a chunk's name are its place on the grid: the axes', and the block of seeds'. Coordinates have
    one number, and a grid two at least.
    """
    group, _, chunk = name.partition("/")
    place = chunk.rpartition("/")[2].split(".")
    axes, block = settings.axes(), settings.seeds_per_cell
    if group not in (schema.RESULTS, schema.TIMINGS) or not all(part.isdecimal() for part in place):
        return None
    cells: dict[tuple[int, ...], str] = {
        (*(axis.values.index(cell[axis.dimension]) for axis in axes), cell.seeds[0] // block): cell.name
        for cell in settings.cells()
    }
    return cells.get(tuple(map(int, place[-1 - len(axes) :])))


def is_by_cell(results: xr.Dataset, settings: Settings) -> bool:
    """Say whether every variable has a chunk for each cell: whether its last dimensions are those of the grid."""
    grid = tuple(_labels(settings))
    return all(variable.dims[-len(grid) :] == grid for variable in results.data_vars.values())
