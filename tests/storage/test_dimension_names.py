"""Dimensions can be selected by keyword, and files that have their former names are read."""

import inspect

import numpy as np
import pytest
import xarray as xr

from ppl_hmm import InvalidInput, audit, example, open_results, validate
from ppl_hmm.experiments.engine.store import Store, write_cell
from ppl_hmm.experiments.figure3.configurations import HeadVsPrompt
from ppl_hmm.storage.layout import LAYOUTS, with_current_names

NAMES = {"approach": "method", "rank_tolerance": "tolerance"}
DIMENSIONS = sorted(
    {
        dimension
        for groups in LAYOUTS.values()
        for variables in groups.values()
        for allowed in variables.values()
        for dimensions in allowed
        for dimension in dimensions
    }
)


def formerly(dataset):
    """A dataset as the first release wrote it."""
    return dataset.rename({new: old for new, old in NAMES.items() if new in dataset.dims})


def test_no_dimension_is_an_option_of_xarray():
    methods = [getattr(kind, name) for kind in (xr.Dataset, xr.DataArray) for name in ("sel", "isel", "interp")]
    options = {option for method in methods for option in inspect.signature(method).parameters}
    assert {"method", "tolerance"} <= options  # the question can be answered with yes
    assert options.isdisjoint(DIMENSIONS)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_keyword_selects_one_entry(dimension):
    array = xr.DataArray(np.eye(3), dims=("other", dimension), coords={dimension: [10, 20, 30]})
    assert array.sel(**{dimension: 20}).values.tolist() == [0, 1, 0]
    assert array.isel(**{dimension: 2}).values.tolist() == [0, 0, 1]


@pytest.fixture(scope="module")
def tree():
    return audit(*example("aliased"), length=3, seed=0)


def test_ranks_are_selected_by_keyword(tree):
    """Rows (0.6, 0.3, 0.1), the same again and (0.1, 0.3, 0.6): rank two."""
    ranks = tree["diagnostics/conditioning/effective_rank"]
    assert ranks.sel(matrix="emission", rank_tolerance=1e-9).item() == 2
    assert ranks.sel(rank_tolerance=1e-9).dims == ("matrix",)


def test_an_audit_of_former_names_is_read(tree):
    old = tree.copy()
    old["diagnostics/conditioning"].dataset = formerly(old["diagnostics/conditioning"].to_dataset())
    assert "tolerance" in old["diagnostics/conditioning"].dims
    assert old.ppl_hmm.report() == tree.ppl_hmm.report()
    assert old.ppl_hmm.summary().equals(tree.ppl_hmm.summary())
    xr.testing.assert_identical(with_current_names(old), tree)
    assert "tolerance" in old["diagnostics/conditioning"].dims  # the caller's tree is left as it was
    expected = r"variable 'effective_rank' of group '/diagnostics/conditioning': expected dimensions .*'rank_tolerance'"
    with pytest.raises(InvalidInput, match=expected):
        validate(old)


def test_names_of_a_current_tree_are_left(tree):
    assert with_current_names(tree) is tree


def results_of(cell):
    shape = (2, 1, len(cell.seeds))
    coords = {"approach": ["head", "prompt"], "n_states": [cell["n_states"]], "seed": list(cell.seeds)}
    values = {"accuracy": np.arange(np.prod(shape)).reshape(shape) / 10.0}
    values.update({name: np.ones(shape, np.int8) for name in ("separable", "condition")})
    dataset = xr.Dataset({name: (tuple(coords), array) for name, array in values.items()}, coords=coords)
    dataset["undecidable"] = (("n_states", "seed"), np.zeros(shape[1:]))
    return dataset


def test_stores_of_former_names_are_read(tmp_path):
    """Cells of a run that is under way, and a finished store without hashes."""
    store = Store(tmp_path / "out", HeadVsPrompt((3,), 2))
    (cell,) = store.settings.cells()
    write_cell(formerly(results_of(cell)), store.cell_path(cell))
    running = open_results(store.path)
    assert running["results/accuracy"].sel(approach="prompt", n_states=3).values.tolist() == [0.2, 0.3]
    finished = store.finish()
    xr.testing.assert_identical(finished, running)
    old = xr.DataTree.from_dict({node.path: formerly(node.to_dataset()) for node in finished.subtree})
    old.attrs = finished.attrs
    for file in sorted((store.path / "results.zarr").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    old.to_zarr(store.path / "results.zarr", zarr_format=2)
    names = [str(file.relative_to(store.path / "results.zarr")) for file in (store.path / "results.zarr").rglob("*")]
    files = [name for name in names if (store.path / "results.zarr" / name).is_file()]
    (store.path / "results.zarr" / ".files.json").write_text(str(files).replace("'", '"'))  # as the first release
    opened = open_results(store.path)
    xr.testing.assert_identical(opened, finished)
    validate(opened)
