"""Any axes and any columns: checked first, stored by cell, labelled in the results."""

import dataclasses
import inspect
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr

from ppl_hmm import InvalidInput, open_results, schema, validate
from ppl_hmm.errors import ForeignFile
from ppl_hmm.experiments import Axis, Settings, run_experiment
from ppl_hmm.experiments.engine.store import Store
from ppl_hmm.experiments.figure3.configurations import HeadVsPrompt


@dataclasses.dataclass(frozen=True)
class Named(Settings):
    experiment = "named"

    kinds: tuple[str, ...] = ("a/b", "c")
    shifts: tuple[float, ...] = (-0.5, 2.0)
    n_seeds: int = 3

    def axes(self):
        return Axis("kind", self.kinds), Axis("shift", self.shifts)

    def cost(self, cell):
        return cell["shift"]


def compute(settings, cell):
    seeds = np.array(cell.seeds)
    sums = cell["shift"] + seeds
    return {
        "sum": list(sums),
        "even": seeds % 2 == 0,
        "count": torch.tensor(cell.seeds),
        "word": [cell["kind"] * (1 + seed) for seed in cell.seeds],
        "power": (("seed", "exponent"), np.stack([sums, sums**2], axis=1), {"units": "1"}),
        "exponent": ("exponent", [1, 2]),
    }


def run(out, **options):
    return run_experiment(Named(), compute, out, workers=1, **options)


class Stop(Exception):
    pass


def after_one(done, total):
    if done:
        raise Stop


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return run(tmp_path_factory.mktemp("named") / "out")


def test_the_columns_have_the_axes_and_seeds_last(tree):
    results = tree["results"].to_dataset()
    grid = ("kind", "shift", "seed")
    assert {name: column.dims for name, column in results.data_vars.items()} == {
        **dict.fromkeys(["sum", "even", "count", "word"], grid),
        "power": ("exponent", *grid),
    }
    for kind in Named.kinds:
        for shift in Named.shifts:
            for seed in range(3):
                point = results.sel(kind=kind, shift=shift, seed=seed)
                assert point["sum"].item() == shift + seed
                assert point["even"].item() == (seed % 2 == 0)
                assert point["count"].item() == seed
                assert point["word"].item() == kind * (1 + seed)
                assert point["power"].values.tolist() == [shift + seed, (shift + seed) ** 2]
    assert results["even"].attrs["flag_meanings"] == "not_asked no yes"
    assert results["count"].dtype == np.int64
    assert results["power"].attrs == {"units": "1"}
    assert tree["timings/seconds"].dims == grid
    assert tree["settings"].attrs["kinds"] == ["a/b", "c"]
    validate(tree)


def test_cells_are_named_and_the_longest_come_first():
    names = [cell.name for cell in Named().cells()]
    first = ["kind-a%2Fb-shift-2.0-seeds-0-2", "kind-c-shift-2.0-seeds-0-2"]
    assert names[:2] == first
    assert len(set(names)) == 4


def test_a_running_experiment_says_what_is_missing(tmp_path, tree):
    with pytest.raises(Stop):
        run(tmp_path / "out", progress=after_one)
    results = open_results(tmp_path / "out")["results"].to_dataset()
    there = {"kind": "a/b", "shift": 2.0, "seed": slice(0, 2)}
    xr.testing.assert_equal(results.sel(there)["sum"], tree["results/sum"].sel(there))
    missing = results.sel(kind="c", shift=-0.5)
    assert missing["sum"].isnull().all()
    assert missing["count"].isnull().all()
    assert (missing["even"] == schema.NOT_ASKED).all()
    assert (missing["word"] == "").all()
    xr.testing.assert_identical(run(tmp_path / "out")["results"].to_dataset(), tree["results"].to_dataset())


def test_a_damaged_chunk_is_one_cell(tmp_path, tree):
    run(tmp_path / "out")
    (tmp_path / "out" / "results.zarr" / "results" / "power" / "0.1.0.0").write_bytes(b"")
    with pytest.raises(ForeignFile, match=r"damaged files of kind-c-shift--0\.5-seeds-0-2"):
        open_results(tmp_path / "out")
    reports = []
    again = run(tmp_path / "out", progress=lambda *done: reports.append(done))
    assert reports == [(3, 4), (4, 4)]
    xr.testing.assert_identical(again["results"].to_dataset(), tree["results"].to_dataset())


# What is refused before the first cell.


@pytest.mark.parametrize(
    ("dimension", "values", "message"),
    [
        ("method", (1,), "name of an axis: expected a word that xarray and the engine leave free, got 'method'"),
        ("seed", (1,), "name of an axis"),
        ("two words", (1,), "name of an axis"),
        ("size", (), "size: expected at least one value, got none"),
        ("size", 3, "size: expected a tuple of values, got 3"),
        ("size", (1, 1.0), r"size: expected different values, got \(1.0, 1.0\)"),
        ("size", (1, "a"), r"size: expected finite numbers, or strings, got \(1, 'a'\)"),
        ("size", (float("nan"),), "size: expected finite numbers"),
        ("size", (True,), "size: expected finite numbers"),
    ],
)
def test_bad_axes(dimension, values, message):
    with pytest.raises(InvalidInput, match=message):
        Axis(dimension, values)


def test_no_axis_is_an_option_of_xarray():
    methods = [getattr(kind, name) for kind in (xr.Dataset, xr.DataArray) for name in ("sel", "isel")]
    options = {option for method in methods for option in inspect.signature(method).parameters}
    for option in {*options, "coords", "assume_sorted", "method_non_numeric"} - {"self", "indexers_kwargs"}:
        with pytest.raises(InvalidInput, match="name of an axis"):
            Axis(option, (1,))


@dataclasses.dataclass(frozen=True)
class Crossed(Settings):
    experiment = "crossed"

    names: tuple[str, ...] = ("size", "size")
    values: tuple[str, ...] = ("a", "b")
    n_seeds: int = 1

    def axes(self):
        return tuple(Axis(name, self.values) for name in self.names)


class Undecorated(Settings):
    experiment = "undecorated"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Crossed(), "axes of crossed: expected different names, got size, size"),
        (Crossed(names=()), "axes of crossed: expected a tuple of at least one Axis"),
        (Crossed(names=("size",), values=("a", "A")), "expected values that name different files"),
        (Crossed(names=("size",), n_seeds=0), "n_seeds: expected an integer of at least 1, got 0"),
        (Undecorated(), "settings Undecorated: expected a dataclass with a field 'n_seeds'"),
        (compute, "settings of an experiment: expected an instance of a Settings class, got function"),
    ],
)
def test_settings_without_a_grid_are_refused_first(settings, message, tmp_path):
    with pytest.raises(InvalidInput, match=message):
        run_experiment(settings, compute, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_an_axis_that_is_not_there_is_named():
    with pytest.raises(InvalidInput, match="unknown axis: expected one of kind, shift, got 'size'"):
        Named().cells()[0]["size"]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "results of cell .*: expected columns by name, or a dataset, got NoneType"),
        ({"x": [1, 2]}, r"column 'x' of cell .*: expected a dimension 'seed' of 3, got \{'seed': 2\}"),
        ({"x": 1.0}, "column 'x' of cell .*: expected a list or array with an entry a seed"),
        ({"x": ("exponent", [1, 2])}, "column 'x' of cell .*: expected a dimension 'seed' of 3"),
        ({"x": [None] * 3}, "column 'x' of cell .*: expected numbers, truth values or strings, got object"),
        ({"seconds": [1] * 3}, "column 'seconds' of cell .*: expected a string that no axis and no file has"),
        ({"shift": [1] * 3}, "column 'shift' of cell .*: expected a string that no axis"),
        ({"a/b": [1] * 3}, "column 'a/b' of cell .*: expected a string that no axis"),
        ({3: [1] * 3}, "column 3 of cell .*: expected a string that no axis"),
        ({"x": (("shift", "seed"), np.ones((2, 3)))}, "column 'x' of cell .*: expected a dimension 'seed' of 3, got"),
        ({"x": (1, 2, 3)}, "column 'x' of cell .*: expected a list or array with an entry a seed"),
        (xr.Dataset({"x": ("seed", range(3))}, {"seed": range(1, 4)}), "labels 'seed' of cell"),
    ],
)
def test_columns_that_do_not_fit_are_named(returned, message, tmp_path):
    with pytest.raises(InvalidInput, match=message):
        run_experiment(Named(), lambda *_: returned, tmp_path / "out", workers=1)


def test_an_error_says_in_which_cell_it_was(tmp_path):
    with pytest.raises(ZeroDivisionError) as caught:
        run_experiment(Named(), lambda *_: 1 / 0, tmp_path / "out", workers=1)
    assert caught.value.__notes__ == ["in cell kind-a%2Fb-shift-2.0-seeds-0-2 of experiment named"]


def test_columns_of_several_sizes_are_named(tmp_path):
    def ragged(settings, cell):
        return {"x": (("seed", "state"), np.zeros((len(cell.seeds), 2 + (cell["kind"] == "c"))))}

    with pytest.raises(InvalidInput, match=r"column 'x': expected .* the same labels in every cell"):
        run_experiment(Named(), ragged, tmp_path / "out", workers=1)


# Stores that are there.


def test_a_store_whose_cells_lack_a_new_column_is_continued(tmp_path, tree):
    """Cells of an older program have fewer columns: what they lack is missing, and the rest is kept."""
    with pytest.raises(Stop):
        run_experiment(
            Named(),
            lambda settings, cell: {"sum": compute(settings, cell)["sum"]},
            tmp_path / "out",
            workers=1,
            progress=after_one,
        )
    results = run(tmp_path / "out")["results"].to_dataset()
    xr.testing.assert_identical(results["sum"], tree["results/sum"])
    first = {"kind": "a/b", "shift": 2.0, "seed": slice(0, 2)}
    assert results["count"].sel(first).isnull().all()
    assert results["count"].sel(kind="c").notnull().all()


def test_settings_of_a_store_that_make_no_grid_are_foreign(tmp_path):
    Store(tmp_path / "out", Named())
    configuration = json.loads((tmp_path / "out" / "settings.json").read_text())
    configuration["settings"]["shifts"] = []
    (tmp_path / "out" / "settings.json").write_text(json.dumps(configuration))
    with pytest.raises(ForeignFile, match="expected an experiment of this package"):
        open_results(tmp_path / "out")


def test_experiments_of_the_package_are_defined_without_asking(tmp_path):
    """In a new interpreter that imports nothing of Figure 3."""
    Store(tmp_path / "out", HeadVsPrompt((3,), 1))
    code = f"import ppl_hmm\ntry: ppl_hmm.open_results({str(tmp_path / 'out')!r})\nexcept Exception as e: print(e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("experiment head-vs-prompt: expected a finished cell, got none yet")


MODULE = """
import time

import torch

THREADS = torch.get_num_threads()
time.sleep(0.5)


def compute(settings, cell):
    limited = torch.get_num_threads()
    return {"imported_with": [THREADS] * len(cell.seeds), "computed_with": [limited] * len(cell.seeds)}
"""


def test_a_function_that_is_named_is_imported_before_threads_are_limited(tmp_path, monkeypatch):
    """A library that is loaded within limits escapes them, and the time of loading is not that of the cell."""
    (tmp_path / "named_columns.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Named, "threads", 1, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        tree = run_experiment(Named(kinds=("a",)), "named_columns:compute", tmp_path / "out", workers=1)
    finally:
        torch.set_num_threads(before)
    assert (tree["results/imported_with"] == 2).all()
    assert (tree["results/computed_with"] == 1).all()
    assert (tree["timings/seconds"] < 0.5).all()


@pytest.mark.parametrize("name", ["numpy:nothing", "no_such_module:compute", "not a name"])
def test_a_name_of_no_function(name, tmp_path):
    with pytest.raises(InvalidInput, match="function of an experiment: expected a function, or its name"):
        run_experiment(Named(), name, tmp_path / "out", workers=1)
