"""Experiments survive kills, interruptions and other executors, and end in the same store."""

import os
import signal
import subprocess
import sys
import time

import own_experiment
import psutil
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from own_experiment import Shifted

from ppl_hmm import cli, open_results
from ppl_hmm.errors import ForeignFile
from ppl_hmm.experiments.engine.store import OtherConfiguration, Store
from ppl_hmm.experiments.figure3.configurations import HeadVsPrompt
from ppl_hmm.experiments.figure3.head_vs_prompt import head_vs_prompt

PATIENCE = 120


class OfThePackage:
    """A run of the command line, the smallest with enough cells to be stopped between two of them: four."""

    states, seeds = (3, 4, 5, 6), 1

    @classmethod
    def run(cls, out, **options) -> xr.DataTree:
        return head_vs_prompt(cls.states, cls.seeds, out, **options, **HeadVsPrompt.smoke.sizes)

    @classmethod
    def command(cls, out, *options) -> list[str]:
        sizes = ("--states", ",".join(map(str, cls.states)), "--seeds", str(cls.seeds))
        return ["reproduce", "head-vs-prompt", "--smoke", *sizes, "--out", str(out), *options]

    @classmethod
    def start(cls, out, *options) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "ppl_hmm.cli", *cls.command(out, *options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @classmethod
    def finish(cls, out) -> xr.DataTree:
        """Give the same command again, to this process: no other needs to be started."""
        with pytest.raises(SystemExit) as ended:
            cli.main(cls.command(out, "--workers", "1"))
        assert ended.value.code == 0
        return open_results(out)


class OfAUser:
    """An experiment of a user's own: its processes start sooner, and its cells only take their time."""

    run = staticmethod(own_experiment.run)
    finish = staticmethod(own_experiment.run)

    @staticmethod
    def start(out) -> subprocess.Popen:
        return own_experiment.start(out, pause=1.0, workers=2)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    made = {}

    def get(experiment) -> xr.DataTree:
        if experiment not in made:
            made[experiment] = experiment.run(tmp_path_factory.mktemp("whole") / "out", workers=1)
        return made[experiment]

    return get


def wait_for_a_cell(out, more_than: int = 0) -> dict[str, float]:
    """Return the seconds of each finished cell, as soon as there are more than so many and before all are."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        cells = [path for path in (out / "cells").glob("states*.zarr") if path.is_dir()]
        if len(cells) > more_than:
            assert not (out / "results.zarr").exists(), "too late: the run is finished"
            return {path.name: float(xr.open_zarr(path)["seconds"].values.flat[0]) for path in cells}
        time.sleep(0.02)
    raise AssertionError("no cell was finished")


def wait_for_orphans(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    assert not alive, "workers outlived their parent"


def assert_same(tree: xr.DataTree, other: xr.DataTree) -> None:
    assert tree.children.keys() == other.children.keys()
    for group in tree.children.keys() - {"timings"}:
        xr.testing.assert_identical(tree[group].to_dataset(), other[group].to_dataset())


def assert_kept(tree: xr.DataTree, finished: dict[str, float]) -> None:
    """The wall time of a cell is never the same twice: equal times say that it was not computed again."""
    seconds = tree["timings"]["seconds"]
    for name, before in finished.items():
        n_states, seed = int(name.split("-")[1]), int(name.split("-")[3])
        assert float(seconds.sel(n_states=n_states, seed=seed)) == before


def kill(process: subprocess.Popen) -> None:
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    wait_for_orphans(workers)


def assert_partial(out) -> None:
    accuracy = open_results(out)["results"]["accuracy"]
    assert 0 < int(accuracy.notnull().sum()) < accuracy.size


def test_a_killed_run_is_continued(tmp_path, uninterrupted):
    out = tmp_path / "out"
    process = OfAUser.start(out)
    finished = wait_for_a_cell(out)
    kill(process)
    assert_partial(out)
    tree = OfAUser.finish(out)
    assert_same(tree, uninterrupted(OfAUser))
    assert_kept(tree, finished)
    assert not (out / "cells").exists()


def test_a_killed_worker_is_reported_and_the_run_continued(tmp_path, uninterrupted):
    out = tmp_path / "out"
    process = OfAUser.start(out)
    finished = wait_for_a_cell(out)
    busiest = max(psutil.Process(process.pid).children(recursive=True), key=lambda child: sum(child.cpu_times()[:2]))
    busiest.kill()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    # After it, Python's resource tracker may complain of what the dead worker left behind.
    assert any(
        line.startswith("WorkerLost: a worker process: expected to finish its cell") for line in errors.splitlines()
    )
    assert "Traceback" not in errors
    tree = OfAUser.finish(out)
    assert_same(tree, uninterrupted(OfAUser))
    assert_kept(tree, finished)


@pytest.fixture
def interruptible():
    """Let processes that are started be interrupted, also where Ctrl-C is ignored, as in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_command_that_is_interrupted_and_then_killed_is_continued(tmp_path, uninterrupted, interruptible):
    """Ctrl-C says how to go on; what either leaves is kept; the same command ends as if neither had come."""
    out = tmp_path / "out"
    process = OfThePackage.start(out)
    finished = wait_for_a_cell(out)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert (
        errors.splitlines()[-1]
        == "ppl-hmm: interrupted; an experiment or a fit goes on where it stopped when the same command is run again"
    )
    assert "Traceback" not in errors
    process = OfThePackage.start(out, "--workers", "1")
    finished |= wait_for_a_cell(out, more_than=len(finished))
    kill(process)
    assert_partial(out)
    tree = OfThePackage.finish(out)
    assert_same(tree, uninterrupted(OfThePackage))
    assert_kept(tree, finished)
    assert not (out / "cells").exists()


# Dask's own start and stop leave sockets and event loops to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_changes_nothing(tmp_path, uninterrupted):
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            tree = OfAUser.run(tmp_path / "api", executor=client.get_executor(pure=False))
        assert_same(tree, uninterrupted(OfAUser))
        process = OfThePackage.start(tmp_path / "cli", "--scheduler", cluster.scheduler_address)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    assert_same(open_results(tmp_path / "cli"), uninterrupted(OfThePackage))


def contents(path) -> dict[str, tuple[float, bytes]]:
    return {str(file): (file.stat().st_mtime, file.read_bytes()) for file in path.rglob("*") if file.is_file()}


def test_a_store_of_another_version_or_settings_is_refused_untouched(tmp_path):
    settings = Shifted()
    Store(tmp_path / "out", settings)
    text = (tmp_path / "out" / "settings.json").read_text()
    before = contents(tmp_path)
    with pytest.raises(OtherConfiguration, match=r"expected n_seeds=8, got n_seeds=7; choose another --out"):
        Store(tmp_path / "out", Shifted(n_seeds=8))
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


def test_missing_files_are_found_and_computed_again(tmp_path, uninterrupted):
    """Zarr reads a missing file as zeros; a store knows its files."""
    out = tmp_path / "out"
    store = Store(out, Shifted())
    first = store.settings.cells()[0]
    with pytest.raises(StopAfterACell):
        OfAUser.run(out, progress=stop_after_a_cell)
    assert first not in store.missing()
    chunk = next(store.cell_path(first).glob("accuracy/0*"))
    chunk.unlink()
    assert first in store.missing()
    assert_same(OfAUser.run(out), uninterrupted(OfAUser))
    next((out / "results.zarr").glob("results/accuracy/0*")).unlink()
    with pytest.raises(ForeignFile, match="expected a complete store, got missing files"):
        open_results(out)


def test_a_run_killed_before_its_settings_were_written_is_begun_again(tmp_path):
    (tmp_path / ".settings.json.1.part").write_text('{"pack')
    assert len(Store(tmp_path, Shifted()).missing()) == 4
