"""The experiment: the same numbers from any number of processes, its schema, and what its directory accepts."""

import csv
import json
import shutil
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
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
from ppl_hmm.recoverability.prompt import prompt_certificate
from ppl_hmm.regimes import random_hmm

LEARNED = ["head", "head-log", "prompt"]
CONSTRUCTED = {"prompt-theorem": 0.0, "prompt-theorem-threshold": 1e-3}
METHODS = [*LEARNED, *CONSTRUCTED]


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
        assert head_certificate(*model_and_task(4, seed)).recoverable


def model_and_task(n_states, seed):
    """The model and the task of one point of the smoke run, drawn again."""
    model = random_hmm("wei2021", n_states, 10, seed)
    text = ppl_hmm.sample(model, 600, experiment.SMOKE["length"], seed).tokens
    return model, ppl_hmm.random_task(model, seed, text[:300])


@pytest.mark.parametrize("method", CONSTRUCTED)
def test_the_condition_of_constructed_prompts_is_their_certificate(method, finished):
    condition = finished[1]["results/condition"].sel({"method": method})
    for n_states in (4, 12):
        for seed in (0, 1):
            found = prompt_certificate(*model_and_task(n_states, seed), support_threshold=CONSTRUCTED[method])
            assert bool(condition.sel(n_states=n_states, seed=seed)) == found.recoverable


def test_constructed_prompts_have_an_accuracy_where_their_condition_holds(finished):
    results = finished[1][schema.RESULTS].to_dataset().sel({"method": list(CONSTRUCTED)})
    holds = results["condition"] == schema.YES
    assert holds.any()
    assert not holds.all()  # the smoke run shows both
    xr.testing.assert_equal(results["accuracy"].notnull(), holds)


def test_the_theorem_is_right_on_every_decidable_text(finished):
    """Theorem P, exactly: only texts whose margin is within rounding can be labelled otherwise."""
    results = finished[1][schema.RESULTS].to_dataset()
    exact = results.sel({"method": "prompt-theorem"})
    holds = exact["condition"] == schema.YES
    assert holds.any()
    assert (exact["accuracy"] >= 1 - results["undecidable"] - 1e-12).values[holds.values].all()


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
    assert results["accuracy"].sel({"method": LEARNED}).notnull().all()
    for name in ("accuracy", "undecidable"):
        values = results[name].values[results[name].notnull().values]
        assert ((values >= 0) & (values <= 1)).all()
        assert results[name].attrs["units"] == "1"
    assert results["undecidable"].notnull().all()
    for name in ("separable", "condition"):
        assert list(results[name].attrs["flag_values"]) == [-1, 0, 1]
        assert results[name].attrs["flag_meanings"] == "not_asked no yes"
    assert set(np.unique(results["separable"].sel({"method": ["head", "prompt"]}))) <= {0, 1}
    assert (results["separable"].sel({"method": ["head-log", *CONSTRUCTED]}) == -1).all()
    assert set(np.unique(results["condition"].sel({"method": ["head", *CONSTRUCTED]}))) <= {0, 1}
    assert (results["condition"].sel({"method": ["head-log", "prompt"]}) == -1).all()
    # Every accuracy is a whole number of the test texts.
    accuracy = results["accuracy"].values[results["accuracy"].notnull().values]
    texts = accuracy * experiment.SMOKE["n_test"]
    np.testing.assert_allclose(texts, texts.round(), atol=1e-9)
    assert (accuracy > 0.5).all()


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
    assert attributes["support_threshold"] == 1e-3
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
    with pytest.raises(ForeignFile, match="expected a finished cell, got none yet"):
        open_results(out)
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


def half_store(out, finished):
    """A running store that has the cell of K = 12 from the finished one, and still lacks K = 4."""
    settings = Settings(experiment.NAME, experiment.SMOKE_STATES, experiment.SMOKE_SEEDS, **experiment.SMOKE)
    store = runner.Store(out, settings)
    first, second = settings.cells()
    cell = xr.merge([finished[1][group].to_dataset() for group in (schema.RESULTS, schema.TIMINGS)])
    runner.write_cell(cell.sel(n_states=[first.n_states]), store.cell_path(first))
    assert store.missing() == [second]
    return store


def test_an_executor_takes_the_place_of_processes(finished, tmp_path, no_computing):
    """It gets the missing cells, gives the same numbers, and is left running."""
    out = tmp_path / "half"
    half_store(out, finished)
    reports = []
    with ThreadPoolExecutor(1) as executor:
        tree = smoke(out, executor=executor, progress=lambda done, total: reports.append((done, total)))
        assert executor.submit(abs, -1).result() == 1
    assert reports == [(1, 2), (2, 2)]
    xr.testing.assert_identical(tree[schema.RESULTS].to_dataset(), finished[1][schema.RESULTS].to_dataset())


class _Broken(Executor):
    """Has lost its workers."""

    def submit(self, *_, **__):
        job = Future()
        job.set_exception(BrokenExecutor("its worker is gone"))
        return job


def test_an_executor_is_not_asked_for_a_finished_store(copy, finished, no_computing):
    xr.testing.assert_identical(smoke(copy, executor=_Broken()), finished[1])


def test_an_executor_that_loses_its_workers_keeps_finished_cells(finished, tmp_path, no_computing):
    store = half_store(tmp_path / "half", finished)
    before = snapshot(store.path / "cells")
    with pytest.raises(runner.WorkerLost, match=r"expected to finish its cell.*finished cells are kept"):
        smoke(store.path, executor=_Broken())
    assert snapshot(store.path / "cells") == before
    assert not store.finished


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
    with pytest.raises(OtherConfiguration, match=r"expected support_threshold=0\.1, got support_threshold=0\.001"):
        smoke(copy, support_threshold=0.1)
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
        ((0,), 2, {}, "states: expected an integer of at least 2, got 0"),
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
