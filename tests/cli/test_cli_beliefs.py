"""``ppl-hmm beliefs``: numbers, figure and file of a known process or a model file; bad usage is one line."""

import re

import pytest
import xarray as xr

from ppl_hmm import cli, process, random_memory_hmm, save
from ppl_hmm.regimes.processes import PROCESSES


@pytest.fixture
def call(capsys):
    def main(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["beliefs", *map(str, arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return main


def test_a_known_process(call, tmp_path):
    status, output, errors = call("--process", "rrxor", "--depth", 7, "--out", tmp_path / "new")
    assert (status, errors) == (0, "")
    assert "36 in texts of up to 7 tokens; all that differ by 1e-10" in output
    assert "1, 2, 4, 8, 12, 17, 17, 17" in output
    lower, upper = map(float, re.search(r"entropy rate +(\S+) \.\. (\S+) nats", output).groups())
    assert lower <= 0.462098120 <= upper < lower + 1e-6
    assert output.endswith(f"results: {tmp_path / 'new'}\n")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"beliefs.png", "beliefs.svg", "beliefs.nc"}
    with xr.open_datatree(tmp_path / "new" / "beliefs.nc", engine="h5netcdf") as tree:
        assert set(tree.children) == {"mixed_states", "entropies", "model"}
        assert tree["mixed_states"].sizes["mixed_state"] == 36


@pytest.mark.parametrize("name", ["even", "mess3"])
def test_a_model_file(name, call, tmp_path):
    model = process(name)
    save(model, tmp_path / "own.nc")
    status, output, errors = call(tmp_path / "own.nc", "--depth", 2, "--out", tmp_path / "new")
    assert (status, errors) == (0, "")
    assert (tmp_path / "new" / "beliefs.png").exists()
    assert f"states          {model.n_states}, of" in output


def test_bad_usage_is_one_line(call, tmp_path):
    save(random_memory_hmm("dirichlet", 2, 2, 3, 0), tmp_path / "memory.nc")
    refused = {
        ("--process", "nonsense"): ", ".join(sorted(PROCESSES)),
        ("--process", "bloch-walk"): "negative entries",
        ("--process", "mess3", "--depth", 0): "at least 1, got 0",
        ("--process", "mess3", tmp_path / "memory.nc"): "expected a model file or --process, got both",
        (): "expected a model file or --process, got neither",
        ("--process", "mess3", "--out", tmp_path): "expected a new directory, got one that exists",
        (tmp_path / "memory.nc", "--out", tmp_path / "new"): "expected an HMM or MealyHMM, got MemoryHMM",
    }
    for arguments, words in refused.items():
        status, output, errors = call(*arguments)
        assert (status, output, errors.count("\n")) == (2, "", 1)
        assert errors.startswith("ppl-hmm: ")
        assert words in errors
