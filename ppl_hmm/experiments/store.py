"""The files of an experiment.

    OUT/settings.json       the configuration, written first: what belongs here and what does not
    OUT/cells/NAME.zarr     finished cells of a run that is still under way
    OUT/results.zarr        the finished experiment: /results, /published, /settings, /timings

Every store is written aside and renamed, so that what carries its name is complete. Zarr format 2: its round trip is
silent and identical.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.errors import ForeignFile, PplHmmError
from ppl_hmm.experiments import configurations
from ppl_hmm.experiments.grid import Cell, Settings
from ppl_hmm.layout import rename_former, with_current_names
from ppl_hmm.reference import published

_SETTINGS = "settings.json"
_CELLS = "cells"
_RESULTS = "results.zarr"
_FILES = ".files.json"


class OtherConfiguration(PplHmmError):
    """The output directory holds results of other settings, or of another version."""


class Store:
    """The directory of one experiment under ``settings``.

    Raises
    ------
    ForeignFile
        ``path`` cannot be written, or holds files of something else; nothing is changed.
    OtherConfiguration
        ``path`` holds the same kind of experiment under other settings or another version; nothing is changed.
    """

    def __init__(self, path: str | Path, settings: Settings) -> None:
        self.path = Path(path)
        self.settings = settings
        configuration = {"package": "ppl_hmm", "version": __version__, "settings": settings.as_attributes()}
        try:
            if _occupied(self.path):
                _require_same(_read_configuration(self.path), configuration, self.path)
            else:
                self.path.mkdir(parents=True, exist_ok=True)
                _write_aside(self.path / _SETTINGS, lambda aside: aside.write_text(json.dumps(configuration, indent=2)))
            if not self.finished:
                (self.path / _CELLS).mkdir(exist_ok=True)
        except OSError as error:
            raise ForeignFile(
                f"output {self.path}", "a directory that can be written", str(error), "choose another --out"
            ) from None

    def missing(self) -> list[Cell]:
        """Return the cells still to compute, in the order of the grid."""
        if self.finished:
            return []
        cells = list(self.settings.cells())
        for cell in cells:
            if not _intact(self.cell_path(cell)):  # e.g. partly deleted
                shutil.rmtree(self.cell_path(cell), ignore_errors=True)
        return [cell for cell in cells if not self.cell_path(cell).exists()]

    @property
    def finished(self) -> bool:
        """Whether all cells are gathered."""
        return (self.path / _RESULTS).exists()

    def cell_path(self, cell: Cell) -> Path:
        """Return where the finished cell is stored."""
        return self.path.resolve() / _CELLS / f"{cell.name}.zarr"

    def finish(self) -> xr.DataTree:
        """Gather the cells into one tree, write it, drop the cells, and return it."""
        if not self.finished:
            tree = _gather(self.path, _read_configuration(self.path))
            if not self.finished:  # another run of the same command may have been faster
                _write_aside(self.path / _RESULTS, lambda aside: _write_zarr(tree, aside))
        shutil.rmtree(self.path / _CELLS, ignore_errors=True)
        return open_results(self.path)


def write_cell(results: xr.Dataset, path: Path) -> None:
    """Write a cell's results aside and rename."""
    _write_aside(path, lambda aside: _write_zarr(results, aside))


def open_results(path: str | Path) -> xr.DataTree:
    """Return a finished or running experiment as a tree, in memory.

    Parameters
    ----------
    path
        The directory given as ``out``. Cells that a running experiment still lacks are NaN, or −1 for yes-or-no.

    Raises
    ------
    ForeignFile
        There is no experiment of this package there.
    """
    path = Path(path)
    configuration = _read_configuration(path)
    if not (path / _RESULTS).exists():
        return _gather(path, configuration)
    if not _intact(path / _RESULTS):
        raise ForeignFile(
            f"store {path / _RESULTS}", "a complete store", "missing files", "remove it and run the experiment again"
        )
    with xr.open_datatree(path / _RESULTS, engine="zarr") as tree:
        return with_current_names(tree.load())


def _gather(path: Path, configuration: dict[str, Any]) -> xr.DataTree:
    settings = configurations.from_attributes(configuration["settings"])
    cells = []
    for cell_path in filter(_intact, sorted((path / _CELLS).glob("*.zarr"))):
        with xr.open_dataset(cell_path, engine="zarr") as cell:
            cells.append(rename_former(cell.load()))
    if not cells:
        raise ForeignFile(f"experiment in {path}", "a finished cell", "none yet", "wait for the first, or run it")
    results = _combine(cells, settings)
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


def _read_configuration(path: Path) -> dict[str, Any]:
    try:
        configuration = json.loads((path / _SETTINGS).read_text())
        if configuration["package"] != "ppl_hmm" or "version" not in configuration:
            raise KeyError("package")
        configurations.from_attributes(configuration["settings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ForeignFile(
            f"directory {path}",
            "an experiment of this package",
            f"no readable {_SETTINGS} in it",
            "choose a new or an empty directory",
        ) from None
    return configuration


def _require_same(found: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    if found == wanted:
        return
    if found["version"] != wanted["version"]:
        expected, got = f"version {wanted['version']}", f"version {found['version']}"
    else:
        names = [
            name
            for name in {**wanted["settings"], **found["settings"]}
            if wanted["settings"].get(name) != found["settings"].get(name)
        ]
        if "experiment" in names:
            names = ["experiment"]  # the others differ with it
        expected, got = (
            ", ".join(f"{name}={side['settings'].get(name)}" for name in names) for side in (wanted, found)
        )
    raise OtherConfiguration(
        f"results in {path} have another configuration",
        expected,
        got,
        "choose another --out, or repeat the settings found there",
    )


def _occupied(path: Path) -> bool:
    """Say whether there is anything but what a run leaves that was killed before it wrote its settings."""
    if not path.is_dir():
        return path.exists()
    return any(not entry.name.startswith(f".{_SETTINGS}.") for entry in path.iterdir())


def _write_zarr(data: xr.Dataset | xr.DataTree, path: Path) -> None:
    """Write a store with a list of its files: Zarr takes a missing file for a block of zeros."""
    data.to_zarr(path, zarr_format=2)
    files = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    (path / _FILES).write_text(json.dumps(files))


def _intact(path: Path) -> bool:
    """Say whether the store at ``path`` has all its files."""
    try:
        return all((path / file).is_file() for file in json.loads((path / _FILES).read_text()))
    except (OSError, ValueError, TypeError):
        return False


def _write_aside(path: Path, write: Callable[[Path], object]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    write(aside)
    try:
        aside.replace(path)
    except OSError:
        if not path.is_dir():
            raise
        shutil.rmtree(aside)  # another run wrote the same numbers first
