"""Probes of beliefs: held out, beside controls, with errors that say what is wrong."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from ppl_hmm import HMM, InvalidInput, belief_probe, beliefs, probe_table, random_hmm, sample
from ppl_hmm.schema import Control

MODEL = HMM([0.5, 0.3, 0.2], [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]], [[0.8, 0.2], [0.3, 0.7], [0.5, 0.5]])
TEXT = sample(MODEL, 40, 6, seed=0).tokens
FOUND = beliefs(MODEL, TEXT)
LAWS = FOUND.filtered
NOISE = torch.randn(*LAWS.shape[:2], 7, generator=torch.Generator().manual_seed(0))


def r2(tree, control=None):
    return float(tree["layers/r2"][0] if control is None else tree["controls/r2"].sel(control=control))


def test_layers_and_controls_are_scored_alike():
    tree = belief_probe({"noise": NOISE, "itself": LAWS}, FOUND, MODEL, TEXT, controls={"untrained": NOISE})
    scores = tree["layers/r2"].to_series()
    assert scores["noise"] < 0.1
    assert scores["itself"] > 1 - 1e-6
    assert tree["controls"].dataset["control"].values.tolist() == [*map(str, Control), "untrained"]
    assert tree["layers"].dataset["layer"].dtype.kind == "U"  # which every reader of netCDF files knows
    assert r2(tree, "untrained") == scores["noise"]
    assert (tree["layers/shuffled_r2"] < 0.05).all()
    assert (tree["layers/in_sample_shuffled_r2"] > 0).all()  # which is why nothing is judged in sample
    np.testing.assert_array_equal(tree["controls/reach"], [10, 4, 1, 1, 3, 0])


def test_scores_follow_from_the_predictions():
    tree = belief_probe(NOISE, FOUND, MODEL, TEXT, weights=torch.rand(LAWS.shape[:2]) + 0.1)
    layer, prefixes = tree["layers"].dataset.isel(layer=0), tree["prefixes"].dataset
    squares = ((prefixes["beliefs"] - layer["predictions"]) ** 2).sum("state")
    mean = prefixes["beliefs"].weighted(prefixes["weight"]).mean("prefix")
    spread = ((prefixes["beliefs"] - mean) ** 2).sum("state")
    assert layer["r2"] == pytest.approx(1 - (prefixes["weight"] @ squares) / (prefixes["weight"] @ spread))
    assert layer["mse"] == pytest.approx(squares.weighted(prefixes["weight"]).mean() / 3)
    share = prefixes["weight"].groupby(prefixes["fold"]).sum().values
    assert (layer["fold_r2"].values @ share) / share.sum() == pytest.approx(float(layer["r2"]))
    assert (layer["fold_mse"].values @ share) / share.sum() == pytest.approx(float(layer["mse"]))


def test_a_prefix_is_in_one_fold_wherever_it_occurs():
    prefixes = belief_probe(NOISE, FOUND, MODEL, TEXT)["prefixes"].dataset
    folds = {}
    for sequence, length, fold in zip(prefixes["sequence"], prefixes["length"], prefixes["fold"], strict=True):
        words = tuple(TEXT[int(sequence), : int(length)].tolist())
        assert folds.setdefault(words, int(fold)) == fold
    assert set(folds.values()) == set(range(5))


def test_groups_of_ones_own_hold_out_whole_texts():
    groups = torch.arange(len(TEXT))[:, None].expand(LAWS.shape[:2])
    prefixes = belief_probe(NOISE, FOUND, MODEL, TEXT, groups=groups)["prefixes"].dataset
    for _, of_text in prefixes.groupby("sequence"):
        assert len(set(of_text["fold"].values)) == 1


@pytest.mark.parametrize("convert", [np.asarray, torch.Tensor.float, lambda x: x.tolist(), torch.Tensor.requires_grad_])
def test_arrays_of_any_kind(convert):
    expected = r2(belief_probe(NOISE, FOUND, MODEL, TEXT))
    assert r2(belief_probe(convert(NOISE.clone()), LAWS.numpy(), MODEL, TEXT.numpy())) == pytest.approx(expected)


def test_named_dimensions_are_read_by_name():
    named = xr.DataArray(NOISE.numpy(), dims=("sequence", "position", "feature"))
    tree = belief_probe(named.transpose("feature", "position", "sequence"), FOUND, MODEL, TEXT)
    xr.testing.assert_identical(tree, belief_probe({"activations": NOISE}, FOUND, MODEL, TEXT))


def test_whole_texts_in_a_table_are_matched_by_name():
    names = [f"text {i}" for i in range(len(TEXT))]
    texts, table = pd.DataFrame(TEXT.numpy(), names), pd.DataFrame(NOISE[:, -1].numpy(), names)
    tree = belief_probe(table.iloc[::-1], FOUND, MODEL, texts)
    assert r2(tree) == r2(belief_probe(NOISE[:, -1], LAWS[:, -1], MODEL, TEXT))


def test_prefixes_beyond_a_length_are_left_out_and_whole_texts_end_there():
    lengths = torch.arange(len(TEXT)) % 7
    beyond = torch.arange(7) > lengths[:, None]
    padded = torch.where(beyond[..., None], torch.nan, NOISE)
    tree = belief_probe(padded, FOUND, MODEL, TEXT, lengths=lengths)
    assert len(tree["prefixes/beliefs"]) == int((lengths + 1).sum())
    whole = belief_probe(NOISE[:, 0], beliefs(MODEL, TEXT, lengths=lengths), MODEL, TEXT, lengths=lengths)
    np.testing.assert_allclose(whole["prefixes/beliefs"], LAWS[torch.arange(len(TEXT)), lengths])


def test_activations_after_each_token_go_with_beliefs_without_the_first():
    tree = belief_probe(NOISE[:, 1:], LAWS[:, 1:], MODEL, TEXT)
    assert int(tree["prefixes/length"].min()) == 1
    assert len(tree["prefixes/beliefs"]) == TEXT.numel()


def test_laws_that_determine_beliefs_recover_them():
    """Two tokens at once have rank three here, one has rank two."""
    tree = belief_probe(NOISE, FOUND, MODEL, TEXT, n_future=2)
    assert r2(tree, Control.FUTURE) > 1 - 1e-6
    assert r2(tree, Control.NEXT_TOKEN) < 0.99


def test_contexts_of_all_tokens_know_everything_in_sample():
    tree = belief_probe(NOISE, FOUND, MODEL, TEXT, order=6)
    assert tree["controls/in_sample_r2"].sel(control=Control.MARKOV) > 1 - 1e-6


def test_a_seed_decides_and_disk_changes_nothing(tmp_path):
    tree = belief_probe(NOISE, FOUND, MODEL, TEXT, seed=3)
    xr.testing.assert_identical(tree, belief_probe(NOISE, FOUND, MODEL, TEXT, seed=3))
    tree.to_netcdf(tmp_path / "probe.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "probe.nc", engine="h5netcdf") as opened:
        pd.testing.assert_frame_equal(probe_table(opened), probe_table(tree))
    other = belief_probe(NOISE, FOUND, MODEL, TEXT, seed=4)
    assert not np.array_equal(other["prefixes/fold"], tree["prefixes/fold"])


def test_contexts_and_continuations_of_many_tokens_are_shortened():
    model = random_hmm("dirichlet", 3, 40, seed=0)
    text = sample(model, 20, 5, seed=0).tokens
    tree = belief_probe(torch.zeros(20, 6, 1), beliefs(model, text), model, text)
    assert dict(zip(tree["controls/control"].values, tree["controls/reach"].values, strict=True))["Markov"] == 1
    assert np.isfinite(probe_table(tree).to_numpy()).all()
    assert r2(tree) <= 0  # a feature that never varies


def with_nan(values):
    values = values.clone()
    values[3, 2, 1] = torch.nan
    return values


BAD = {
    "one entry short": (NOISE[:, 1:], LAWS, {}, r"T\+1 entries, the first of them before any text.*filtered\[:, 1:\]"),
    "one entry more": (NOISE, LAWS[:, 1:], {}, r"lack the entry before any text: of T tokens there are T\+1"),
    "other beliefs": (NOISE, LAWS[:, 2:], {}, r"beliefs: expected shape \(40, 7, K\): T\+1 entries"),
    "other texts": (NOISE[1:], LAWS, {}, r"^activations: expected shape \(40, 7, D\)"),
    "time first": (NOISE.transpose(0, 1), LAWS, {}, "put the texts first"),
    "NaN": ({"a": NOISE, "b": with_nan(NOISE)}, LAWS, {}, r"activations 'b'\[3, 2, 1\]: expected a finite number"),
    "no layer": ({}, LAWS, {}, "no layer"),
    "a number as a layer": ({0: NOISE}, LAWS, {}, "a name for each layer"),
    "arguments swapped": (FOUND, NOISE, {}, "pass activations first"),
    "no laws": (LAWS, NOISE, {}, "beliefs.*non-negative probability"),
    "order": (NOISE, LAWS[torch.arange(39, -1, -1)], {}, "one law after the same prefix"),
    "constant": (NOISE, torch.ones(40, 7, 1), {}, "nothing to probe for"),
    "weights": (NOISE, LAWS, {"weights": torch.zeros(40, 7)}, "weights: expected positive numbers"),
    "shape of weights": (NOISE, LAWS, {"weights": torch.ones(40)}, r"weights: expected shape \(40, 7\)"),
    "few groups": (NOISE, LAWS, {"groups": torch.ones(40, 7)}, "a group for each of 5 folds, got 1"),
    "folds": (NOISE, LAWS, {"n_folds": 2}, "n_folds: expected an integer of at least 3"),
    "order of Markov": (NOISE, LAWS, {"order": 0}, "order: expected an integer of at least 1"),
    "a name taken": (NOISE, LAWS, {"controls": {"Markov": NOISE}}, "names of one's own"),
    "ragged": ([[[1.0]], [[1.0, 2.0]]], FOUND, {}, "activations: expected a rectangular array"),
    "complex": (NOISE.to(torch.complex64), LAWS, {}, "real numbers"),
    "words": (NOISE.numpy().astype(str), LAWS, {}, "activations"),
}


@pytest.mark.parametrize(("activations", "laws", "options", "message"), BAD.values(), ids=BAD)
def test_bad_input_gets_one_line(activations, laws, options, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        belief_probe(activations, laws, MODEL, TEXT, **options)
    assert "\n" not in str(caught.value)


def test_the_wrong_model_or_tree_is_named():
    with pytest.raises(InvalidInput, match="belief_probe: expected a single HMM"):
        belief_probe(NOISE, LAWS, "model", TEXT)
    with pytest.raises(InvalidInput, match="what belief_probe returns"):
        probe_table(xr.DataTree())
