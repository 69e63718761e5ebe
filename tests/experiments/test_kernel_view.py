"""The experiment on the kernel view of fine-tuning."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from ppl_hmm import InvalidInput, fine_tune, kernel_view, open_results
from ppl_hmm.experiments.kernels.cells import _fine_tuned
from ppl_hmm.experiments.kernels.configuration import KernelView
from ppl_hmm.experiments.kernels.look import summary
from ppl_hmm.experiments.look import shown
from ppl_hmm.fine_tuning.training import Diverged

LITTLE_TRAINING = {"regimes": ("wei2021",), "widths": (4,), "length": 6, "training_steps": (10,)}
LITTLE = LITTLE_TRAINING | {"shots": (3,), "steps": 3, "n_test": 30}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    out = tmp_path_factory.mktemp("kernel-view")
    options = {"n_tasks": 2, "architectures": ("bidirectional",), "workers": 1}
    found = kernel_view([3], 2, out, **options, **LITTLE)
    assert open_results(out).identical(found)
    return found


def test_columns_are_those_of_the_grid(tree):
    results = tree["results"].to_dataset()
    assert results["accuracy"].sizes["stage"] == results["accuracy"].sizes["readout"] == 3
    assert not results.isnull().any().to_array().any()
    assert results["accuracy"].sizes["task"] == 2
    assert not results["accuracy"].sel(task=0).equals(results["accuracy"].sel(task=1))
    for name in ("accuracy", "kernel_accuracy", "exact_accuracy"):
        assert ((results[name] >= 0) & (results[name] <= 1)).all()
    assert (np.abs(results["alignment"]) <= 1 + 1e-9).all()
    assert (results["r2"] <= 1).all()
    assert (results["distance"] >= 0).all()
    ratio = results["projection_distance"] / results["projection_expected"]
    assert ((ratio > 0.2) & (ratio < 5)).all()


def test_draws_are_pooled(tree):
    found, accuracy = summary(tree), tree["results/accuracy"]
    point = {"readout": "fresh", "optimizer": "adam"}
    row = found.sel(point).squeeze()
    before = accuracy.sel(point | {"stage": "before"})
    gains = [(accuracy.sel(point | {"stage": stage}) - before).sum() for stage in ("linear", "after")]
    if gains[1] > 0:
        assert row["linearization"].item() == pytest.approx((gains[0] / gains[1]).item())
    assert row["after"].item() == pytest.approx(accuracy.sel(point | {"stage": "after"}).mean().item())
    assert row["r2_interval"].values[0] <= row["r2"].item() <= row["r2_interval"].values[1]


def test_it_is_shown(tree):
    console = Console(file=io.StringIO(), width=200)
    console.print(shown.table("kernel-view", tree))
    text = console.file.getvalue()
    assert all(name in text for name in ("cloze", "fresh", "probed", "sgd", "sign", "adam"))
    figures = dict(shown.figures("kernel-view", tree))
    assert set(figures) == {"kernel-view", "kernel-view-linearity"}
    assert len(figures["kernel-view-linearity"].axes) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architectures": ("lstm",)}, "unknown architecture"),
        ({"objectives": ("quad",)}, "unknown objective"),
        ({"shots": (4, 4)}, "shots: expected different values"),
        ({"widths": (0,)}, "widths: expected an integer of at least 1"),
        ({"training_steps": ()}, "training_steps: expected at least one value"),
        ({"steps": 0}, "steps: expected an integer of at least 1"),
        ({"states": (1,)}, "states: expected an integer of at least 2"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(InvalidInput, match=message):
        KernelView(**{"states": (3,), "n_seeds": 1} | options)


def test_a_rate_that_diverges_is_halved():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    inputs, labels = torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 1, 0])
    settings = KernelView((3,), 1, steps=30)
    with pytest.raises(Diverged, match="lower learning_rate"):
        fine_tune(network, inputs, labels, learning_rate=1e5, steps=30)
    run = _fine_tuned(settings, network, lambda lm, x: lm(x), inputs, labels, "sgd", 1e5)
    assert torch.isfinite(run.loss).all()
