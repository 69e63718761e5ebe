"""The experiment: the same numbers from any number of processes, its schema, and what its directory accepts."""

import csv
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import ppl_hmm
from ppl_hmm import schema
from ppl_hmm.errors import ForeignFile, InvalidInput
from ppl_hmm.experiments import head_vs_prompt as experiment
from ppl_hmm.experiments import runner
from ppl_hmm.experiments.cells import compute_cell
from ppl_hmm.experiments.grid import Settings
from ppl_hmm.experiments.store import OtherConfiguration, open_results
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.regimes import random_hmm

METHODS = ["head", "head-log", "prompt"]


def smoke(out, workers=1, **options):
    return experiment.head_vs_prompt(
        experiment.SMOKE_STATES, experiment.SMOKE_SEEDS, out, workers=workers, **{**experiment.SMOKE, **options}
    )


def snapshot(path):
    """Every file below, with its content and time of change."""
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A directory with the smoke run of one process, and the tree that the call returned."""
    out = tmp_path_factory.mktemp("finished") / "smoke"
    return out, smoke(out)


@pytest.fixture
def copy(finished, tmp_path):
    """A finished directory of one's own."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


@pytest.fixture
def no_computing(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("computed something")

    monkeypatch.setattr(runner, "_pool", refuse)


# The numbers.


def test_the_numbers_do_not_depend_on_the_workers(finished, tmp_path):
    tree, other = finished[1], smoke(tmp_path / "two", workers=2)
    assert list(tree.children) == list(other.children)
    for group in (schema.RESULTS, schema.PUBLISHED, schema.SETTINGS):
        xr.testing.assert_identical(tree[group].to_dataset(), other[group].to_dataset())


def test_the_condition_is_the_certificate_of_the_same_model(finished):
    """At K = 12 > V = 10 rows cannot be independent; at K = 4 they are, for these seeds."""
    condition = finished[1]["results/condition"].sel({"method": "head"})
    assert condition.sel(n_states=12).values.tolist() == [0, 0]
    assert condition.sel(n_states=4).values.tolist() == [1, 1]
    for seed in (0, 1):
        model = random_hmm("wei2021", 4, 10, seed)
        task = ppl_hmm.random_task(
            model, seed, ppl_hmm.sample(model, 600, experiment.SMOKE["length"], seed).tokens[:300]
        )
        assert head_certificate(model, task).recoverable


def test_where_the_condition_holds_the_training_text_is_separable(finished):
    results = finished[1][schema.RESULTS].to_dataset()
    holds = results["condition"].sel({"method": "head"}) == schema.YES
    assert holds.any()
    assert (results["separable"].sel({"method": "head"}).values[holds.values] == schema.YES).all()


# The schema.


def test_schema_of_results(finished):
    results = finished[1][schema.RESULTS].to_dataset()
    assert set(results.data_vars) == {"accuracy", "separable", "condition", "undecidable"}
    by_method = ("method", "n_states", "seed")
    assert {name: values.dims for name, values in results.data_vars.items()} == {
        "accuracy": by_method,
        "separable": by_method,
        "condition": by_method,
        "undecidable": ("n_states", "seed"),
    }
    assert {name: str(values.dtype) for name, values in results.data_vars.items()} == {
        "accuracy": "float64",
        "separable": "int8",
        "condition": "int8",
        "undecidable": "float64",
    }
    assert results["method"].values.tolist() == METHODS
    assert results["n_states"].values.tolist() == [4, 12]
    assert results["seed"].values.tolist() == [0, 1]
    for name in ("accuracy", "undecidable"):
        assert ((results[name] >= 0) & (results[name] <= 1)).all()
        assert results[name].attrs["units"] == "1"
    for name in ("separable", "condition"):
        assert list(results[name].attrs["flag_values"]) == [-1, 0, 1]
        assert results[name].attrs["flag_meanings"] == "not_asked no yes"
    assert set(np.unique(results["separable"].sel({"method": ["head", "prompt"]}))) <= {0, 1}
    assert (results["separable"].sel({"method": "head-log"}) == -1).all()
    assert set(np.unique(results["condition"].sel({"method": "head"}))) <= {0, 1}
    assert (results["condition"].sel({"method": ["head-log", "prompt"]}) == -1).all()
    # Every accuracy is a whole number of the test texts.
    texts = results["accuracy"].values * experiment.SMOKE["n_test"]
    np.testing.assert_allclose(texts, texts.round(), atol=1e-9)
    assert (results["accuracy"] > 0.5).all()


def test_published_equals_the_file(finished):
    group = finished[1][schema.PUBLISHED].to_dataset()
    text = resources.files("ppl_hmm.reference").joinpath("wei2021_figure3.csv").read_text()
    rows = [row for row in csv.DictReader(text.splitlines()) if row["panel"] == "left"]
    assert group["accuracy"].size == len(rows) == 12
    for row in rows:
        point = group.sel({"method": row["method"], "n_states": int(row["n_states"])})
        assert float(point["accuracy"]) == float(row["accuracy_percent"]) / 100
        assert float(point["half_width"]) == float(row["half_width_percent"]) / 100
    assert "2106.09226" in group.attrs["source"]


def test_settings(finished):
    attributes = finished[1][schema.SETTINGS].attrs
    assert attributes["experiment"] == "head-vs-prompt"
    assert list(attributes["states"]) == [4, 12]
    assert attributes["n_seeds"] == 2
    assert attributes["vocabulary_size"] == 10
    assert {name: attributes[name] for name in experiment.SMOKE} == experiment.SMOKE
    assert finished[1].attrs == {"package": "ppl_hmm", "version": ppl_hmm.__version__}


def test_timings_are_apart(finished):
    seconds = finished[1]["timings/seconds"]
    assert seconds.dims == ("n_states", "seed")
    assert (seconds > 0).all()
    assert seconds.attrs["units"] == "s"


# The store.


def test_a_finished_store(finished):
    out, tree = finished
    assert sorted(path.name for path in out.iterdir()) == ["results.zarr", "settings.json"]
    assert json.loads((out / "results.zarr" / ".zgroup").read_text()) == {"zarr_format": 2}
    for opened in (open_results(out), open_results(str(out)), xr.open_datatree(out / "results.zarr", engine="zarr")):
        xr.testing.assert_identical(opened.load(), tree)
        opened.close()


def test_a_second_call_recomputes_nothing(copy, finished, no_computing):
    before = snapshot(copy / "results.zarr")
    xr.testing.assert_identical(smoke(copy, workers=2), finished[1])
    assert snapshot(copy / "results.zarr") == before
    assert sorted(path.name for path in copy.iterdir()) == ["results.zarr", "settings.json"]


def test_the_order_of_states_is_no_configuration(copy, finished, no_computing):
    tree = experiment.head_vs_prompt((12, 4), 2, copy, **experiment.SMOKE)
    xr.testing.assert_identical(tree, finished[1])


def test_progress_is_reported(finished, tmp_path, no_computing, copy):
    reports = []
    smoke(copy, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(2, 2)]


def test_a_running_store_opens_and_continues(finished, tmp_path, monkeypatch):
    """Half of the cells are there: the others are NaN; the same call computes only them."""
    out = tmp_path / "half"
    settings = Settings(experiment.NAME, experiment.SMOKE_STATES, experiment.SMOKE_SEEDS, **experiment.SMOKE)
    store = runner.Store(out, settings)
    first, second = settings.cells()
    assert (first.n_states, second.n_states) == (12, 4)  # the longest first
    empty = open_results(out)
    assert schema.ACCURACY not in empty[schema.RESULTS]
    runner.write_cell(compute_cell(settings, first), store.cell_path(first))
    results = open_results(out)[schema.RESULTS].to_dataset()
    expected = finished[1][schema.RESULTS].to_dataset()
    xr.testing.assert_identical(results.sel(n_states=12), expected.sel(n_states=12))
    assert results["accuracy"].sel(n_states=4).isnull().all()
    assert results["undecidable"].sel(n_states=4).isnull().all()
    assert (results["condition"].sel(n_states=4) == schema.NOT_ASKED).all()
    assert store.missing() == [second]
    monkeypatch.setattr(runner, "_pool", ThreadPoolExecutor)  # starting a process takes longer than the work
    reports = []
    tree = smoke(out, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(1, 2), (2, 2)]
    xr.testing.assert_identical(tree[schema.RESULTS].to_dataset(), expected)


def test_another_configuration_is_refused_and_untouched(copy, no_computing):
    before = snapshot(copy)
    with pytest.raises(OtherConfiguration) as caught:
        smoke(copy, restarts=3)
    message = str(caught.value)
    assert "expected restarts=3, got restarts=2" in message
    assert "choose another --out" in message
    with pytest.raises(
        OtherConfiguration, match=r"expected states=\[4, 8\], n_seeds=1, got states=\[4, 12\], n_seeds=2"
    ):
        experiment.head_vs_prompt((4, 8), 1, copy, **experiment.SMOKE)
    assert snapshot(copy) == before


def test_another_version_is_refused_and_untouched(copy, no_computing):
    configuration = json.loads((copy / "settings.json").read_text())
    (copy / "settings.json").write_text(json.dumps({**configuration, "version": "0.0.0"}))
    before = snapshot(copy)
    with pytest.raises(OtherConfiguration, match=f"expected version {ppl_hmm.__version__}, got version 0.0.0"):
        smoke(copy)
    assert snapshot(copy) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("thesis.tex", "mine"),
        ("settings.json", "{}"),
        ("settings.json", "[]"),
        ("settings.json", "not json"),
        ("settings.json", '{"package": "other", "settings": {}}'),
    ],
)
def test_a_foreign_directory_is_refused_and_untouched(name, content, tmp_path, no_computing):
    (tmp_path / name).write_text(content)
    before = snapshot(tmp_path)
    for call in (lambda: smoke(tmp_path), lambda: open_results(tmp_path)):
        with pytest.raises(ForeignFile, match=r"expected an experiment of this package.*choose a new or an empty"):
            call()
    assert snapshot(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "settings",
    [
        {"package": "ppl_hmm", "settings": {}},
        {"package": "ppl_hmm", "version": "0.1.0", "settings": {"colour": "red"}},
        {"package": "ppl_hmm", "version": "0.1.0", "settings": []},
    ],
)
def test_a_damaged_settings_file_is_foreign(settings, tmp_path, no_computing):
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    for call in (lambda: open_results(tmp_path), lambda: smoke(tmp_path)):
        with pytest.raises((ForeignFile, OtherConfiguration)):
            call()


def test_places_that_cannot_be_used(tmp_path, no_computing):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ForeignFile):
            smoke(out)
        with pytest.raises(ForeignFile):
            open_results(out)
    with pytest.raises(ForeignFile, match="expected an experiment of this package"):
        open_results(tmp_path / "absent")
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("states", "seeds", "options", "message"),
    [
        ((), 2, {}, "states: expected at least one number of states, got none"),
        ((0,), 2, {}, "states: expected an integer of at least 1, got 0"),
        ((4, 4), 2, {}, r"states: expected different sizes, got \(4, 4\); drop the repetition"),
        ((4,), 0, {}, "seeds: expected an integer of at least 1, got 0"),
        ((4,), 2, {"workers": 0}, "workers: expected an integer of at least 1, got 0"),
        ((4,), 2, {"length": 0}, "length: expected an integer of at least 1, got 0"),
        ((4,), 2, {"restarts": 0}, "restarts: expected an integer of at least 1, got 0"),
        ((4.5,), 2, {}, "states: expected an integer"),
    ],
)
def test_bad_sizes_leave_nothing_behind(states, seeds, options, message, tmp_path, no_computing):
    with pytest.raises(InvalidInput, match=message):
        experiment.head_vs_prompt(states, seeds, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_seeds_fall_into_fixed_blocks():
    cells = list(Settings("head-vs-prompt", (4, 8), 12).cells())
    assert [(cell.n_states, cell.seeds) for cell in cells] == [
        (n_states, seeds) for n_states in (8, 4) for seeds in ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (10, 11))
    ]
    assert len({cell.name for cell in cells}) == 6
