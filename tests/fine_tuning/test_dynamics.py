"""Fine-tuning, and how far it follows its kernel."""

import numpy as np
import pytest
import torch
from torch import nn

from ppl_hmm import InvalidInput, fine_tune, fixed_features_score, linearization_score, tangent_kernel
from ppl_hmm.fine_tuning.dynamics import pooled_share, with_interval
from ppl_hmm.fine_tuning.subspaces import LowRank

STREAM = torch.Generator().manual_seed(0)
X, TEST = (torch.randn(n, 3, generator=STREAM, dtype=torch.float64) for n in (12, 40))
TRUTH = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
Y, TEST_Y = (X @ TRUTH > 0).long(), (TEST @ TRUTH > 0).long()


def linear(n_out=1):
    """A model that is linear in its parameters, and wrong at first."""
    torch.manual_seed(3)
    model = nn.Linear(3, n_out).double()
    nn.init.zeros_(model.bias)
    model.weight.data[-1] = -TRUTH
    return model


def curved():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).double()


@pytest.mark.parametrize("optimizer", ["sgd", "sign", "adam"])
def test_a_linear_model_is_linear(optimizer):
    options = {"optimizer": optimizer, "learning_rate": 0.1, "steps": 60, "batch_size": 4}
    runs = [fine_tune(linear(), X, Y, seed=seed, **options) for seed in (0, 1)]
    found = linearization_score(runs, TEST, TEST_Y)
    assert found["linearization"].item() == 1
    assert found["linearization_interval"].values.tolist() == [1, 1]
    assert found["r2"].values == pytest.approx(1, abs=1e-6)
    assert (found["accuracy"].sel(stage="after") > found["accuracy"].sel(stage="before")).all()
    fixed = fixed_features_score(runs, TEST)
    assert fixed["distance"].values == pytest.approx(0, abs=1e-6)
    assert fixed["distance_interval"].values == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("steps", [0, 40])
def test_tiny_steps_are_the_gradient_flow_of_kernel_regression(steps):
    """df/dt = −K(·, X)(f(X) − y)/N, so that f_t = f₀ + K(·, X) K⁻¹ (1 − e^{−tK/N}) (y − f₀) where K hardly moves."""
    model, rate = curved(), 1e-5
    run = fine_tune(model, X, Y, loss="squared", learning_rate=rate, steps=steps)
    K, rows = tangent_kernel(model, X), tangent_kernel(model, TEST, X)
    values, vectors = torch.linalg.eigh(K)
    grown = -torch.expm1(-rate * steps * values / len(X)) / values
    targets = 2.0 * Y - 1 - run.scores_before(X)[:, 0]
    predicted = run.scores_before(TEST)[:, 0] + rows @ (vectors @ (grown * (vectors.mT @ targets)))
    moved = predicted - run.scores_before(TEST)[:, 0]
    assert (run.scores(TEST)[:, 0] - predicted).abs().max() <= 2e-3 * moved.abs().max()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_expansion_is_the_derivative(n_classes):
    labels = torch.arange(12) % n_classes
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, n_classes)).double()
    run = fine_tune(model, X, labels, learning_rate=1e-6, steps=3)
    moved = run.scores(TEST) - run.scores_before(TEST)
    expected = run.linear_scores(TEST) - run.scores_before(TEST)
    assert moved.shape == (40, 1 if n_classes == 2 else 3)
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-3 * float(moved.abs().max()))
    assert linearization_score(run, TEST, TEST_Y)["r2"].item() > 1 - 1e-6


def test_a_network_far_from_its_start_is_not_linear():
    run = fine_tune(curved(), X, Y, learning_rate=3.0, steps=300)
    assert (run.predict(X) == Y.numpy()).all()
    assert linearization_score(run, TEST, TEST_Y)["r2"].item() < 0.9
    assert fixed_features_score(run, TEST)["distance"].item() > 0.3


def test_one_step_is_the_gradient_or_its_sign():
    model = linear()
    for optimizer, size in (("sgd", lambda g: g), ("sign", torch.sign), ("adam", torch.sign)):
        run = fine_tune(model, X, Y, optimizer=optimizer, learning_rate=0.01, steps=1)
        loss = torch.nn.functional.softplus(-(2.0 * Y - 1) * model(X)[:, 0]).mean()
        for name, gradient in zip(("weight", "bias"), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            step = run.after[name] - model.get_parameter(name).detach()
            torch.testing.assert_close(step, -0.01 * size(gradient), rtol=1e-5, atol=1e-9)
        assert run.loss[0].item() == pytest.approx(loss.item())


def test_fine_tuning_in_a_subspace_moves_nothing_else():
    model = curved()
    run = fine_tune(model, X, Y, parameters=LowRank(1), learning_rate=0.1, steps=3)
    assert set(run.state()) == {"0.weight", "2.weight"}
    for name, part in run.state().items():
        assert torch.linalg.matrix_rank(part - model.get_parameter(name)) == 1
    tuned = curved()
    tuned.load_state_dict(run.state(), strict=False)
    scores = tuned(TEST)
    torch.testing.assert_close(run.scores(TEST)[:, 0], (scores[:, 1] - scores[:, 0]).detach())


def test_classes_have_any_names_and_batches_a_seed():
    options = {"learning_rate": 0.1, "steps": 7, "batch_size": 5, "seed": 1}
    runs = [fine_tune(linear(), X, np.where(Y, "yes", "no"), **options) for _ in range(2)]
    assert set(runs[0].predict(TEST)) <= {"yes", "no"}
    assert torch.equal(runs[0].after["weight"], runs[1].after["weight"])


def test_shares_are_pooled_and_intervals_are_of_draws():
    before, linear_, after = np.array([0.5, 0.5]), np.array([0.6, 0.5]), np.array([0.6, 0.501])
    assert pooled_share(before, linear_, after) == pytest.approx(0.1 / 0.101)
    assert np.isnan(pooled_share(before, linear_, before))
    values = np.random.default_rng(0).normal(size=400)
    mean, (low, high) = with_interval(lambda chosen: float(values[chosen].mean()), 400)
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert np.isnan(with_interval(len, 1)[1]).all()


ONE_STEP = {"learning_rate": 1.0, "steps": 1}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fine_tune(linear(), X, torch.ones(12), **ONE_STEP), "labels: expected at least two classes"),
        (lambda: fine_tune(linear(), X, Y[:3], **ONE_STEP), r"labels: expected shape \(12,\)"),
        (lambda: fine_tune(linear(3), X, Y, **ONE_STEP), "scores of the network: expected 1 for 2 classes"),
        (lambda: fine_tune(linear(), X, Y, optimizer="lion", **ONE_STEP), "unknown optimizer"),
        (lambda: fine_tune(linear(), X, Y, loss="hinge", **ONE_STEP), "unknown loss"),
        (lambda: fine_tune(linear(), X, Y, read=lambda _, x: x[:, :2], **ONE_STEP), "some that the scores depend on"),
        (lambda: fine_tune(linear(), X, Y, learning_rate=1e6, steps=999, loss="squared"), "lower learning_rate"),
        (lambda: linearization_score([], TEST, TEST_Y), "runs: expected what fine_tune returns"),
        (lambda: linearization_score(fine_tune(linear(), X, Y, **ONE_STEP), TEST, Y), "labels: expected"),
        (lambda: fixed_features_score(linear(), TEST), "runs"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
