"""Experiments survive kills, interruptions and other executors, and end in the same store."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import xarray as xr
from distributed import Client, LocalCluster

import ppl_hmm
from ppl_hmm import cli, open_results
from ppl_hmm.errors import ForeignFile
from ppl_hmm.experiments.engine.store import OtherConfiguration, Store
from ppl_hmm.experiments.figure3.configurations import HeadVsPrompt, MemoryVsVanilla

# Four cells, two of five seeds and two of one: enough to be killed between two of them.
SEEDS = 6
PATIENCE = 120


def settings_of(experiment, seeds=SEEDS):
    return experiment(experiment.smoke.states, seeds, **experiment.smoke.sizes)


def run(experiment, out, **options) -> xr.DataTree:
    compute = getattr(ppl_hmm, experiment.experiment.replace("-", "_"))
    return compute(experiment.smoke.states, SEEDS, out, **options, **experiment.smoke.sizes)


def command(experiment, out, *options) -> list[str]:
    return ["reproduce", experiment.experiment, "--smoke", "--seeds", str(SEEDS), "--out", str(out), *options]


@pytest.fixture
def experiment():
    """How to survive does not depend on what is computed: most tests use one experiment."""
    return HeadVsPrompt


@pytest.fixture(scope="module")
def uninterrupted_runs(tmp_path_factory):
    made = {}

    def get(experiment) -> xr.DataTree:
        if experiment not in made:
            made[experiment] = run(experiment, tmp_path_factory.mktemp("whole") / "out", workers=1)
        return made[experiment]

    return get


@pytest.fixture
def uninterrupted(experiment, uninterrupted_runs) -> xr.DataTree:
    return uninterrupted_runs(experiment)


def start(experiment, out, *options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "ppl_hmm.cli", *command(experiment, out, *options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_a_cell(out) -> dict[str, float]:
    """Return the seconds of each finished cell, as soon as there is one and before all are."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        cells = [path for path in (out / "cells").glob("states*.zarr") if path.is_dir()]
        if cells:
            assert not (out / "results.zarr").exists(), "too late: the run is finished"
            return {path.name: float(xr.open_zarr(path)["seconds"].values.flat[0]) for path in cells}
        time.sleep(0.02)
    raise AssertionError("no cell was finished")


def wait_for_orphans(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    assert not alive, "workers outlived their parent"


def finish(experiment, out) -> xr.DataTree:
    """Give the same command again, to this process: no other needs to be started."""
    with pytest.raises(SystemExit) as ended:
        cli.main(command(experiment, out, "--workers", "1"))
    assert ended.value.code == 0
    return open_results(out)


def assert_same(tree: xr.DataTree, other: xr.DataTree) -> None:
    for group in ("results", "published", "settings"):
        xr.testing.assert_identical(tree[group].to_dataset(), other[group].to_dataset())


def assert_kept(tree: xr.DataTree, finished: dict[str, float]) -> None:
    """The wall time of a cell is never the same twice: equal times say that it was not computed again."""
    seconds = tree["timings"]["seconds"]
    for name, before in finished.items():
        n_states, seed = int(name.split("-")[1]), int(name.split("-")[3])
        assert float(seconds.sel(n_states=n_states, seed=seed)) == before


@pytest.mark.parametrize("experiment", [HeadVsPrompt, MemoryVsVanilla])
def test_a_killed_run_is_continued(experiment, tmp_path, uninterrupted):
    out = tmp_path / "out"
    process = start(experiment, out)
    finished = wait_for_a_cell(out)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    wait_for_orphans(workers)
    partial = open_results(out)
    assert 0 < int(partial["results"]["accuracy"].notnull().sum()) < partial["results"]["accuracy"].size
    tree = finish(experiment, out)
    assert_same(tree, uninterrupted)
    assert_kept(tree, finished)
    assert not (out / "cells").exists()


def test_a_killed_worker_is_reported_and_the_run_continued(experiment, tmp_path, uninterrupted):
    out = tmp_path / "out"
    process = start(experiment, out)
    finished = wait_for_a_cell(out)
    busiest = max(psutil.Process(process.pid).children(recursive=True), key=lambda child: sum(child.cpu_times()[:2]))
    busiest.kill()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    # After it, Python's resource tracker may complain of what the dead worker left behind.
    assert any(
        line.startswith("ppl-hmm: a worker process: expected to finish its cell") for line in errors.splitlines()
    )
    assert "Traceback" not in errors
    tree = finish(experiment, out)
    assert_same(tree, uninterrupted)
    assert_kept(tree, finished)


@pytest.fixture
def interruptible():
    """Let processes that are started be interrupted, also where Ctrl-C is ignored, as in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupted_run_says_how_to_go_on(experiment, tmp_path, uninterrupted, interruptible):
    out = tmp_path / "out"
    process = start(experiment, out)
    finished = wait_for_a_cell(out)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert (
        errors.splitlines()[-1]
        == "ppl-hmm: interrupted; an experiment goes on where it stopped when the same command is run again"
    )
    assert "Traceback" not in errors
    tree = finish(experiment, out)
    assert_same(tree, uninterrupted)
    assert_kept(tree, finished)


def test_processes_change_nothing(experiment, tmp_path, uninterrupted):
    assert_same(run(experiment, tmp_path / "out", workers=2), uninterrupted)


# Dask's own start and stop leave sockets and event loops to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_changes_nothing(experiment, tmp_path, uninterrupted):
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            tree = run(experiment, tmp_path / "api", executor=client.get_executor(pure=False))
        assert_same(tree, uninterrupted)
        process = start(experiment, tmp_path / "cli", "--scheduler", cluster.scheduler_address)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        assert_same(open_results(tmp_path / "cli"), uninterrupted)


def contents(path) -> dict[str, tuple[float, bytes]]:
    return {str(file): (file.stat().st_mtime, file.read_bytes()) for file in path.rglob("*") if file.is_file()}


def test_a_store_of_another_version_or_settings_is_refused_untouched(experiment, tmp_path):
    settings = settings_of(experiment)
    Store(tmp_path / "out", settings)
    text = (tmp_path / "out" / "settings.json").read_text()
    before = contents(tmp_path)
    with pytest.raises(OtherConfiguration, match=r"expected n_seeds=7, got n_seeds=6; choose another --out"):
        Store(tmp_path / "out", settings_of(experiment, SEEDS + 1))
    assert contents(tmp_path) == before
    older = text.replace('"version": "', '"version": "0.0.')
    (tmp_path / "out" / "settings.json").write_text(older)
    before = contents(tmp_path)
    with pytest.raises(OtherConfiguration, match=r"expected version .*, got version 0\.0\."):
        Store(tmp_path / "out", settings)
    assert contents(tmp_path) == before


class StopAfterACell(Exception):
    pass


def stop_after_a_cell(done, total):
    if done == 1:
        raise StopAfterACell


def test_missing_files_are_found_and_computed_again(experiment, tmp_path, uninterrupted):
    """Zarr reads a missing file as zeros; a store knows its files."""
    out = tmp_path / "out"
    store = Store(out, settings_of(experiment))
    first = store.settings.cells()[0]
    with pytest.raises(StopAfterACell):
        run(experiment, out, workers=1, progress=stop_after_a_cell)
    assert first not in store.missing()
    chunk = next(store.cell_path(first).glob("condition/0*"))
    chunk.unlink()
    assert first in store.missing()
    assert_same(run(experiment, out, workers=1), uninterrupted)
    next((out / "results.zarr").glob("results/condition/0*")).unlink()
    with pytest.raises(ForeignFile, match="expected a complete store, got missing files"):
        open_results(out)


def test_two_runs_at_once_end_in_one_store(experiment, tmp_path, uninterrupted):
    out = tmp_path / "out"
    processes = [start(experiment, out, "--workers", "1") for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    assert_same(open_results(out), uninterrupted)


def test_a_run_killed_before_its_settings_were_written_is_begun_again(experiment, tmp_path):
    (tmp_path / ".settings.json.1.part").write_text('{"pack')
    assert len(Store(tmp_path, settings_of(experiment)).missing()) == 4
