"""The files of an experiment.

    OUT/settings.json       the configuration, written first: what belongs here and what does not
    OUT/cells/NAME.zarr     finished cells of a run that is still under way
    OUT/results.zarr        the finished experiment: /results, /settings, /timings, and its references

Every store is written aside and renamed, so that what carries its name is complete, and its files are known by their
hashes. Runs of one configuration may share a directory: each takes what the others have finished.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import xarray as xr

from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.base import atomic, configured, hashed
from ppl_hmm.errors import ForeignFile, PplHmmError
from ppl_hmm.experiments.engine import defined
from ppl_hmm.experiments.engine.gathered import cell_of, chunks, gather, is_by_cell
from ppl_hmm.experiments.engine.grid import Cell, Settings
from ppl_hmm.storage.layout import rename_former, with_current_names

_SETTINGS = "settings.json"
_CELLS = "cells"
_RESULTS = "results.zarr"


class OtherConfiguration(PplHmmError):
    """The output directory holds results of other settings, or of another version."""


class Store:
    """The directory of one experiment under ``settings``.

    Raises
    ------
    ForeignFile
        ``path`` cannot be written, or holds files of something else; nothing is changed.
    InvalidInput
        The settings make no grid, or could not be read back from the directory; nothing is changed.
    OtherConfiguration
        ``path`` holds the same kind of experiment under other settings or another version; nothing is changed.
    """

    def __init__(self, path: str | Path, settings: Settings) -> None:
        defined.require_runnable(settings)
        self.path = atomic.as_path(path, "store")
        self.settings = settings
        configuration = {"package": "ppl_hmm", "version": __version__, "settings": settings.as_attributes()}
        try:
            configured.settle(self.path, _SETTINGS, configuration)
            _require_same(_read_configuration(self.path), configuration, self.path)
            if self.finished and (damaged := hashed.damaged_files(self.path / _RESULTS)):
                self._take_apart(damaged)
            if not self.finished:
                (self.path / _CELLS).mkdir(exist_ok=True)
        except OSError as error:
            raise ForeignFile(
                f"output {self.path}", "a directory that can be written", str(error), "choose another --out"
            ) from None

    def missing(self) -> list[Cell]:
        """Return the cells still to compute, in the order of the grid; damaged ones are removed."""
        if self.finished:
            return []
        cells = self.settings.cells()
        for path in map(self.cell_path, cells):
            if path.exists() and hashed.damaged_files(path):
                atomic.remove(_taken_away(path))
        return [cell for cell in cells if not self.cell_path(cell).exists()]

    @property
    def finished(self) -> bool:
        """Whether all cells are gathered."""
        return (self.path / _RESULTS).exists()

    def cell_path(self, cell: Cell) -> Path:
        """Return where the finished cell is stored."""
        return self.path.resolve() / _CELLS / f"{cell.name}.zarr"

    def finish(self) -> xr.DataTree:
        """Gather the cells into one tree, write it, drop the cells, and return it.

        Raises
        ------
        ForeignFile
            Cells are not there, or damaged.
        """
        if not self.finished:
            cells = [hashed.read(self.cell_path(cell)) for cell in self.settings.cells()]
            whole = [cell.to_dataset() for cell in cells if cell is not None]
            if len(whole) == len(cells):
                tree = gather(whole, _read_configuration(self.path))
                hashed.write(tree, self.path / _RESULTS, chunks(tree, self.settings))
            elif not self.finished:  # another run, which was faster, may have removed them
                raise ForeignFile(
                    f"cells in {self.path}",
                    f"{len(cells)} whole ones",
                    f"{len(whole)}",
                    "run the same command again; workers must see this directory at the same path",
                )
        shutil.rmtree(self.path / _CELLS, ignore_errors=True)
        return open_results(self.path)

    def _take_apart(self, damaged: list[str]) -> None:
        """Turn damaged results back into cells, those that are whole."""
        lost = {cell_of(self.settings, name) for name in damaged}
        results = _taken_away(self.path / _RESULTS)
        (self.path / _CELLS).mkdir(exist_ok=True)
        if None not in lost and results.exists():  # else another run was faster, and takes them apart
            with xr.open_datatree(results, engine="zarr") as tree:
                everything = xr.merge([tree[name].to_dataset() for name in (schema.RESULTS, schema.TIMINGS)])
                for cell in self.settings.cells() if is_by_cell(everything, self.settings) else ():
                    if cell.name not in lost:
                        part = everything.sel(cell.labels).load().drop_encoding()
                        write_cell(rename_former(part), self.cell_path(cell))
        atomic.remove(results)


def write_cell(results: xr.Dataset, path: Path) -> None:
    """Write a cell's results aside and rename."""
    try:
        hashed.write(results, path)
    except ForeignFile:
        if not _others_finished(path):
            raise


def is_computed(path: Path) -> bool:
    """Say whether a cell is stored by now, by itself or among the results of another run."""
    return path.exists() or _others_finished(path)


def open_results(path: str | Path) -> xr.DataTree:
    """Return a finished or running experiment as a tree, in memory.

    Parameters
    ----------
    path
        The directory given as ``out``. Where a running experiment lacks cells, numbers are NaN, strings are empty and
        yes-or-no is −1.

    Raises
    ------
    ForeignFile
        There is no experiment of this package there, a part of it is damaged (which), or the module that defines it
        has not been imported.

    See Also
    --------
    ppl_hmm.head_vs_prompt, ppl_hmm.memory_vs_vanilla : the experiments of this package
    ppl_hmm.experiments.run_experiment : an experiment of one's own

    Examples
    --------
    >>> import tempfile, ppl_hmm
    >>> out, little = tempfile.mkdtemp(), {"length": 8, "n_train": 60, "n_validation": 30, "n_test": 50}
    >>> tree = ppl_hmm.memory_vs_vanilla([8], 1, out, workers=1, **little)
    >>> ppl_hmm.open_results(out).identical(tree)
    True
    """
    path = atomic.as_path(path, "store")
    configuration = _read_configuration(path)
    if not (path / _RESULTS).exists():
        found = {cell: hashed.read(cell) for cell in sorted((path / _CELLS).glob("*.zarr"))}
        if not (path / _RESULTS).exists():  # still: the cells were not removed while they were read
            for cell in (cell for cell, tree in found.items() if tree is None and cell.exists()):
                raise _damaged(cell, configuration)
            return gather([tree.to_dataset() for tree in found.values() if tree is not None], configuration)
    tree = hashed.read(path / _RESULTS)
    if tree is None:
        raise _damaged(path / _RESULTS, configuration)
    return with_current_names(tree)


def _damaged(store: Path, configuration: dict[str, Any]) -> ForeignFile:
    """Return the error that names the damaged files of a store, and what computes them again."""
    settings = defined.from_attributes(configuration["settings"])
    files = hashed.damaged_files(store)
    kind = "damaged" if any((store / name).exists() for name in files) else "missing"
    cells = sorted({str(cell_of(settings, name)) for name in files} - {"None"})
    of_cells = f" of {', '.join(cells)}" if cells else ""
    return ForeignFile(
        f"store {store}",
        "a complete store",
        f"{kind} files{of_cells}: {', '.join(files[:3])}" + (", …" if len(files) > 3 else ""),
        f"run {settings.experiment} again with the same settings and --out: it computes damaged cells again",
    )


def _read_configuration(path: Path) -> dict[str, Any]:
    try:
        configuration = json.loads((path / _SETTINGS).read_text())
        if configuration["package"] != "ppl_hmm" or "version" not in configuration:
            raise KeyError("package")
        defined.from_attributes(configuration["settings"])
    except defined.UnknownExperiment:
        raise
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


def _others_finished(cell_path: Path) -> bool:
    return (cell_path.parents[1] / _RESULTS).exists()


def _taken_away(store: Path) -> Path:
    """Rename a store, so that of several runs one alone deals with it, and return its new path."""
    aside = store.with_name(f".{uuid4().hex}.part")
    try:
        return store.rename(aside)
    except FileNotFoundError:  # another run was faster
        return aside
