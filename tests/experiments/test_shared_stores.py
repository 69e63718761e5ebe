"""Stores of experiments: damage is found and computed again, several runs share a directory, own experiments work."""

import dataclasses
import json
import resource
import signal
from pathlib import Path
from typing import ClassVar

import forked
import numpy as np
import own_experiment
import pytest
import xarray as xr
from own_experiment import Shifted, compute, expected

from ppl_hmm import InvalidInput, open_results
from ppl_hmm.base import hashed
from ppl_hmm.errors import ForeignFile
from ppl_hmm.experiments.engine import runner
from ppl_hmm.experiments.engine.grid import DEFINED, Settings
from ppl_hmm.experiments.engine.store import Store

CELLS = ["states-3-seeds-0-4", "states-3-seeds-5-6", "states-4-seeds-0-4", "states-4-seeds-5-6"]


class Stop(Exception):
    pass


def stop_after(n_cells):
    def report(done, total):
        if done == n_cells:
            raise Stop

    return report


def assert_right(tree, shift=0.25):
    accuracy = tree["results/accuracy"]
    assert dict(accuracy.sizes) == {"approach": 2, "n_states": 2, "seed": 7}
    for n_states in (3, 4):
        for seed in range(7):
            value = expected(n_states, seed, shift)
            assert accuracy.sel(approach="head", n_states=n_states, seed=seed).item() == value
            assert accuracy.sel(approach="prompt", n_states=n_states, seed=seed).item() == value / 2


@pytest.fixture
def computed(monkeypatch):
    """The names of the cells that are computed."""
    names = []

    def recorded(function, settings, cell):
        names.append(cell.name)
        return original(function, settings, cell)

    original = runner.compute_cell
    monkeypatch.setattr(runner, "compute_cell", recorded)
    return names


def flip(file):
    content = bytearray(file.read_bytes())
    content[-5] ^= 0x20
    file.write_bytes(content)


DAMAGES = {"flipped": flip, "emptied": lambda file: file.write_bytes(b""), "removed": Path.unlink}


# Damage.


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_chunk_of_the_results_is_one_cell(damage, tmp_path, computed):
    before = own_experiment.run(tmp_path / "out")
    assert_right(before)
    DAMAGES[damage](tmp_path / "out" / "results.zarr" / "results" / "accuracy" / "0.1.0")
    what = "missing" if damage == "removed" else "damaged"
    message = (
        f"expected a complete store, got {what} files of states-4-seeds-0-4: results/accuracy/0.1.0; run shifted again"
    )
    with pytest.raises(ForeignFile, match=message):
        open_results(tmp_path / "out")
    computed.clear()
    after = own_experiment.run(tmp_path / "out")
    assert computed == ["states-4-seeds-0-4"]
    xr.testing.assert_identical(after["results"].to_dataset(), before["results"].to_dataset())
    kept = {"n_states": [3]}  # with their wall times
    xr.testing.assert_identical(after["timings/seconds"].sel(kept), before["timings/seconds"].sel(kept))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.zarr", "settings.json"]


@pytest.mark.parametrize("name", ["results/accuracy/.zarray", "results/seed/0", ".files.json", ".zmetadata"])
def test_damage_that_concerns_all_cells(name, tmp_path, computed):
    named = {".files.json": "timings/seed/0"}.get(name, name)  # the last hash is another
    own_experiment.run(tmp_path / "out")
    flip(tmp_path / "out" / "results.zarr" / name)
    with pytest.raises(ForeignFile, match=f"expected a complete store, got damaged files: {named}"):
        open_results(tmp_path / "out")
    computed.clear()
    assert_right(own_experiment.run(tmp_path / "out"))
    assert sorted(computed) == CELLS


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cell_of_a_running_experiment(damage, tmp_path, computed):
    with pytest.raises(Stop):
        own_experiment.run(tmp_path / "out", progress=stop_after(2))
    first = computed[0]
    DAMAGES[damage](tmp_path / "out" / "cells" / f"{first}.zarr" / "accuracy" / "0.0.0")
    with pytest.raises(ForeignFile, match=rf"store .*{first}.zarr: expected a complete store, got .*: accuracy/0"):
        open_results(tmp_path / "out")
    computed.clear()
    assert_right(own_experiment.run(tmp_path / "out"))
    assert sorted(computed) == sorted({*CELLS} - {"states-4-seeds-5-6"})


def test_a_store_without_hashes_is_read(tmp_path):
    """The first release recorded the names of the files alone."""
    tree = own_experiment.run(tmp_path / "out")
    files = tmp_path / "out" / "results.zarr" / ".files.json"
    files.write_text(json.dumps(list(json.loads(files.read_text()))))
    xr.testing.assert_identical(open_results(tmp_path / "out"), tree)


def test_what_is_removed_while_it_is_read_is_not_read_as_zeros(tmp_path, monkeypatch):
    hashed.write(xr.Dataset({"x": ("n", np.ones(3))}), tmp_path / "cell.zarr")
    assert hashed.read(tmp_path / "cell.zarr")["x"].values.tolist() == [1, 1, 1]
    original = xr.open_datatree

    def after_removal(path, **options):
        (path / "x" / "0").unlink()
        return original(path, **options)

    monkeypatch.setattr(xr, "open_datatree", after_removal)
    assert hashed.read(tmp_path / "cell.zarr") is None


# A full disk.


def test_a_full_disk_keeps_what_is_finished(tmp_path, computed):
    with pytest.raises(Stop):
        own_experiment.run(tmp_path / "out", progress=stop_after(1))
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(ForeignFile, match="got File too large; make room, then run the same command again"):
            own_experiment.run(tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in (tmp_path / "out" / "cells").iterdir()] == [f"{computed[0]}.zarr"]
    finished = computed[0]
    computed.clear()
    assert_right(own_experiment.run(tmp_path / "out"))
    assert sorted(computed) == sorted({*CELLS} - {finished})


# Several runs.


@pytest.mark.parametrize("damaged", [False, True], ids=["new", "damaged"])
def test_three_runs_share_a_directory(damaged, tmp_path):
    """Also where all three first have to mend it."""
    if damaged:
        own_experiment.run(tmp_path / "out")
        flip(tmp_path / "out" / "results.zarr" / "results" / "accuracy" / "0.0.1")
    runs = own_experiment.run_at_once(tmp_path / "out", 0.25, 0.25, 0.25)
    assert [(run.returncode, run.stderr) for run in runs] == 3 * [(0, "")]
    assert_right(open_results(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.zarr", "settings.json"]


def test_of_three_configurations_one_wins(tmp_path):
    shifts = [0.25, 0.5, 0.75]
    runs = own_experiment.run_at_once(tmp_path / "out", *shifts)
    codes = [run.returncode for run in runs]
    assert sorted(codes) == [0, 1, 1]
    winner = codes.index(0)
    assert_right(open_results(tmp_path / "out"), shifts[winner])
    for loser in {0, 1, 2} - {winner}:
        assert runs[loser].stderr.startswith("OtherConfiguration: results in ")
        assert f"expected shift={shifts[loser]}, got shift={shifts[winner]}; choose another --out" in runs[loser].stderr


def test_a_cell_that_another_run_has_finished_is_taken(tmp_path, computed):
    """The first run stops after each cell to let another one finish everything."""
    out = tmp_path / "out"

    def let_another_finish(done, total):
        if done == 1 and not (out / "results.zarr").exists():
            own_experiment.run(out)

    assert_right(own_experiment.run(out, progress=let_another_finish))
    assert sorted(computed) == CELLS


# Own experiments.


def test_an_own_experiment_is_read_back(tmp_path):
    tree = own_experiment.run(tmp_path / "out", workers=2, shift=0.5)
    assert_right(tree, 0.5)
    assert tree["settings"].attrs["shift"] == 0.5
    assert DEFINED["shifted"] is Shifted


def test_an_experiment_that_is_not_defined_is_named(tmp_path):
    own_experiment.run(tmp_path / "out")
    code = f"import ppl_hmm\ntry: ppl_hmm.open_results({str(tmp_path / 'out')!r})\nexcept Exception as e: print(e)"
    assert "got 'shifted'; import the module that defines it" in forked.run(code).stdout


@pytest.mark.parametrize("shift", [{0.25}, np.array([0.25, 0.5]), ((1, 2), 3), float("nan"), Path("x")], ids=repr)
def test_settings_that_cannot_be_read_back_are_refused_first(shift, tmp_path, computed):
    with pytest.raises(InvalidInput, match="field 'shift' of Shifted: expected a number, a string"):
        own_experiment.run(tmp_path / "out", shift=shift)
    assert computed == []
    assert not (tmp_path / "out").exists()


def test_settings_without_a_name_are_refused_first(tmp_path, computed):
    @dataclasses.dataclass(frozen=True)
    class Nameless(Shifted):
        pass

    with pytest.raises(InvalidInput, match="settings Nameless: expected a class attribute 'experiment' of its own"):
        runner.run_experiment(Nameless((3,), 2), compute, tmp_path / "out", workers=1)
    assert computed == []
    assert not (tmp_path / "out").exists()


def test_a_name_is_given_once():
    with pytest.raises(InvalidInput, match="experiment 'head-vs-prompt': expected a name of its own, got that of"):

        class Other(Settings):
            experiment: ClassVar[str] = "head-vs-prompt"


def test_what_workers_cannot_import_is_refused_first(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Local(Shifted):
        experiment: ClassVar[str] = "local"

    with pytest.raises(InvalidInput, match=r"expected what worker processes can import, got .*or pass workers=1"):
        runner.run_experiment(Local(), compute, tmp_path / "out", workers=2)
    tree = runner.run_experiment(Local(), compute, tmp_path / "out", workers=1)
    assert_right(tree)
    assert Store(tmp_path / "out", Local()).finished
