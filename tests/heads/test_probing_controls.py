"""What controls and a trained network reach on known processes."""

import runpy
from pathlib import Path

import pytest
import torch
import xarray as xr

from ppl_hmm import belief_probe, prefixes, probe_table, process

SCRIPT = Path(__file__).parents[2] / "analyses" / "08_probing_controls.py"

# R² of least squares on all texts of up to ten tokens, by probability and each once.
IN_SAMPLE = {
    "rrxor": {"last 10 tokens": (0.149, 0.086), "Markov-4": (0.639, 0.479), "next-token law": (0.246, 0.291)},
    "mess3": {"last 10 tokens": (0.966, 0.939), "Markov-4": (0.998, 0.981), "next-token law": (1.0, 1.0)},
}


@pytest.mark.parametrize("name", ["rrxor", pytest.param("mess3", marks=pytest.mark.slow)])
def test_controls_in_sample(name):
    machine = process(name)
    found = [prefixes(machine, length) for length in range(11)]
    tokens = torch.cat([torch.nn.functional.pad(each.tokens, (0, 10 - each.tokens.shape[1])) for each in found])
    lengths = torch.cat([torch.full((len(each.tokens),), length) for length, each in enumerate(found)])
    laws, probability = (torch.cat([getattr(each, field) for each in found]) for field in ("beliefs", "probability"))
    model = machine.hmm if name == "rrxor" else machine
    for column, weights in enumerate((probability, None)):
        tree = belief_probe(laws, laws, model, tokens, lengths=lengths, weights=weights)
        table = probe_table(tree)
        for control, expected in IN_SAMPLE[name].items():
            assert table["in sample"][control] == pytest.approx(expected[column], abs=6e-4)
        assert (table["R²"] <= table["in sample"] + 1e-9).all()


@pytest.mark.slow
def test_a_trained_network_holds_beliefs_that_controls_do_not(tmp_path, monkeypatch):
    out = tmp_path / "results"
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setattr("sys.argv", [str(SCRIPT), "--out", str(out)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    with xr.open_datatree(out / "probing-controls.nc", engine="h5netcdf") as tree:
        assert (tree["timings/seconds"] < 60).all()  # of one core
        for name, least in (("mess3", 0.995), ("rrxor", 0.98)):
            layers = tree[f"{name}/each-prefix-once/layers"].dataset
            assert layers["r2"] >= least
            assert abs(layers["shuffled_r2"]) < 0.05
        controls = tree["rrxor/each-prefix-once/controls"].dataset
        assert controls["r2"].sel(control=["raw tokens", "Markov", "next-token law", "untrained GRU"]).max() < 0.9
