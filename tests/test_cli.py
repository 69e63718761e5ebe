"""The command line: results, figure and table; bad usage is one line and exit status 2."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import ppl_hmm
from ppl_hmm import cli
from ppl_hmm.experiments import head_vs_prompt as experiment
from ppl_hmm.experiments import runner
from ppl_hmm.experiments.grid import Settings
from ppl_hmm.experiments.store import open_results

COMMAND = ["reproduce", "head-vs-prompt"]
FIGURES = ["head-vs-prompt.png", "head-vs-prompt.svg"]
CONSTRUCTED = ["prompt-theorem", "prompt-theorem-threshold"]


def snapshot(path):
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in sorted(path.rglob("*")) if file.is_file()}


def run(arguments, before="", **options):
    return subprocess.run(
        [sys.executable, "-c", f"{before}\nfrom ppl_hmm.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A run from start to end, as a user starts it: its directory and the finished process."""
    out = tmp_path_factory.mktemp("cli") / "results" / "smoke"
    return out, run([*COMMAND, "--smoke", "--workers", "1", "--out", out])


@pytest.fixture
def copy(smoke, tmp_path):
    return Path(shutil.copytree(smoke[0], tmp_path / "copy"))


@pytest.fixture
def no_computing(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("computed something")

    monkeypatch.setattr(runner, "_pool", refuse)


@pytest.fixture
def call(capsys):
    """Call the command line here: (exit status, standard output, standard error)."""

    def main(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return main


def rows_of(text):
    """The rows of the two tables by their number of states: accuracies, then shares."""
    rows = [line.split() for line in text.splitlines()]
    rows = [row for row in rows if row and row[0].isdigit()]
    assert [row[0] for row in rows] == ["4", "12", "4", "12"]
    return [{row[0]: row[1:] for row in part} for part in (rows[:2], rows[2:])]


def assert_table(text):
    for word in ("head", "prompt", "paper", "built", "separable", "Theorem H", "Theorem P", "δ = 0.001", "undecided"):
        assert word in text
    accuracies, shares = rows_of(text)
    assert accuracies["4"][1] == "94.0"  # the paper's head at K = 4
    assert [len(row) for row in (*accuracies.values(), *shares.values())] == [7, 7, 6, 6]


def test_smoke_run(smoke):
    out, process = smoke
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "head-vs-prompt.png",
        "head-vs-prompt.svg",
        "results.zarr",
        "settings.json",
    ]
    assert (out / "head-vs-prompt.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    svg = (out / "head-vs-prompt.svg").read_text()
    assert "<svg" in svg
    assert "</svg>" in svg
    assert_table(process.stdout)
    assert str(out / "head-vs-prompt.svg") in process.stdout
    results = open_results(out)
    assert results["results/accuracy"].sizes == {"method": 5, "n_states": 2, "seed": 2}
    constructed = results["results/accuracy"]["method"].isin(CONSTRUCTED)
    offered = ~constructed | (results["results/condition"] == 1)
    xr.testing.assert_equal(results["results/accuracy"].notnull(), offered)
    assert {name: results["settings"].attrs[name] for name in experiment.SMOKE} == experiment.SMOKE


def test_the_same_command_again_computes_nothing(copy, call, smoke, no_computing):
    before = snapshot(copy / "results.zarr")
    status, output, _ = call(*COMMAND, "--smoke", "--out", copy)
    assert status == 0
    assert_table(output)
    assert snapshot(copy / "results.zarr") == before
    xr.testing.assert_identical(open_results(copy), open_results(smoke[0]))


def test_the_figure_is_the_same_file_each_time(copy, call, smoke, no_computing):
    (copy / "head-vs-prompt.svg").unlink()
    call(*COMMAND, "--smoke", "--out", copy)
    assert (copy / "head-vs-prompt.svg").read_bytes() == (smoke[0] / "head-vs-prompt.svg").read_bytes()


def test_version(call):
    assert call("--version") == (0, f"ppl-hmm {ppl_hmm.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--help",),
        ("reproduce",),
        ("reproduce", "--help"),
        (*COMMAND, "--help"),
        ("show", "--help"),
        ("sample", "--help"),
    ],
)
def test_help(arguments, call):
    status, output, errors = call(*arguments)
    assert status == 0
    assert "Usage:" in output
    assert errors == ""


BAD = {
    ("--states", "0"): "states: expected an integer of at least 2, got 0; pass a larger number",
    ("--states", "-4"): "states: expected an integer of at least 2, got -4; pass a larger number",
    ("--states", "a,b"): "--states: expected whole numbers separated by commas, got 'a,b'; write e.g. 8,25",
    ("--states", ""): "--states: expected whole numbers separated by commas, got ''; write e.g. 8,25",
    ("--states", "4.5"): "--states: expected whole numbers separated by commas, got '4.5'; write e.g. 8,25",
    ("--states", "4,4"): "states: expected different sizes, got (4, 4); drop the repetition",
    ("--seeds", "0"): "seeds: expected an integer of at least 1, got 0; pass a larger number",
    ("--seeds", "x"): "Invalid value for '--seeds'",
    ("--workers", "0"): "workers: expected an integer of at least 1, got 0; pass a larger number",
    ("--workers", "two"): "Invalid value for '--workers'",
    ("--nope",): "No such option: --nope",
    ("extra",): "unexpected extra argument",
    ("--out",): "requires an argument",
}


@pytest.mark.parametrize(("arguments", "message"), BAD.items(), ids=[" ".join(arguments) for arguments in BAD])
def test_bad_usage(arguments, message, call, tmp_path, no_computing):
    out = [] if "--out" in arguments else ["--out", tmp_path / "out"]
    status, output, errors = call(*COMMAND, "--smoke", *out, *arguments)
    assert_one_line(status, output, errors, message)
    assert not (tmp_path / "out").exists()  # a slip must not bind the directory to settings


def assert_one_line(status, output, errors, message):
    assert status == 2
    assert output == ""
    assert errors.startswith("ppl-hmm: ")
    assert errors.endswith("\n")
    assert len(errors.splitlines()) == 1
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("arguments", [("reproduc",), ("reproduce", "figure-4"), ("--colour",)])
def test_unknown_commands(arguments, call):
    assert_one_line(*call(*arguments), "No such")


def test_bad_usage_in_a_process_of_its_own(tmp_path):
    process = run([*COMMAND, "--states", "a,b"], cwd=tmp_path)
    assert_one_line(process.returncode, process.stdout, process.stderr, "write e.g. 8,25")
    assert not list(tmp_path.iterdir())


def test_a_foreign_directory(call, tmp_path, no_computing):
    (tmp_path / "thesis.tex").write_text("mine")
    before = snapshot(tmp_path)
    result = call(*COMMAND, "--smoke", "--out", tmp_path)
    assert_one_line(*result, "expected an experiment of this package, got no readable settings.json")
    assert snapshot(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_is_no_directory(call, tmp_path, no_computing):
    (tmp_path / "file").write_text("mine")
    assert_one_line(*call(*COMMAND, "--smoke", "--out", tmp_path / "file"), "choose a new or an empty directory")
    assert_one_line(*call(*COMMAND, "--smoke", "--out", tmp_path / "file" / "below"), "choose another --out")
    assert (tmp_path / "file").read_text() == "mine"


def test_another_configuration(call, copy, no_computing):
    before = snapshot(copy)
    result = call(*COMMAND, "--smoke", "--seeds", "3", "--out", copy)
    assert_one_line(*result, "expected n_seeds=3, got n_seeds=2; choose another --out")
    assert snapshot(copy) == before


def test_one_state_has_no_task(call, tmp_path):
    """K = 1: the posterior is constant. Said before anything is written."""
    result = call(*COMMAND, "--smoke", "--states", "1", "--seeds", "1", "--out", tmp_path / "out")
    assert_one_line(*result, "states: expected an integer of at least 2, got 1")
    assert not list(tmp_path.iterdir())


def test_an_interruption_says_how_to_go_on(call, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_pool", interrupt)
    status, output, errors = call(*COMMAND, "--smoke", "--out", tmp_path / "out")
    assert status == 130
    assert output == ""
    assert errors.splitlines()[-1] == "ppl-hmm: interrupted; the same command goes on where this one stopped"


# Another place to compute.


def test_a_scheduler_that_does_not_answer(tmp_path):
    """In a process of its own: Dask writes to the log as it likes. One second of patience in place of ten."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # taken, but nobody listens
        address = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        process = run(
            [*COMMAND, "--smoke", "--out", tmp_path / "out", "--scheduler", address],
            before="from ppl_hmm.experiments import cluster; cluster._SECONDS_TO_CONNECT = 1",
        )
    message = f"scheduler {address!r}: expected a running Dask scheduler, got "
    assert_one_line(process.returncode, process.stdout, process.stderr, message)
    assert process.stderr.endswith("; check the address\n")
    assert not list(tmp_path.iterdir())


# Show.


def test_show_a_finished_experiment(copy, call, smoke, no_computing):
    """The same words and the same figures as from the run itself; the results are untouched."""
    for name in FIGURES:
        (copy / name).unlink()
    before = snapshot(copy)
    status, output, errors = call("show", copy)
    assert (status, errors) == (0, "")
    assert output == smoke[1].stdout.replace(str(smoke[0]), str(copy))
    for name in FIGURES:
        assert (copy / name).read_bytes() == (smoke[0] / name).read_bytes()
        (copy / name).unlink()
    assert snapshot(copy) == before


def test_show_a_running_experiment(call, smoke, tmp_path, monkeypatch):
    """What is there is shown, the rest is a dash; the run then goes on as if nobody had looked."""
    finished = open_results(smoke[0])
    settings = Settings(experiment.NAME, experiment.SMOKE_STATES, experiment.SMOKE_SEEDS, **experiment.SMOKE)
    store = runner.Store(tmp_path / "half", settings)
    first, second = settings.cells()
    assert (first.n_states, second.n_states) == (12, 4)
    cell = xr.merge([finished[group].to_dataset() for group in ("results", "timings")])
    runner.write_cell(cell.sel(n_states=[12]), store.cell_path(first))
    before = snapshot(store.path)
    with monkeypatch.context() as patched:
        patched.setattr(runner, "_compute_and_store", None)
        status, output, errors = call("show", store.path)
    assert (status, errors) == (0, "")
    complete, partial = rows_of(smoke[1].stdout), rows_of(output)
    for all_rows, rows in zip(complete, partial, strict=True):
        assert rows["12"] == all_rows["12"]
    published = [complete[0]["4"][column] for column in (1, 4)]
    assert partial[0]["4"] == ["–", published[0], "–", "–", published[1], "–", "–"]
    assert partial[1]["4"] == 6 * ["–"]
    for name in FIGURES:
        assert str(store.path / name) in output
        assert (store.path / name).stat().st_size > 1000
    assert store.missing() == [second]
    after = snapshot(store.path)
    assert {file: after[file] for file in before} == before
    assert {file.name for file in set(after) - set(before)} == set(FIGURES)
    assert call(*COMMAND, "--smoke", "--workers", 1, "--out", store.path)[:2] == (
        0,
        smoke[1].stdout.replace(str(smoke[0]), str(store.path)),
    )
    xr.testing.assert_identical(open_results(store.path)["results"].to_dataset(), finished["results"].to_dataset())


@pytest.mark.parametrize("name", ["", "thesis.tex", "absent"])
def test_show_something_else(name, call, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    before = snapshot(tmp_path)
    assert_one_line(*call("show", tmp_path / name), "expected an experiment of this package")
    assert snapshot(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_show_needs_a_directory(call):
    assert_one_line(*call("show"), "Missing argument")


def test_show_an_experiment_without_results_yet(call, tmp_path):
    runner.Store(tmp_path / "out", Settings("head-vs-prompt", (4,), 1))
    before = snapshot(tmp_path)
    assert_one_line(*call("show", tmp_path / "out"), "expected a finished cell, got none yet")
    assert snapshot(tmp_path) == before


# Sample.


def opened(path):
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        return tree.load()


def assert_sample(path, model, n_sequences, length, seed):
    """The file holds exactly this model and what the library draws from it."""
    tree = opened(path)
    assert set(tree.children) == {"model", "observed_data", "latent"}
    assert {name: tree.attrs[name] for name in ("package", "version", "seed")} == {
        "package": "ppl_hmm",
        "version": ppl_hmm.__version__,
        "seed": seed,
    }
    dims = {
        group: {str(name): values.dims for name, values in tree[group].data_vars.items()} for group in tree.children
    }
    assert dims == {
        "model": {"initial": ("state",), "transition": ("state", "state_next"), "emission": ("state", "token")},
        "observed_data": {"tokens": ("sequence", "position")},
        "latent": {"states": ("sequence", "position"), "initial_state": ("sequence",)},
    }
    tokens = tree["observed_data/tokens"]
    assert tokens.sizes == {"sequence": n_sequences, "position": length}
    drawn = ppl_hmm.sample(model, n_sequences, length, seed)
    np.testing.assert_array_equal(tokens, drawn.tokens)
    np.testing.assert_array_equal(tree["latent/states"], drawn.states)
    np.testing.assert_array_equal(tree["latent/initial_state"], drawn.initial_state)
    stored = ppl_hmm.HMM.from_dataset(tree["model"].to_dataset())
    for name in ("initial", "transition", "emission"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(model, name))


@pytest.mark.parametrize("regime", ["wei2021", "dirichlet", "degenerate"])
def test_sample_a_regime(regime, call, tmp_path):
    out = tmp_path / "text.nc"
    sizes = ("--states", 3, "--vocabulary", 5, "--sequences", 7, "--length", 4, "--seed", 2)
    status, output, errors = call("sample", "--regime", regime, *sizes, "--out", out)
    assert (status, output, errors) == (0, f"7 texts of 4 tokens: {out}\n", "")
    assert_sample(out, ppl_hmm.random_hmm(regime, 3, 5, 2), 7, 4, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["text.nc"]


def test_sample_by_default(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("sample", "--regime", "wei2021") == (0, "1000 texts of 80 tokens: sample.nc\n", "")
    assert_sample(tmp_path / "sample.nc", ppl_hmm.random_hmm("wei2021", 8, 10, 0), 1000, 80, 0)


@pytest.fixture
def model_file(tmp_path):
    model = ppl_hmm.random_hmm("dirichlet", 3, 4, 1)
    ppl_hmm.save(model, tmp_path / "model.nc")
    return tmp_path / "model.nc", model


def test_sample_a_model_file(call, model_file, tmp_path):
    path, model = model_file
    before, out = path.read_bytes(), tmp_path / "text.nc"
    status, output, errors = call("sample", path, "--sequences", 5, "--length", 6, "--seed", 3, "--out", out)
    assert (status, output, errors) == (0, f"5 texts of 6 tokens: {out}\n", "")
    assert_sample(out, model, 5, 6, 3)
    assert path.read_bytes() == before


def test_same_seed_same_sample(call, tmp_path):
    for name, seed in (("first", 4), ("again", 4), ("other", 5)):
        out = tmp_path / f"{name}.nc"
        assert call("sample", "--regime", "wei2021", "--sequences", 9, "--seed", seed, "--out", out)[0] == 0
    first, again, other = (opened(tmp_path / f"{name}.nc") for name in ("first", "again", "other"))
    xr.testing.assert_identical(first, again)
    assert (tmp_path / "first.nc").read_bytes() == (tmp_path / "again.nc").read_bytes()
    assert not first["observed_data"].equals(other["observed_data"])


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_sample_replaces_nothing(kind, call, tmp_path):
    out = tmp_path / "mine.nc"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
    before = snapshot(tmp_path)
    result = call("sample", "--regime", "wei2021", "--sequences", 2, "--out", out)
    assert_one_line(*result, f"file {out}: expected a new file, got one that exists")
    assert snapshot(tmp_path) == before


def test_sample_where_nothing_can_be_written(call, tmp_path):
    result = call("sample", "--regime", "wei2021", "--sequences", 2, "--out", tmp_path / "no" / "place.nc")
    assert_one_line(*result, "expected a place that can be written")
    assert not list(tmp_path.iterdir())


def test_sample_needs_one_source(call, model_file, tmp_path):
    before = snapshot(tmp_path)
    out = ("--out", tmp_path / "text.nc")
    assert_one_line(*call("sample", *out), "expected a model file or --regime, got neither; give one")
    result = call("sample", model_file[0], "--regime", "wei2021", *out)
    assert_one_line(*result, "expected a model file or --regime, got both; give one")
    assert snapshot(tmp_path) == before


def test_a_sample_brings_its_model(call, model_file, tmp_path):
    call("sample", model_file[0], "--sequences", 2, "--out", tmp_path / "sample.nc")
    assert ppl_hmm.load(tmp_path / "sample.nc").identical(model_file[1])
    status, *_ = call("sample", tmp_path / "sample.nc", "--sequences", 2, "--out", tmp_path / "again.nc")
    assert status == 0


def test_sample_what_is_no_model(call, model_file, tmp_path):
    model = model_file[1]
    ppl_hmm.save(ppl_hmm.random_task(model, 0), tmp_path / "task.nc")
    ppl_hmm.save(ppl_hmm.HMM.stack([model, model]), tmp_path / "batch.nc")
    (tmp_path / "thesis.tex").write_text("mine")
    before = snapshot(tmp_path)
    for name, message in {
        "task.nc": "expected a model, got PosteriorTask; pass a file of an HMM",
        "batch.nc": "expected a single HMM, got batch dimensions (2,)",
        "thesis.tex": "expected a netCDF file",
        "absent.nc": "expected a netCDF file",
    }.items():
        assert_one_line(*call("sample", tmp_path / name, "--sequences", 2, "--out", tmp_path / "text.nc"), message)
    assert snapshot(tmp_path) == before


BAD_SAMPLE = {
    ("--states", "0"): "n_states: expected an integer of at least 1, got 0; pass a larger number",
    ("--vocabulary", "0"): "vocabulary_size: expected an integer of at least 1, got 0; pass a larger number",
    ("--sequences", "0"): "n_sequences: expected an integer of at least 1, got 0; pass a larger number",
    ("--sequences", "-3"): "n_sequences: expected an integer of at least 1, got -3; pass a larger number",
    ("--length", "0"): "length: expected an integer of at least 1, got 0; pass a larger number",
    ("--length", "4.5"): "Invalid value for '--length'",
    ("--sequences", "many"): "Invalid value for '--sequences'",
    ("--seed", "-1"): "seed: expected a non-negative integer",
    ("--regime", "nope"): "unknown regime: expected one of degenerate, dirichlet, wei2021, got 'nope'",
    ("model.nc", "extra"): "unexpected extra argument",
    ("--nope",): "No such option: --nope",
}


@pytest.mark.parametrize(
    ("arguments", "message"), BAD_SAMPLE.items(), ids=[" ".join(arguments) for arguments in BAD_SAMPLE]
)
def test_bad_sample(arguments, message, call, tmp_path):
    regime = [] if "--regime" in arguments else ["--regime", "wei2021"]
    assert_one_line(*call("sample", *regime, "--out", tmp_path / "text.nc", *arguments), message)
    assert not list(tmp_path.iterdir())
