"""The command line: results, figure and table; bad usage is one line and exit status 2."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import xarray as xr

import ppl_hmm
from ppl_hmm import cli
from ppl_hmm.experiments import head_vs_prompt as experiment
from ppl_hmm.experiments import runner
from ppl_hmm.experiments.store import open_results

COMMAND = ["reproduce", "head-vs-prompt"]


def snapshot(path):
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in sorted(path.rglob("*")) if file.is_file()}


def run(arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", "from ppl_hmm.cli import main; main()", *map(str, arguments)],
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


def assert_table(text):
    for word in ("head", "prompt", "paper", "separable", "undec."):
        assert word in text
    rows = [line.split() for line in text.splitlines()]
    assert [row[0] for row in rows if row and row[0].isdigit()] == ["4", "12"]
    assert "94.0" in next(row for row in rows if row and row[0] == "4")  # the paper's head at K = 4


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
    assert results["results/accuracy"].sizes == {"method": 3, "n_states": 2, "seed": 2}
    assert results["results/accuracy"].notnull().all()
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


@pytest.mark.parametrize("arguments", [(), ("--help",), ("reproduce",), ("reproduce", "--help"), (*COMMAND, "--help")])
def test_help(arguments, call):
    status, output, errors = call(*arguments)
    assert status == 0
    assert "Usage:" in output
    assert errors == ""


BAD = {
    ("--states", "0"): "states: expected an integer of at least 1, got 0; pass a larger number",
    ("--states", "-4"): "states: expected an integer of at least 1, got -4; pass a larger number",
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


def test_one_state_has_no_task(call, tmp_path, monkeypatch):
    """K = 1: the posterior is constant, which a worker finds out. Before the message there may be a bar of progress."""
    monkeypatch.setattr(runner, "_pool", ThreadPoolExecutor)
    status, output, errors = call(*COMMAND, "--smoke", "--states", "1", "--seeds", "1", "--out", tmp_path / "out")
    assert status == 2
    assert output == ""
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("ppl-hmm: random_task with 1 states: expected a task")


def test_an_interruption_says_how_to_go_on(call, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_pool", interrupt)
    status, output, errors = call(*COMMAND, "--smoke", "--out", tmp_path / "out")
    assert status == 130
    assert output == ""
    assert errors.splitlines()[-1] == "ppl-hmm: interrupted; the same command goes on where this one stopped"
