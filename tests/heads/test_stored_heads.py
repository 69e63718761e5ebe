"""Heads from files and weights: what is missing or wrong is named, and nothing else is raised."""

import numpy as np
import pytest
import torch
import xarray as xr

from ppl_hmm import AttentionHead, InvalidInput, LinearHead, load, save

LINEAR = LinearHead.from_weights([1.0, 2.0, 4.0])
ATTENTION = AttentionHead.from_weights(np.zeros((4, 3)), np.ones((1, 4, 3)))
HEADS = {"LinearHead": LINEAR, "AttentionHead": ATTENTION}
ATTRIBUTES = {
    "LinearHead": {"C": "a finite number above 0", "floor": "a finite number above 0"},
    "AttentionHead": {"C": "a finite number above 0", "tolerance": "a finite number"},
}
CHOICES = {"LinearHead": ["features"], "AttentionHead": ["attention", "scores"]}
WEIGHTS = {
    "LinearHead": ["coefficients", "intercepts"],
    "AttentionHead": ["score_weights", "value_weights", "intercepts"],
}


def from_file(dataset, path):
    dataset.to_netcdf(path / "head.nc", engine="h5netcdf")
    return load(path / "head.nc")


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *((kind, name, value) for kind in HEADS for name in ATTRIBUTES[kind] for value in ("x", [1.0, 2.0], np.nan)),
        ("LinearHead", "C", 0.0),
        ("LinearHead", "floor", -1e-30),
        ("AttentionHead", "C", np.inf),
    ],
)
def test_attributes_of_the_wrong_kind(kind, name, value, tmp_path):
    dataset = HEADS[kind].to_dataset().assign_attrs({name: value})
    message = f"attribute '{name}' of an? {kind}: expected {ATTRIBUTES[kind][name]}, got "
    with pytest.raises(InvalidInput, match=message):
        from_file(dataset, tmp_path)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in CHOICES.items() for name in names])
@pytest.mark.parametrize("value", [1, "linear", [1, 2]])
def test_choices_of_the_wrong_kind(kind, name, value, tmp_path):
    with pytest.raises(InvalidInput, match=f"unknown value of '{name}': expected one of "):
        from_file(HEADS[kind].to_dataset().assign_attrs({name: value}), tmp_path)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize(
    ("classes", "why"),
    [
        (((), 3), r"expected dimensions \('class',\), got dimensions \(\)"),
        (("class", [0, 0]), r"expected at least two, no two of them equal, got \[0, 0\]"),
        (("class", [7]), r"expected at least two, no two of them equal, got \[7\]"),
        (("class", ["b", "b"]), r"expected at least two, no two of them equal, got \['b', 'b'\]"),
        (("class", [0.0, np.nan]), r"expected finite numbers, got nan at \[1\]"),
        (("label", [0, 1]), r"expected dimensions \('class',\), got dimensions \('label',\)"),
        (("class", np.array(["2000", "2001"], dtype="M8[ns]")), "expected numbers or strings, got datetime64"),
    ],
)
def test_bad_classes(kind, classes, why, tmp_path):
    dataset = HEADS[kind].to_dataset().drop_vars("classes").assign(classes=classes)
    with pytest.raises(InvalidInput, match=f"variable 'classes' of an? {kind}: {why}"):
        from_file(dataset, tmp_path)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in WEIGHTS.items() for name in names])
def test_bad_weights_in_files(kind, name, tmp_path):
    dataset = HEADS[kind].to_dataset()
    values = dataset[name].values
    for wrong, why in (
        (np.full(values.shape, np.nan), "expected finite numbers, got nan at"),
        (np.full(values.shape, "x"), "expected real numbers, got <U1"),
        (values + 1j, "expected real numbers, got complex128"),
    ):
        with pytest.raises(InvalidInput, match=f"variable '{name}' of an? {kind}: {why}"):
            type(HEADS[kind]).from_dataset(dataset.assign({name: (dataset[name].dims, wrong)}))
    with pytest.raises(InvalidInput, match=f"variable '{name}' of an? {kind}: expected a variable of that name"):
        type(HEADS[kind]).from_dataset(dataset.drop_vars(name))


def test_the_examples_of_files_that_are_right(tmp_path):
    """Classes need no order, and whole numbers are numbers."""
    dataset = xr.Dataset(
        {
            "coefficients": (("score", "token"), np.array([[3, -1]])),
            "intercepts": ("score", np.array([0])),
            "classes": ("class", ["yes", "no"]),
        }
    )
    head = from_file(dataset, tmp_path)
    assert head.predict([[0.5, 0.5], [0.2, 0.8]]).tolist() == ["no", "yes"]
    several = LinearHead.from_weights([[1.0, 0.0], [0.0, 1.0]])
    save(several, tmp_path / "two_rows.nc")
    assert load(tmp_path / "two_rows.nc").predict([[0.9, 0.1], [0.5, 0.5]]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        ([np.nan, 0, 0], r"expected finite numbers, got nan at \[0\]"),
        ([[1.0, -np.inf]], r"expected finite numbers, got -inf at \[0, 1\]"),
        ([[1.0], [1.0, 2.0]], "expected an array of real numbers"),
        (["a", "b"], "expected real numbers, got <U1"),
        (None, "expected real numbers, got object"),
        ([], r"expected shape \(V,\) or \(C, V\), got shape \(0,\)"),
        (np.zeros((1, 1, 2)), r"expected shape \(V,\) or \(C, V\), got shape \(1, 1, 2\)"),
        (torch.zeros(2, requires_grad=True), "expected an array of real numbers, got Can't call numpy"),
    ],
)
def test_bad_weights_of_a_linear_head(weights, why):
    with pytest.raises(InvalidInput, match=f"weights of a LinearHead: ({why})"):
        LinearHead.from_weights(weights)


def test_bad_weights_of_an_attention_head():
    with pytest.raises(InvalidInput, match="score_weights of an AttentionHead: expected finite numbers, got nan at"):
        AttentionHead.from_weights(np.full((4, 3), np.nan), np.ones((1, 4, 3)))
    with pytest.raises(InvalidInput, match="value_weights of an AttentionHead: expected real numbers"):
        AttentionHead.from_weights(np.zeros((4, 3)), [["a"]])
