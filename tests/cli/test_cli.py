"""The command line: results, figure and table; bad usage is one line and exit status 2."""

import shutil
import socket
from pathlib import Path

import forked
import numpy as np
import pytest
import xarray as xr

import ppl_hmm
from ppl_hmm import cli
from ppl_hmm.experiments.engine import runner
from ppl_hmm.experiments.engine.store import open_results
from ppl_hmm.experiments.figure3.configurations import HeadVsPrompt, MemoryVsVanilla

EXPERIMENTS = [HeadVsPrompt, MemoryVsVanilla]
#: Methods that answer only where their condition holds.
CONSTRUCTED = ["prompt-theorem", "prompt-theorem-threshold", "attention-theorem"]
#: Words of the tables, the paper's numbers at the smallest size by column, and how many columns each table has.
WORDS = {
    HeadVsPrompt: ("head", "prompt", "Theorem P", "δ = 0.001"),
    MemoryVsVanilla: ("states", "softmax", "hard", "vanilla", "Theorem M", "memory"),
}
PUBLISHED = {HeadVsPrompt: {1: "94.0", 4: "99.7"}, MemoryVsVanilla: {1: "99.8", 5: "83.2"}}
COLUMNS = {HeadVsPrompt: (7, 6, 8), MemoryVsVanilla: (6, 4)}  # beside the states, of each table


def command_of(experiment):
    return ["reproduce", experiment.experiment]


def figures_of(experiment):
    return [f"{experiment.experiment}.png", f"{experiment.experiment}.svg"]


def snapshot(path):
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in sorted(path.rglob("*")) if file.is_file()}


def run(arguments, before="", **options):
    return forked.run(f"{before}\nfrom ppl_hmm.cli import main; main()", *arguments, **options)


@pytest.fixture(params=EXPERIMENTS, ids=[experiment.experiment for experiment in EXPERIMENTS])
def experiment(request):
    return request.param


@pytest.fixture
def command(experiment):
    return command_of(experiment)


@pytest.fixture(scope="module")
def smoke_runs(tmp_path_factory):
    made = {}

    def get(experiment):
        if experiment not in made:
            out = tmp_path_factory.mktemp("cli") / "results" / "smoke"
            made[experiment] = out, run([*command_of(experiment), "--smoke", "--workers", "1", "--out", out])
        return made[experiment]

    return get


@pytest.fixture
def smoke(experiment, smoke_runs):
    """A run from start to end, as a user starts it: its directory and the finished process."""
    return smoke_runs(experiment)


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


def rows_of(experiment, text):
    """The rows of the tables by their number of states: accuracies, shares, and what else there is."""
    rows = [line.split() for line in text.splitlines()]
    rows = [row for row in rows if row and row[0].isdigit()]
    states = [str(n_states) for n_states in experiment.smoke.states]
    assert [row[0] for row in rows] == len(COLUMNS[experiment]) * states
    return [{row[0]: row[1:] for row in rows[i : i + len(states)]} for i in range(0, len(rows), len(states))]


def assert_table(experiment, text):
    for word in (*WORDS[experiment], "paper", "built", "separable", "Theorem H", "undecided"):
        assert word in text
    smallest = str(experiment.smoke.states[0])
    tables = rows_of(experiment, text)
    for column, value in PUBLISHED[experiment].items():
        assert tables[0][smallest][column] == value
    for rows, n_columns in zip(tables, COLUMNS[experiment], strict=True):
        assert [len(row) for row in rows.values()] == [n_columns, n_columns]


def test_smoke_run(experiment, smoke):
    out, process = smoke
    png, svg = figures_of(experiment)
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    assert sorted(path.name for path in out.iterdir()) == sorted([png, svg, "results.zarr", "settings.json"])
    assert (out / png).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    drawing = (out / svg).read_text()
    assert "<svg" in drawing
    assert "</svg>" in drawing
    assert_table(experiment, process.stdout)
    assert str(out / svg) in process.stdout
    results = open_results(out)
    assert results["results/accuracy"].sizes["n_states"] == results["results/accuracy"].sizes["seed"] == 2
    constructed = results["results/accuracy"]["approach"].isin(CONSTRUCTED)
    offered = ~constructed | (results["results/condition"] == 1)
    xr.testing.assert_equal(results["results/accuracy"].notnull(), offered)
    attributes, sizes = results["settings"].attrs, experiment.smoke.sizes
    assert {name: attributes[name] for name in ("experiment", *sizes)} == {"experiment": experiment.experiment, **sizes}


def test_the_same_command_again_computes_nothing(experiment, command, copy, call, smoke, no_computing):
    before, svg = snapshot(copy / "results.zarr"), figures_of(experiment)[1]
    (copy / svg).unlink()
    status, output, _ = call(*command, "--smoke", "--out", copy)
    assert status == 0
    assert_table(experiment, output)
    assert (copy / svg).read_bytes() == (smoke[0] / svg).read_bytes()  # the figure is the same file each time
    assert snapshot(copy / "results.zarr") == before
    xr.testing.assert_identical(open_results(copy), open_results(smoke[0]))


def test_sizes_by_default_are_the_figures(experiment, command, call, tmp_path, monkeypatch):
    """Without --smoke: the sizes and seeds of the published figure, in results/ under the experiment's name."""
    monkeypatch.chdir(tmp_path)
    asked = {}

    def compute(states, seeds, out, **options):
        asked.update(states=states, seeds=seeds, out=out, workers=options.pop("workers"), sizes=options)
        raise ppl_hmm.InvalidInput("stop")

    monkeypatch.setattr(ppl_hmm, experiment.experiment.replace("-", "_"), compute, raising=False)
    assert call(*command)[0] == 2
    del asked["sizes"]["executor"], asked["sizes"]["progress"]
    figure, out = experiment.figure, Path("results") / experiment.experiment
    assert asked == {"states": figure.states, "seeds": 20, "out": out, "workers": 2, "sizes": {}}
    call(*command, "--states", "28,8", "--seeds", 3, "--workers", 1, "--out", "elsewhere", "--smoke")
    sizes = experiment.smoke.sizes.items()
    assert asked["sizes"].items() >= sizes
    assert (asked["states"], asked["seeds"], asked["workers"], asked["out"]) == ([28, 8], 3, 1, Path("elsewhere"))


def test_version(call):
    assert call("--version") == (0, f"ppl-hmm {ppl_hmm.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--help",),
        ("reproduce",),
        ("reproduce", "--help"),
        *((*command_of(experiment), "--help") for experiment in EXPERIMENTS),
        ("show", "--help"),
        ("sample", "--help"),
    ],
)
def test_help(arguments, call):
    status, output, errors = call(*arguments)
    assert status == 0
    assert "Usage:" in output
    assert errors == ""


COMMON_BAD = {
    ("--states", "0"): "states: expected an integer of at least {smallest}, got 0; pass a larger number",
    ("--states", "-4"): "states: expected an integer of at least {smallest}, got -4; pass a larger number",
    ("--states", "a,b"): "--states: expected whole numbers separated by commas, got 'a,b'; write e.g. 8,28",
    ("--states", ""): "--states: expected whole numbers separated by commas, got ''; write e.g. 8,28",
    ("--states", "4.5"): "--states: expected whole numbers separated by commas, got '4.5'; write e.g. 8,28",
    ("--states", "8,8"): "states: expected different values, got (8, 8); drop the repetition",
    ("--seeds", "0"): "seeds: expected an integer of at least 1, got 0; pass a larger number",
    ("--seeds", "x"): "Invalid value for '--seeds'",
    ("--workers", "0"): "workers: expected an integer of at least 1, got 0; pass a larger number",
    ("--workers", "two"): "Invalid value for '--workers'",
    ("--nope",): "No such option: --nope",
    ("extra",): "unexpected extra argument",
    ("--out",): "requires an argument",
}
BAD = {
    HeadVsPrompt: COMMON_BAD,
    MemoryVsVanilla: {
        **COMMON_BAD,
        ("--states", "4"): "states: expected an integer of at least 8, got 4; pass a larger number",
        ("--states", "8,10"): "states: expected multiples of 4, got 10; pass 8 or 12",
    },
}


@pytest.mark.parametrize(
    ("experiment", "arguments", "message"),
    [(experiment, *bad) for experiment, all_bad in BAD.items() for bad in all_bad.items()],
)
def test_bad_usage(experiment, command, arguments, message, call, tmp_path, no_computing):
    out = [] if "--out" in arguments else ["--out", tmp_path / "out"]
    status, output, errors = call(*command, "--smoke", *out, *arguments)
    assert_one_line(status, output, errors, message.replace("{smallest}", str(experiment.smallest)))
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


def test_bad_usage_in_a_process_of_its_own(command, tmp_path):
    process = run([*command, "--states", "a,b"], cwd=tmp_path)
    assert_one_line(process.returncode, process.stdout, process.stderr, "write e.g. 8,28")
    assert not list(tmp_path.iterdir())


def test_a_foreign_directory(command, call, tmp_path, no_computing):
    (tmp_path / "thesis.tex").write_text("mine")
    before = snapshot(tmp_path)
    result = call(*command, "--smoke", "--out", tmp_path)
    assert_one_line(*result, "expected an experiment of this package, got no readable settings.json")
    assert snapshot(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_is_no_directory(command, call, tmp_path, no_computing):
    (tmp_path / "file").write_text("mine")
    assert_one_line(*call(*command, "--smoke", "--out", tmp_path / "file"), "choose a new or an empty directory")
    assert_one_line(*call(*command, "--smoke", "--out", tmp_path / "file" / "below"), "choose another --out")
    assert (tmp_path / "file").read_text() == "mine"


def test_another_configuration(command, call, copy, no_computing):
    before = snapshot(copy)
    result = call(*command, "--smoke", "--seeds", "3", "--out", copy)
    assert_one_line(*result, "expected n_seeds=3, got n_seeds=2; choose another --out")
    assert snapshot(copy) == before


def test_one_state_has_no_task(call, tmp_path):
    """K = 1: the posterior is constant. Said before anything is written."""
    one_state = ("--states", "1", "--seeds", "1")
    result = call(*command_of(HeadVsPrompt), "--smoke", *one_state, "--out", tmp_path / "out")
    assert_one_line(*result, "states: expected an integer of at least 2, got 1")
    assert not list(tmp_path.iterdir())


def test_an_interruption_says_how_to_go_on(command, call, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_pool", interrupt)
    status, output, errors = call(*command, "--smoke", "--out", tmp_path / "out")
    assert status == 130
    assert output == ""
    assert (
        errors.splitlines()[-1]
        == "ppl-hmm: interrupted; an experiment or a fit goes on where it stopped when the same command is run again"
    )


# Another place to compute.


@pytest.mark.parametrize("experiment", [HeadVsPrompt])
def test_a_scheduler_that_does_not_answer(command, tmp_path):
    """In a process of its own: Dask writes to the log as it likes. One second of patience in place of ten."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # taken, but nobody listens
        address = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        process = run(
            [*command, "--smoke", "--out", tmp_path / "out", "--scheduler", address],
            before="from ppl_hmm.experiments.engine import cluster; cluster._SECONDS_TO_CONNECT = 1",
        )
    message = f"scheduler {address!r}: expected a running Dask scheduler, got "
    assert_one_line(process.returncode, process.stdout, process.stderr, message)
    assert process.stderr.endswith("; check the address\n")
    assert not list(tmp_path.iterdir())


# Show.


def test_show_a_finished_experiment(experiment, copy, call, smoke, no_computing):
    """The same words and the same figures as from the run itself; the results are untouched."""
    for name in figures_of(experiment):
        (copy / name).unlink()
    before = snapshot(copy)
    status, output, errors = call("show", copy)
    assert (status, errors) == (0, "")
    assert output == smoke[1].stdout.replace(str(smoke[0]), str(copy))
    for name in figures_of(experiment):
        assert (copy / name).read_bytes() == (smoke[0] / name).read_bytes()
        (copy / name).unlink()
    assert snapshot(copy) == before


def test_show_a_running_experiment(experiment, command, call, smoke, tmp_path, monkeypatch):
    """What is there is shown, the rest is a dash; the run then goes on as if nobody had looked."""
    finished = open_results(smoke[0])
    states, seeds, sizes = experiment.smoke
    store = runner.Store(tmp_path / "half", experiment(states, seeds, **sizes))
    first, second = store.settings.cells()
    small, large = map(str, states)
    assert (first["n_states"], second["n_states"]) == states[::-1]
    cell = xr.merge([finished[group].to_dataset() for group in ("results", "timings")])
    runner.write_cell(cell.sel(n_states=[first["n_states"]]), store.cell_path(first))
    before = snapshot(store.path)
    with monkeypatch.context() as patched:
        patched.setattr(runner, "_compute_and_store", None)
        status, output, errors = call("show", store.path)
    assert (status, errors) == (0, "")
    complete, partial = rows_of(experiment, smoke[1].stdout), rows_of(experiment, output)
    for all_rows, rows in zip(complete, partial, strict=True):
        assert rows[large] == all_rows[large]
    n_accuracies, *n_others = COLUMNS[experiment]
    assert partial[0][small] == [PUBLISHED[experiment].get(column, "–") for column in range(n_accuracies)]
    for table, n_columns in zip(partial[1:], n_others, strict=True):
        assert table[small] == n_columns * ["–"]
    for name in figures_of(experiment):
        assert str(store.path / name) in output
        assert (store.path / name).stat().st_size > 1000
    assert store.missing() == [second]
    after = snapshot(store.path)
    assert {file: after[file] for file in before} == before
    assert {file.name for file in set(after) - set(before)} == set(figures_of(experiment))
    assert call(*command, "--smoke", "--workers", 1, "--out", store.path)[:2] == (
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


def test_show_an_experiment_without_results_yet(experiment, call, tmp_path):
    runner.Store(tmp_path / "out", experiment((8,), 1))
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


def test_sample_a_file_of_a_memory_model(call, tmp_path):
    model = ppl_hmm.random_memory_hmm("dirichlet", 3, 2, 4, 1, n_cells=2)
    ppl_hmm.save(model, tmp_path / "model.nc")
    status, *_ = call("sample", tmp_path / "model.nc", "--sequences", 5, "--seed", 3, "--out", tmp_path / "text.nc")
    assert status == 0
    memory = opened(tmp_path / "text.nc")["latent/memory"]
    assert memory.dims == ("sequence", "cell")
    assert memory.values.tolist() == ppl_hmm.sample(model, 5, 80, 3).memory.tolist()


def test_sample_what_is_no_model(call, model_file, tmp_path):
    model = model_file[1]
    ppl_hmm.save(ppl_hmm.random_task(model, 0), tmp_path / "task.nc")
    ppl_hmm.save(ppl_hmm.HMM.stack([model, model]), tmp_path / "batch.nc")
    (tmp_path / "thesis.tex").write_text("mine")
    before = snapshot(tmp_path)
    for name, message in {
        "task.nc": "expected a model, got PosteriorTask; pass a file of an HMM or MemoryHMM",
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
    ("--regime", "nope"): "unknown regime: expected one of degenerate, dirichlet, ginc, wei2021, got 'nope'",
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
