"""``ppl-hmm audit``: files of plain xarray in, a verdict out; what is wrong is named in one line, exit status 2."""

import json
import re
import subprocess
import sys

import forked
import numpy as np
import pytest
import xarray as xr

import ppl_hmm
from ppl_hmm import cli
from ppl_hmm.audits.figures import catalogue
from ppl_hmm.audits.report import as_json, report

INITIAL = [0.5, 0.3, 0.2]
TRANSITION = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]
EMISSION = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]
WEIGHTS = [[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]
FEW = ("--length", 3, "--sequences", 50)


@pytest.fixture
def call(capsys, monkeypatch):
    """Call ``ppl-hmm audit`` here: (exit status, standard output, standard error)."""
    monkeypatch.setenv("COLUMNS", "80")

    def main(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["audit", *map(str, arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return main


def assert_one_line(result, message):
    status, output, errors = result
    assert (status, output) == (2, "")
    assert errors.startswith("ppl-hmm: ")
    assert errors.count("\n") == 1
    assert message in errors


def model_dataset(initial=INITIAL, transition=TRANSITION, emission=EMISSION):
    """Return a model as anybody would write it, without this package."""
    return xr.Dataset(
        {
            "initial": ("state", initial),
            "transition": (("state", "state_next"), transition),
            "emission": (("state", "token"), emission),
        }
    )


def task_dataset(weights=WEIGHTS, dims=("class", "state"), **more):
    return xr.Dataset({"weights": (dims, weights), **more})


@pytest.fixture
def write(tmp_path):
    """Write a dataset or a tree by plain xarray, in its default format; return the path."""

    def to_file(data, name="model.nc", **options):
        data.to_netcdf(tmp_path / name, **options)
        return tmp_path / name

    return to_file


def audited(task=WEIGHTS, *, length=3, n_sequences=50, **options):
    model = ppl_hmm.HMM(INITIAL, TRANSITION, EMISSION)
    return ppl_hmm.audit(
        model, ppl_hmm.PosteriorTask(task), length=length, n_sequences=n_sequences, **{"seed": 0} | options
    )


# Files that work.


NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*\w)")


def assert_same_report(found, expected):
    """Check that two reports have the same words, and numbers that differ by rounding only."""
    assert NUMBER.sub("#", found) == NUMBER.sub("#", expected)
    pairs = list(zip(NUMBER.findall(found), NUMBER.findall(expected), strict=True))
    counts = [pair for pair in pairs if pair[0].isdigit() and pair[1].isdigit()]
    assert all(one == other for one, other in counts)
    # Printed to two digits or more, the last of which may turn; what is below 1e-9 is rounding.
    np.testing.assert_allclose(*np.array(pairs, float).T, rtol=3e-2, atol=1e-9)


def assert_says(result, expected):
    status, output, errors = result
    assert (status, errors) == (0, "")
    assert_same_report(output, expected)


def as_branch(dataset):
    return xr.DataTree.from_dict({"/model": dataset, "/elsewhere": xr.Dataset({"a": 1})})


FILES = {
    "plain": lambda: (model_dataset(), {}),
    "classic": lambda: (model_dataset(), {"engine": "scipy"}),  # netCDF-3: xarray's own without h5netcdf
    "transposed": lambda: (model_dataset().transpose(), {}),
    "labelled": lambda: (model_dataset().assign_coords(state=["a", "b", "c"], token=["x", "y", "z"]), {}),
    "in-a-group": lambda: (as_branch(model_dataset()), {}),
    "with-more": lambda: (model_dataset().assign(words=("token", ["x", "y", "z"]), comment="mine"), {}),
    "compressed": lambda: (model_dataset(), {"encoding": {"emission": {"zlib": True}}}),
}


@pytest.mark.parametrize("name", FILES)
def test_model_files_of_plain_xarray(name, call, write):
    data, options = FILES[name]()
    model, task = write(data, **options), write(task_dataset(), "task.nc")
    assert_says(call(model, "--task", task, *FEW), report(audited()) + "\n")


def test_classic_files_are_read_as_all_others(write):
    path = write(model_dataset(), engine="scipy")
    assert path.read_bytes().startswith(b"CDF")
    assert ppl_hmm.load(path).identical(ppl_hmm.HMM(INITIAL, TRANSITION, EMISSION))
    task = ppl_hmm.load(write(task_dataset(), "task.nc", engine="scipy"))
    assert task.identical(ppl_hmm.PosteriorTask(WEIGHTS))


def test_single_precision_and_whole_numbers(call, write):
    status, output, _ = call(write(model_dataset().astype("float32")), "--task", write(task_dataset(), "t.nc"), *FEW)
    assert (status, "RECOVERABLE" in output) == (0, True)
    whole = model_dataset(emission=np.eye(3, dtype=int))
    status, output, _ = call(write(whole, "whole.nc"), "--task", write(task_dataset(), "t.nc"), *FEW)
    assert (status, "RECOVERABLE" in output) == (0, True)


def test_a_memory_model_of_plain_xarray(call, write):
    model, task = ppl_hmm.example("memory")
    dims = {
        "memory_prior": ("cell", "memory_value"),
        "initial": ("state",),
        "transition": ("state", "state_next"),
        "cell_of_state": ("state",),
        "emission": ("memory_value", "state", "token"),
    }
    path = write(xr.Dataset({name: (dims[name], getattr(model, name).numpy()) for name in dims}))
    weights = task_dataset(task.weights.numpy(), ("class", "memory_value"), target_cell=0)
    result = call(path, "--task", write(weights, "task.nc"), *FEW)
    expected = report(ppl_hmm.audit(model, task, length=3, n_sequences=50, seed=0))
    assert_says(result, expected + "\n")
    # The example of that name, in place of files.
    assert call("--example", "memory", *FEW) == result


@pytest.mark.parametrize("name", ["aliased", "degenerate"])
def test_examples(name, call):
    expected = ppl_hmm.audit(*ppl_hmm.example(name), length=3, n_sequences=50, seed=0)
    assert_says(call("--example", name, *FEW), report(expected) + "\n")


def test_an_audit_brings_its_model(call, write):
    tree = audited()
    path = write(tree, "audit.nc", engine="h5netcdf")
    assert_says(call(path, "--task", write(task_dataset(), "task.nc"), *FEW), report(tree) + "\n")


# Random tasks, seeds, options.


def test_without_a_task_a_random_one_and_its_seed(call, write):
    path = write(model_dataset())
    model = ppl_hmm.HMM(INITIAL, TRANSITION, EMISSION)
    outputs = {}
    for seed in (0, 7):
        status, outputs[seed], errors = call(path, "--seed", seed, *FEW)
        assert (status, errors) == (0, "")
        # The task divides a thousand sampled texts of this seed.
        task = ppl_hmm.random_task(model, seed, ppl_hmm.sample(model, 1000, 3, seed).tokens)
        expected = report(audited(task.weights, seed=seed))
        assert_same_report(outputs[seed], expected.replace("\ntexts:", f"\ntask: random, seed {seed}\ntexts:") + "\n")
    assert call(path, *FEW)[1] == outputs[0] != outputs[7]
    assert "\ntask:" not in call(path, "--task", write(task_dataset(), "task.nc"), *FEW)[1]


def test_options_are_those_of_the_function(call, write):
    files = write(model_dataset()), "--task", write(task_dataset(), "task.nc")
    options = {"length": 9, "n_sequences": 30, "seed": 5, "tolerance": 0.25}
    given = ("--length", 9, "--sequences", 30, "--seed", 5, "--tolerance", 0.25)
    assert_says(call(*files, *given), report(audited(**options)) + "\n")
    assert "residuals up to 0.25 count as solved" in call(*files, *given, "--verbose")[1]
    status, output, _ = call(*files, "--sequences", 20)
    assert (status, "\ntexts: 20 sampled texts of 80 tokens\n" in output) == (0, True)


# JSON.


@pytest.mark.parametrize("name", ["aliased", "memory"])
def test_json_is_alone_on_standard_output(name, call):
    status, output, errors = call("--example", name, "--json", *FEW)
    assert (status, errors) == (0, "")
    tree = ppl_hmm.audit(*ppl_hmm.example(name), length=3, n_sequences=50, seed=0)
    found = json.loads(output, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert found == as_json(tree)
    assert call("--example", name, "--json", *FEW)[1] == output
    assert call("--example", name, "--json", "--seed", 1, *FEW)[1] != output


def test_json_of_a_random_task_says_so(call, write):
    found = json.loads(call(write(model_dataset()), "--json", "--seed", 3, *FEW)[1])
    assert (found["task"], found["seed"]) == ("random, seed 3", 3)


def test_in_a_process_of_its_own(write):
    """As a user starts it, and again where all is imported: the same bytes, nothing on standard error."""
    code, arguments = "from ppl_hmm.cli import main; main()", ["audit", write(model_dataset()), "--json", *FEW]
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    runs = [subprocess.run(command, capture_output=True, text=True, timeout=120), forked.run(code, *arguments)]
    assert [(run.returncode, run.stderr) for run in runs] == [(0, ""), (0, "")], runs[0].stderr
    assert runs[0].stdout == runs[1].stdout
    assert json.loads(runs[0].stdout)["answers"][0]["question"] == "head"


# Files of the audit.


@pytest.mark.parametrize(("options", "name"), [((), "report.txt"), (("--json",), "report.json")])
def test_files_only_with_out(options, name, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if options:  # the figures are the same, and drawing takes longer than the rest
        monkeypatch.setattr(catalogue, "available", lambda _: ())
    status, bare, _ = call("--example", "aliased", *options, *FEW)
    assert status == 0
    assert not list(tmp_path.iterdir())
    out = tmp_path / "deep" / "out"
    status, output, errors = call("--example", "aliased", *options, *FEW, "--out", out)
    assert (status, errors) == (0, "")
    assert output == (bare if options else f"{bare}\nresults: {out}\n")
    assert (out / name).read_text(encoding="utf-8") == bare
    files = {path.name for path in out.iterdir()}
    figures = {path.stem for path in out.iterdir() if path.suffix == ".png"}
    assert len(figures) >= (0 if options else 4)
    assert files == {name, "audit.nc", *(f"{figure}{suffix}" for figure in figures for suffix in (".png", ".svg"))}
    with xr.open_datatree(out / "audit.nc", engine="h5netcdf") as file:
        assert_same_report(file.load().ppl_hmm.report(), report(audit_of_example()))
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def audit_of_example():
    return ppl_hmm.audit(*ppl_hmm.example("aliased"), length=3, n_sequences=50, seed=0)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_out_replaces_nothing_and_nothing_is_computed(kind, call, tmp_path, monkeypatch):
    monkeypatch.setattr(ppl_hmm, "audit", None, raising=False)
    out = tmp_path / "mine"
    out.write_text("mine") if kind == "file" else out.mkdir()
    assert_one_line(
        call("--example", "aliased", "--out", out), f"--out {out}: expected a new directory, got one that exists"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert kind == "directory" or out.read_text() == "mine"


def test_out_where_nothing_can_be_written(call, tmp_path):
    (tmp_path / "mine").write_text("mine")
    status, _, errors = call("--example", "aliased", *FEW, "--out", tmp_path / "mine" / "out")
    assert status == 2
    assert "expected a place that can be written" in errors
    assert errors.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# What is wrong.


def changed(row, column, value):
    emission = np.array(EMISSION)
    emission[row, column] = value
    return model_dataset(emission=emission)


BAD_MODELS = {
    "wrong-group": (lambda: xr.DataTree.from_dict({"/hmm": model_dataset()}), "groups /hmm"),
    "missing-variable": (lambda: model_dataset().rename(emission="B"), "got B, initial, transition"),
    "nothing": (xr.Dataset, "got none"),
    "wrong-dimension": (
        lambda: model_dataset().rename(token="symbol"),
        "dimension 'token' of variable 'emission': expected dimensions ('state', 'token'), got dimensions ('state', "
        "'symbol')",
    ),
    "nan": (lambda: changed(1, 2, np.nan), "emission[1, 2]: expected a finite number, got nan"),
    "infinite": (lambda: changed(0, 0, np.inf), "emission[0, 0]: expected a finite number, got inf"),
    "negative": (lambda: changed(2, 1, -0.2), "emission[2, 1]: expected a non-negative probability, got -0.2"),
    "not-stochastic": (
        lambda: changed(1, 1, 0.9),
        "emission row 1 is not a distribution: expected entries that sum to 1, got a sum of 1.1",
    ),
    "initial-not-stochastic": (lambda: model_dataset(initial=[0.5, 0.5, 0.5]), "initial is not a distribution"),
    "transition-not-stochastic": (
        lambda: model_dataset(transition=np.transpose(TRANSITION)),
        "transition row 1 is not a distribution",
    ),
    "sizes": (lambda: model_dataset().isel(state=[0, 1]), "sizes of HMM"),
    "batch": (lambda: model_dataset().expand_dims(batch=2), "expected a single HMM, got batch dimensions (2,)"),
    "words": (lambda: model_dataset(initial=["a", "b", "c"]), "initial: expected"),
    "task": (task_dataset, "expected a model, got PosteriorTask; pass a file of an HMM or MemoryHMM"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_models(name, call, write, tmp_path):
    make, message = BAD_MODELS[name]
    assert_one_line(call(write(make()), *FEW), message)
    assert [path.name for path in tmp_path.iterdir()] == ["model.nc"]


BAD_TASKS = {
    "states": (
        lambda: task_dataset(np.eye(2, 4)),
        "expected one PosteriorTask on 3 states, got PosteriorTask with weights (2, 4)",
    ),
    "kind": (
        lambda: task_dataset(np.eye(2, 3), ("class", "memory_value"), target_cell=0),
        "task: expected one PosteriorTask on 3 states, got MemoryTask with weights (2, 3) of cell 0",
    ),
    "dimension": (lambda: task_dataset(dims=("klass", "state")), "dimension 'class' of variable 'weights'"),
    "one-class": (lambda: task_dataset(np.ones((1, 3))), "with at least two classes, got shape (1, 3)"),
    "nan": (lambda: task_dataset([[0, np.nan, 0], [1, 0, 0]]), "weights[0, 1]: expected a finite number, got nan"),
    "batch": (lambda: task_dataset().expand_dims(batch=2), "task: expected one PosteriorTask on 3 states"),
    "model": (model_dataset, "expected a task, got HMM; pass a file of a PosteriorTask or MemoryTask"),
}


@pytest.mark.parametrize("name", BAD_TASKS)
def test_bad_tasks(name, call, write):
    make, message = BAD_TASKS[name]
    assert_one_line(call(write(model_dataset()), "--task", write(make(), "task.nc"), *FEW), message)


@pytest.mark.parametrize("option", [(), ("--task",)])
def test_files_that_cannot_be_read(option, call, write, tmp_path):
    model = write(model_dataset())
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / "empty.nc").touch()
    (tmp_path / "half.nc").write_bytes(model.read_bytes()[:200])
    (tmp_path / "classic.nc").write_bytes(b"CDF\x01and no more")
    for name in ("absent.nc", "thesis.tex", "empty.nc", "half.nc", "classic.nc", "."):
        path = tmp_path / name
        arguments = (model, *option, path) if option else (path,)
        assert_one_line(call(*arguments, *FEW), f"file {path}: expected a netCDF file, got ")


def test_one_state_has_no_balanced_task(call, write):
    path = write(model_dataset([1.0], [[1.0]], [[0.5, 0.25, 0.25]]))
    certain = "the silent state H₀ given the text: expected more than one possible state, got state 0 only"
    assert_one_line(call(path, *FEW), f"random_task: {certain}")
    assert_one_line(call(path, "--task", write(task_dataset([[0.0], [1.0]]), "task.nc"), *FEW), f"audit: {certain}")


BAD_USAGE = {
    (): "ppl-hmm audit: expected a model file or --example, got neither; give one",
    ("model.nc", "--example", "aliased"): "ppl-hmm audit: expected a model file or --example, got both; give one",
    ("--example", "aliased", "--task", "task.nc"): "expected --task or --example, got both; an example brings its task",
    ("--example", "nope"): "unknown example: expected one of aliased, degenerate, memory, got 'nope'",
    ("--example", "aliased", "--length", "0"): "length: expected an integer of at least 1, got 0",
    ("--example", "aliased", "--length", "-3"): "length: expected an integer of at least 1, got -3",
    ("--example", "aliased", "--length", "4.5"): "Invalid value for '--length'",
    ("--example", "aliased", "--length", "many"): "Invalid value for '--length'",
    ("--example", "aliased", "--sequences", "0"): "n_sequences: expected an integer of at least 1, got 0",
    ("--example", "aliased", "--seed", "-1"): "seed: expected a non-negative integer",
    ("--example", "aliased", "--tolerance", "-1"): "tolerance: expected a non-negative number, got -1.0",
    ("--example", "aliased", "--tolerance", "nan"): "tolerance: expected a non-negative number, got nan",
    ("--example", "aliased", "--nope"): "No such option: --nope",
    ("model.nc", "task.nc"): "unexpected extra argument",
}


@pytest.mark.parametrize(
    ("arguments", "message"), BAD_USAGE.items(), ids=[" ".join(each) or "none" for each in BAD_USAGE]
)
def test_bad_usage(arguments, message, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_one_line(call(*arguments), message)
    assert_one_line(call(*arguments, "--json"), message)
    assert not list(tmp_path.iterdir())


def test_bad_length_for_a_random_task(call, write):
    assert_one_line(call(write(model_dataset()), "--length", 0), "length: expected an integer of at least 1, got 0")
