"""The tree of an experiment, gathered from its cells, and which of its files belong to which cell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.errors import ForeignFile
from ppl_hmm.experiments.engine.grid import SEEDS_PER_CELL, Settings
from ppl_hmm.experiments.figure3 import configurations
from ppl_hmm.reference import published
from ppl_hmm.storage.layout import rename_former

# A chunk of the results is a cell: its last two numbers are the size's and the block of seeds'.
_CHUNK = re.compile(rf"(?:{schema.RESULTS}|{schema.TIMINGS})/[^/]+/(?:\d+\.)*?(\d+)\.(\d+)")


def gather(cells: list[xr.Dataset], configuration: dict[str, Any]) -> xr.DataTree:
    """Return cells as one tree over the whole grid of the configuration; NaN, or −1, where a cell is missing.

    Raises
    ------
    ForeignFile
        There are no cells.
    """
    settings = configurations.from_attributes(configuration["settings"])
    if not cells:
        raise ForeignFile(
            f"experiment {settings.experiment}", "a finished cell", "none yet", "wait for the first, or run it"
        )
    results = _combine(map(rename_former, cells), settings)
    tree = xr.DataTree.from_dict(
        {
            f"/{schema.RESULTS}": results.drop_vars(schema.SECONDS, errors="ignore"),
            f"/{schema.TIMINGS}": results[[name for name in (schema.SECONDS,) if name in results]],
            f"/{schema.PUBLISHED}": published(settings.panel),
            f"/{schema.SETTINGS}": xr.Dataset(attrs=configuration["settings"]),
        }
    )
    tree.attrs = {"package": configuration["package"], "version": configuration["version"]}
    return tree


def _combine(cells: Iterable[xr.Dataset], settings: Settings) -> xr.Dataset:
    """Return the cells in one dataset over the whole grid of the settings."""
    grid = {schema.N_STATES: list(settings.states), schema.SEED: list(range(settings.n_seeds))}
    combined = xr.Dataset(coords=grid)
    for cell in cells:
        for name, variable in ((str(name), values) for name, values in cell.data_vars.items()):
            if name not in combined:
                shape = [len(grid[str(dim)]) if dim in grid else size for dim, size in variable.sizes.items()]
                missing = np.nan if variable.dtype.kind == "f" else schema.NOT_ASKED
                coords = {dim: grid.get(str(dim), cell.get(str(dim))) for dim in variable.dims}
                combined[name] = xr.DataArray(
                    np.full(shape, missing, variable.dtype), coords, variable.dims, attrs=variable.attrs
                )
            combined[name].loc[{str(dim): cell[str(dim)] for dim in variable.dims}] = variable
    return combined


def chunks(tree: xr.DataTree) -> dict[str, Any]:
    """Return the encoding that makes a chunk of each cell."""
    lengths = {schema.N_STATES: 1, schema.SEED: SEEDS_PER_CELL}
    return {
        f"/{group}": {
            str(name): {"chunks": tuple(min(size, lengths.get(str(dim), size)) for dim, size in variable.sizes.items())}
            for name, variable in tree[group].data_vars.items()
        }
        for group in (schema.RESULTS, schema.TIMINGS)
    }


def cell_of(settings: Settings, name: str) -> str | None:
    """Return the name of the cell that a file of the results belongs to, None for what belongs to all."""
    chunk = _CHUNK.fullmatch(name)
    cells = {
        (settings.states.index(cell.n_states), cell.seeds[0] // SEEDS_PER_CELL): cell.name for cell in settings.cells()
    }
    return None if chunk is None else cells.get((int(chunk[1]), int(chunk[2])))


def is_by_cell(results: xr.Dataset) -> bool:
    """Say whether every variable has a chunk for each cell: whether its last dimensions are sizes and seeds."""
    return all(variable.dims[-2:] == (schema.N_STATES, schema.SEED) for variable in results.data_vars.values())
