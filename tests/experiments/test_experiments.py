"""The experiments: the same numbers from any number of processes, its schema, and what its directory accepts."""

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
from ppl_hmm.experiments.engine import runner
from ppl_hmm.experiments.engine.store import OtherConfiguration, open_results
from ppl_hmm.experiments.figure3.configurations import HeadVsPrompt, MemoryVsVanilla
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.recoverability.prompt import prompt_certificate
from ppl_hmm.regimes import random_hmm

EXPERIMENTS = [HeadVsPrompt, MemoryVsVanilla]
ON_MASKS = {2: "head-2-masks", 3: "head-3-masks", 4: "head-4-masks"}
CONSTRUCTED = {"prompt-theorem": 0.0, "prompt-theorem-threshold": 1e-3}
METHODS = {
    HeadVsPrompt: ["head", "head-log", "prompt", *CONSTRUCTED, *ON_MASKS.values()],
    MemoryVsVanilla: ["attention-softmax", "attention-hard", "attention-theorem", "vanilla-linear"],
}
# Whom the questions are asked, and who answers only where its condition holds.
SEPARABLE = {HeadVsPrompt: ["head", "prompt"], MemoryVsVanilla: ["vanilla-linear"]}
CONDITION = {
    HeadVsPrompt: ["head", *CONSTRUCTED, *ON_MASKS.values()],
    MemoryVsVanilla: ["attention-theorem", "vanilla-linear"],
}
CERTIFIED = {HeadVsPrompt: list(CONSTRUCTED), MemoryVsVanilla: ["attention-theorem"]}


def function_of(experiment):
    """The public function, which has the experiment's name."""
    return getattr(ppl_hmm, experiment.experiment.replace("-", "_"))


def smoke(experiment, out, workers=1, **options):
    states, seeds, sizes = experiment.smoke
    return function_of(experiment)(states, seeds, out, workers=workers, **{**sizes, **options})


def smoke_settings(experiment):
    states, seeds, sizes = experiment.smoke
    return experiment(states, seeds, **sizes)


def snapshot(path):
    """Every file below, with its content and time of change."""
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def smoke_runs(tmp_path_factory):
    """The smoke run of each experiment in one process, made when first asked for: its directory and its tree."""
    made = {}

    def run(experiment):
        if experiment not in made:
            out = tmp_path_factory.mktemp("finished") / experiment.experiment
            made[experiment] = out, smoke(experiment, out)
        return made[experiment]

    return run


@pytest.fixture(params=EXPERIMENTS, ids=[experiment.experiment for experiment in EXPERIMENTS])
def experiment(request):
    return request.param


@pytest.fixture
def finished(experiment, smoke_runs):
    """A directory with the smoke run of one process, and the tree that the call returned."""
    return smoke_runs(experiment)


@pytest.fixture
def head_vs_prompt_results(smoke_runs):
    return smoke_runs(HeadVsPrompt)[1][schema.RESULTS].to_dataset()


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


def test_the_numbers_do_not_depend_on_the_workers(smoke_runs, tmp_path):
    """The right panel; two workers compute the left one, stopped and continued, in test_resume."""
    tree, other = smoke_runs(MemoryVsVanilla)[1], smoke(MemoryVsVanilla, tmp_path / "two", workers=2)
    assert list(tree.children) == list(other.children)
    for group in (schema.RESULTS, schema.PUBLISHED, schema.SETTINGS):
        xr.testing.assert_identical(tree[group].to_dataset(), other[group].to_dataset())


def test_the_condition_is_the_certificate_of_the_same_model(head_vs_prompt_results):
    """At K = 25 > V = 10 rows cannot be independent; at K = 4 they are, for these seeds."""
    condition = head_vs_prompt_results["condition"].sel({"approach": "head"})
    assert condition.sel(n_states=25).values.tolist() == [0, 0]
    assert condition.sel(n_states=4).values.tolist() == [1, 1]
    for seed in (0, 1):
        assert head_certificate(*model_and_task(4, seed)).recoverable


def test_the_smoke_run_shows_the_effect(head_vs_prompt_results):
    accuracy = head_vs_prompt_results["accuracy"].mean("seed")
    few, many = (accuracy.sel(n_states=n_states) for n_states in (4, 25))
    assert few.sel({"approach": "head"}) > 0.99
    assert many.sel({"approach": "head"}) < 0.85
    assert many.sel({"approach": "prompt"}) > 0.95


def model_and_task(n_states, seed):
    """The model and the task of one point of the smoke run, drawn again."""
    model = random_hmm("wei2021", n_states, 10, seed)
    text = ppl_hmm.sample(model, 600, HeadVsPrompt.smoke.sizes["length"], seed).tokens
    return model, ppl_hmm.random_task(model, seed, text[:300])


@pytest.mark.parametrize("method", CONSTRUCTED)
def test_the_condition_of_constructed_prompts_is_their_certificate(method, head_vs_prompt_results):
    condition = head_vs_prompt_results["condition"].sel({"approach": method})
    for n_states in (4, 25):
        for seed in (0, 1):
            found = prompt_certificate(*model_and_task(n_states, seed), support_threshold=CONSTRUCTED[method])
            assert bool(condition.sel(n_states=n_states, seed=seed)) == found.recoverable


def test_constructed_methods_have_an_accuracy_where_their_condition_holds(experiment, finished):
    results = finished[1][schema.RESULTS].to_dataset().sel({"approach": CERTIFIED[experiment]})
    holds = results["condition"] == schema.YES
    assert holds.any()
    assert not holds.all()  # the smoke run shows both
    xr.testing.assert_equal(results["accuracy"].notnull(), holds)


def test_the_theorem_is_right_on_every_decidable_text(head_vs_prompt_results):
    """Theorem P, exactly: only texts whose margin is within rounding can be labelled otherwise."""
    exact = head_vs_prompt_results.sel({"approach": "prompt-theorem"})
    holds = exact["condition"] == schema.YES
    assert holds.any()
    assert (exact["accuracy"] >= 1 - exact["undecidable"] - 1e-12).values[holds.values].all()


def test_where_the_condition_holds_the_training_text_is_separable(head_vs_prompt_results):
    head = head_vs_prompt_results.sel({"approach": "head"})
    holds = head["condition"] == schema.YES
    assert holds.any()
    assert (head["separable"].values[holds.values] == schema.YES).all()


# The schema.


def test_schema_of_results(experiment, finished):
    results = finished[1][schema.RESULTS].to_dataset()
    by_method = ("approach", "n_states", "seed")
    assert {name: (values.dims, str(values.dtype)) for name, values in results.data_vars.items()} == {
        "accuracy": (by_method, "float64"),
        "separable": (by_method, "int8"),
        "condition": (by_method, "int8"),
        "redraws": (by_method, "int16"),
        "undecidable": (("n_states", "seed"), "float64"),
    }
    assert results["approach"].values.tolist() == METHODS[experiment]
    assert results["n_states"].values.tolist() == list(experiment.smoke.states)
    assert results["seed"].values.tolist() == [0, 1]
    for name in ("accuracy", "undecidable"):
        values = results[name].values[results[name].notnull().values]
        assert ((values >= 0) & (values <= 1)).all()
        assert results[name].attrs["units"] == "1"
    assert results["undecidable"].notnull().all()
    for name, asked in (("separable", SEPARABLE[experiment]), ("condition", CONDITION[experiment])):
        assert list(results[name].attrs["flag_values"]) == [-1, 0, 1]
        assert results[name].attrs["flag_meanings"] == "not_asked no yes"
        expected = xr.where(results["approach"].isin(asked), results[name] >= 0, results[name] == -1)
        assert expected.all()
    always = results["accuracy"].sel({"approach": [m for m in METHODS[experiment] if m not in CERTIFIED[experiment]]})
    assert always.notnull().all()
    # Every accuracy is a whole number of the test texts.
    accuracy = results["accuracy"].values[results["accuracy"].notnull().values]
    texts = accuracy * experiment.smoke.sizes["n_test"]
    np.testing.assert_allclose(texts, texts.round(), atol=1e-9)
    assert (accuracy > 0.5).all()


@pytest.mark.parametrize(("experiment", "n_points"), [(HeadVsPrompt, 12), (MemoryVsVanilla, 8)])
def test_published_equals_the_file(experiment, n_points, finished):
    group = finished[1][schema.PUBLISHED].to_dataset()
    text = resources.files("ppl_hmm.reference").joinpath("wei2021_figure3.csv").read_text()
    rows = [row for row in csv.DictReader(text.splitlines()) if row["panel"] == experiment.panel]
    assert group["accuracy"].size == len(rows) == n_points
    assert set(group["approach"].values) <= set(METHODS[experiment])
    assert group["n_states"].values.tolist() == list(experiment.figure.states)
    for row in rows:
        point = group.sel({"approach": row["method"], "n_states": int(row["n_states"])})
        assert float(point["accuracy"]) == float(row["accuracy_percent"]) / 100
        assert float(point["half_width"]) == float(row["half_width_percent"]) / 100
    assert "2106.09226" in group.attrs["source"]


def test_settings(experiment, finished):
    """All that determines the numbers, and no option of the other experiment."""
    common = {"n_seeds": 2, "vocabulary_size": 10, "threads": 1, **experiment.smoke.sizes}
    own = {HeadVsPrompt: {"prompt_length": 1, "restarts": 2, "support_threshold": 1e-3}, MemoryVsVanilla: {}}
    expected = {
        "experiment": experiment.experiment,
        "states": list(experiment.smoke.states),
        **common,
        **own[experiment],
    }
    assert finished[1][schema.SETTINGS].attrs == expected
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


def test_a_second_call_recomputes_nothing(experiment, copy, finished, no_computing):
    before = snapshot(copy / "results.zarr")
    xr.testing.assert_identical(smoke(experiment, copy, workers=2), finished[1])
    assert snapshot(copy / "results.zarr") == before
    assert sorted(path.name for path in copy.iterdir()) == ["results.zarr", "settings.json"]


def test_the_order_of_states_is_no_configuration(experiment, copy, finished, no_computing):
    states, seeds, sizes = experiment.smoke
    tree = function_of(experiment)(states[::-1], seeds, copy, **sizes)
    xr.testing.assert_identical(tree, finished[1])


def test_progress_is_reported(experiment, copy, no_computing):
    reports = []
    smoke(experiment, copy, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(2, 2)]


def test_a_running_store_opens_and_continues(experiment, finished, tmp_path, monkeypatch):
    """Half of the cells are there: the others are NaN; the same call computes only them."""
    out, expected = tmp_path / "half", finished[1][schema.RESULTS].to_dataset()
    small, large = experiment.smoke.states
    store = runner.Store(out, smoke_settings(experiment))
    with pytest.raises(ForeignFile, match="expected a finished cell, got none yet"):
        open_results(out)
    fill_first_cell(store, finished)
    results = open_results(out)[schema.RESULTS].to_dataset()
    xr.testing.assert_identical(results.sel(n_states=large), expected.sel(n_states=large))
    assert results["accuracy"].sel(n_states=small).isnull().all()
    assert results["undecidable"].sel(n_states=small).isnull().all()
    assert (results["condition"].sel(n_states=small) == schema.NOT_ASKED).all()
    monkeypatch.setattr(runner, "_pool", ThreadPoolExecutor)  # starting a process takes longer than the work
    reports = []
    tree = smoke(experiment, out, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(1, 2), (2, 2)]
    xr.testing.assert_identical(tree[schema.RESULTS].to_dataset(), expected)


def fill_first_cell(store, finished):
    """Put the longest cell of a finished run, the first of two, into a running store."""
    first, second = store.settings.cells()
    assert first["n_states"] > second["n_states"]
    cell = xr.merge([finished[1][group].to_dataset() for group in (schema.RESULTS, schema.TIMINGS)])
    runner.write_cell(cell.sel(n_states=[first["n_states"]]), store.cell_path(first))
    assert store.missing() == [second]


def test_an_executor_takes_the_place_of_processes(experiment, finished, tmp_path, no_computing):
    """It gets the missing cells, gives the same numbers, and is left running."""
    store = runner.Store(tmp_path / "half", smoke_settings(experiment))
    fill_first_cell(store, finished)
    reports = []
    with ThreadPoolExecutor(1) as executor:
        tree = smoke(experiment, store.path, executor=executor, progress=lambda *done: reports.append(done))
        assert executor.submit(abs, -1).result() == 1
    assert reports == [(1, 2), (2, 2)]
    xr.testing.assert_identical(tree[schema.RESULTS].to_dataset(), finished[1][schema.RESULTS].to_dataset())


class _Broken(Executor):
    """Has lost its workers."""

    def submit(self, *_, **__):
        job = Future()
        job.set_exception(BrokenExecutor("its worker is gone"))
        return job


def test_an_executor_is_not_asked_for_a_finished_store(experiment, copy, finished, no_computing):
    xr.testing.assert_identical(smoke(experiment, copy, executor=_Broken()), finished[1])


def test_an_executor_that_loses_its_workers_keeps_finished_cells(experiment, finished, tmp_path, no_computing):
    store = runner.Store(tmp_path / "half", smoke_settings(experiment))
    fill_first_cell(store, finished)
    before = snapshot(store.path / "cells")
    with pytest.raises(runner.WorkerLost, match=r"expected to finish its cell.*finished cells are kept"):
        smoke(experiment, store.path, executor=_Broken())
    assert snapshot(store.path / "cells") == before
    assert not store.finished


def test_another_configuration_is_refused_and_untouched(experiment, copy, no_computing):
    before, (small, large) = snapshot(copy), experiment.smoke.states
    with pytest.raises(OtherConfiguration) as caught:
        smoke(experiment, copy, n_test=3)
    message = str(caught.value)
    assert "expected n_test=3, got n_test=200" in message
    assert "choose another --out" in message
    expected = rf"expected states=\[{small}, 16\], n_seeds=1, got states=\[{small}, {large}\], n_seeds=2"
    with pytest.raises(OtherConfiguration, match=expected):
        function_of(experiment)((small, 16), 1, copy, **experiment.smoke.sizes)
    assert snapshot(copy) == before


@pytest.mark.parametrize("experiment", [HeadVsPrompt])
def test_other_settings_of_prompts_are_refused(experiment, copy, no_computing):
    for option, expected in (("restarts", "restarts=3, got restarts=2"), ("prompt_length", "prompt_length=3, got")):
        with pytest.raises(OtherConfiguration, match=f"expected {expected}"):
            smoke(experiment, copy, **{option: 3})
    with pytest.raises(OtherConfiguration, match=r"expected support_threshold=0\.1, got support_threshold=0\.001"):
        smoke(experiment, copy, support_threshold=0.1)


def test_the_other_experiment_is_refused_and_untouched(experiment, copy, no_computing):
    (other,) = (candidate for candidate in EXPERIMENTS if candidate is not experiment)
    before = snapshot(copy)
    message = f"expected experiment={other.experiment}, got experiment={experiment.experiment}; choose another --out"
    with pytest.raises(OtherConfiguration, match=message):
        smoke(other, copy)
    assert snapshot(copy) == before


def test_another_version_is_refused_and_untouched(experiment, copy, no_computing):
    configuration = json.loads((copy / "settings.json").read_text())
    (copy / "settings.json").write_text(json.dumps({**configuration, "version": "0.0.0"}))
    before = snapshot(copy)
    with pytest.raises(OtherConfiguration, match=f"expected version {ppl_hmm.__version__}, got version 0.0.0"):
        smoke(experiment, copy)
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
def test_a_foreign_directory_is_refused_and_untouched(name, content, experiment, tmp_path, no_computing):
    (tmp_path / name).write_text(content)
    before = snapshot(tmp_path)
    for call in (lambda: smoke(experiment, tmp_path), lambda: open_results(tmp_path)):
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
        {
            "package": "ppl_hmm",
            "version": "0.1.0",
            "settings": {"experiment": "cold-fusion", "states": [4], "n_seeds": 1},
        },
        {
            "package": "ppl_hmm",
            "version": "0.1.0",
            "settings": {"experiment": "memory-vs-vanilla", "states": [8], "n_seeds": 1, "restarts": 2},
        },
    ],
)
def test_a_damaged_settings_file_is_foreign(settings, experiment, tmp_path, no_computing):
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    for call in (lambda: open_results(tmp_path), lambda: smoke(experiment, tmp_path)):
        with pytest.raises((ForeignFile, OtherConfiguration)):
            call()


def test_places_that_cannot_be_used(experiment, tmp_path, no_computing):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ForeignFile):
            smoke(experiment, out)
        with pytest.raises(ForeignFile):
            open_results(out)
    with pytest.raises(ForeignFile, match="expected an experiment of this package"):
        open_results(tmp_path / "absent")
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "absent").exists()


COMMON_SLIPS = [
    ((), 2, {}, "states: expected at least one value, got none"),
    ((0,), 2, {}, "states: expected an integer of at least {smallest}, got 0"),
    ((8, 8), 2, {}, r"states: expected different values, got \(8, 8\); drop the repetition"),
    ((8,), 0, {}, "seeds: expected an integer of at least 1, got 0"),
    ((8,), 2, {"workers": 0}, "workers: expected an integer of at least 1, got 0"),
    ((8,), 2, {"length": 0}, "length: expected an integer of at least 1, got 0"),
    ((8,), 2, {"n_test": 2.5}, "n_test: expected an integer of at least 1, got 2.5"),
    ((4.5,), 2, {}, "states: expected an integer"),
]
SLIPS = {
    HeadVsPrompt: [
        *COMMON_SLIPS,
        ((1,), 2, {}, "states: expected an integer of at least 2, got 1"),
        ((4,), 2, {"restarts": 0}, "restarts: expected an integer of at least 1, got 0"),
        ((4,), 2, {"support_threshold": -1}, "support_threshold: expected a non-negative number, got -1"),
    ],
    MemoryVsVanilla: [
        *COMMON_SLIPS,
        ((4,), 2, {}, "states: expected an integer of at least 8, got 4; pass a larger number"),
        ((8, 10), 2, {}, "states: expected multiples of 4, got 10; pass 8 or 12"),
    ],
}


@pytest.mark.parametrize(
    ("experiment", "states", "seeds", "options", "message"),
    [(experiment, *slip) for experiment, slips in SLIPS.items() for slip in slips],
)
def test_bad_sizes_leave_nothing_behind(experiment, states, seeds, options, message, tmp_path, no_computing):
    with pytest.raises(InvalidInput, match=message.format(smallest=experiment.smallest)):
        function_of(experiment)(states, seeds, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_option_of_the_other_experiment_is_refused(tmp_path):
    with pytest.raises(TypeError, match="restarts"):
        ppl_hmm.memory_vs_vanilla((8,), 1, tmp_path / "out", restarts=2)
    assert not (tmp_path / "out").exists()


def test_seeds_fall_into_fixed_blocks(experiment):
    cells = list(experiment((8, 12), 12).cells())
    assert [(cell["n_states"], cell.seeds) for cell in cells] == [
        (n_states, seeds) for n_states in (12, 8) for seeds in ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (10, 11))
    ]
    assert len({cell.name for cell in cells}) == 6
