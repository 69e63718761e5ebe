"""Loss against downstream error along training, with its bounds."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.optimize import minimize

from ppl_hmm import (
    CausalGRU,
    CausalOracleLM,
    InvalidInput,
    causal_certificate,
    cli,
    latent_posterior,
    loss_vs_error,
    next_token_features,
    open_results,
    random_hmm,
    sample,
)
from ppl_hmm.experiments.figure3.configurations import Extent
from ppl_hmm.experiments.trained.loss_vs_error import summary
from ppl_hmm.experiments.trained.loss_vs_error.bounds import natural, transferred
from ppl_hmm.experiments.trained.loss_vs_error.configuration import LossVsError
from ppl_hmm.experiments.trained.loss_vs_error.heads import head_error
from ppl_hmm.experiments.trained.loss_vs_error.last_layer import Measured, least_divergence
from ppl_hmm.experiments.trained.loss_vs_error.questions import Asked, completion, completion_task
from ppl_hmm.language_models.objectives import Objective
from ppl_hmm.plots import style
from ppl_hmm.recoverability.natural import natural_head

N_TOKENS = 16
LITTLE = {"vocabulary_size": N_TOKENS, "width": 4, "length": 6, "steps": 30, "n_checkpoints": 2, "batch_size": 32}
LITTLE |= {"n_train": 50, "n_validation": 50, "n_test": 80}
SETTINGS = LossVsError((3,), 1, **LITTLE)
MODEL = random_hmm("dirichlet", 3, N_TOKENS, 0, concentration=0.3)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("loss-vs-error")


@pytest.fixture(scope="module")
def tree(out):
    found = loss_vs_error([3], 1, out, workers=1, **LITTLE)
    assert open_results(out).identical(found)
    return found


@pytest.fixture(scope="module")
def asked():
    return Asked.draw(MODEL, SETTINGS, 0)


def test_no_bound_is_violated_and_the_excess_is_one(tree):
    found = summary.checks(tree)
    assert found["bounds"].values.tolist() == ["natural", "natural, Φp", "natural, f", "transfer"]
    assert (found["n_checked"] == [16, 8, 8, 16]).all()  # 2 losses, 2 networks, 2 tasks, 2 templates
    assert (found["n_violated"] == 0).all()
    excess, results = summary.sampled_excess(tree), tree["results"].to_dataset()
    assert excess["n_checked"] == 4
    assert excess["n_below"] == 0
    assert (np.abs(results["excess_sampled"] - results["excess"]) < 5 * results["excess_sampled_error"]).all()
    assert (results["natural_error"] <= results["natural_loss"]).all()
    layer = results["excess_for_layer"].sel(objective="tokens")
    assert ((layer > 0) & (layer < results["excess_at_read_position"].sel(objective="tokens"))).all()


def test_columns(tree):
    results = tree["results"].to_dataset()
    assert results["error"].sizes == {"features": 4, "task": 2, "template": 2, "step": 2} | {
        "n_states": 1,
        "objective": 2,
        "seed": 1,
    }
    assert "task" not in results["excess_at_read_position"].dims
    assert ((results["error"] >= 0) & (results["error"] <= 1)).all()
    assert (results["exact_tau"].diff("size") <= 1e-9).all()
    excess = results["excess"].sel(objective="tokens")
    assert (excess.isel(step=-1) < excess.isel(step=0)).all()


def test_the_command_shows_what_is_computed(tree, out, monkeypatch, capsys):
    assert tree["settings"].attrs["n_seeds"] == 1
    drawn = {}

    def save(figure, path):
        drawn[path.name] = figure
        return [path]

    monkeypatch.setattr(style, "save", save)
    monkeypatch.setattr(LossVsError, "smoke", Extent((3,), 1, LITTLE))  # those of the tree, which is finished
    with pytest.raises(SystemExit) as ended:
        cli.main(["reproduce", "loss-vs-error", "--smoke", "--workers", "1", "--out", str(out)])
    assert not ended.value.code
    text = capsys.readouterr().out
    assert "…" not in text
    assert all(name in text for name in ("completion, z", "cross-entropy", "quadratic loss", "natural, f", "transfer"))
    assert "tokens" not in text.replace("excess of the tokens", "")
    assert len(drawn["loss-vs-error"].axes) == 8


@pytest.mark.slow
def test_smoke(tmp_path):
    extent = LossVsError.smoke
    tree = loss_vs_error(extent.states, extent.n_seeds, tmp_path, workers=1, **extent.sizes)
    assert (summary.checks(tree)["n_violated"] == 0).all()


class _Oracle(CausalGRU):
    """A network whose laws are exact."""

    def law_after(self, tokens, *, prompt=None, suffix=None, lengths=None):
        return CausalOracleLM(MODEL).law_after(tokens, prompt=prompt, suffix=suffix, lengths=lengths)


def test_the_exact_laws_have_no_excess_and_the_bound_is_tau(asked):
    lm = _Oracle(N_TOKENS, 4, seed=0)
    for question in asked.questions:
        exact = torch.from_numpy(question.exact)
        measured = Measured.of(lm, asked.text, question.tokens, exact, asked.parts.test)
        assert measured.excess.max() < 1e-12
        size, tau, bound, loss, error = natural(question, measured, asked.parts)
        labels = question.labels[asked.parts.test]
        best = natural_head(question.exact[asked.parts.test], labels)
        assert tau == pytest.approx(loss)
        assert bound == pytest.approx(tau, abs=1e-6 * size)
        assert tau == pytest.approx(best.loss, abs=1e-4)
        assert error <= tau + 1e-9
        of_head = transferred(question, measured, asked.parts)
        assert of_head["transfer_error"] == pytest.approx(of_head["transfer_bound"], abs=0.03)


def test_features_and_laws_are_those_of_the_language_model(asked):
    lm, question = CausalGRU(N_TOKENS, 4, seed=0), asked.questions[-1]
    assert question.template == "template"
    found = Measured.of(lm, asked.text, question.tokens, torch.from_numpy(question.exact), asked.parts.test)
    expected = next_token_features(lm, asked.text, question.tokens).detach()
    scores = torch.from_numpy(found.features @ found.layer) + lm.out.bias.detach()
    torch.testing.assert_close(scores.softmax(-1).float(), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.laws, expected, atol=1e-6)
    np.testing.assert_allclose(found.means, expected.numpy() @ lm.out.weight.detach().numpy(), atol=1e-6)


def test_best_features_for_a_layer():
    rng = np.random.default_rng(0)
    exact, layer, offset = rng.dirichlet(np.ones(7), 5), rng.normal(size=(3, 7)), rng.normal(size=7)

    def loss(features, law):
        scores = features @ layer + offset
        return law @ (np.log(law) - scores + np.log(np.exp(scores).sum()))

    expected = [minimize(loss, np.zeros(3), args=(law,), tol=1e-12).fun for law in exact]
    start = torch.zeros(5, 3, dtype=torch.float64)
    found = least_divergence(torch.from_numpy(exact), torch.from_numpy(layer), torch.from_numpy(offset), start)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    # A layer of rank V − 1 beside the constants has every law.
    most = torch.eye(7, dtype=torch.float64)[:6]
    whole = least_divergence(torch.from_numpy(exact), most, torch.from_numpy(offset), start.new_zeros(5, 6))
    assert whole.abs().max() < 1e-9


def test_the_excess_for_a_layer_bounds_heads_of_its_row_space():
    rng = np.random.default_rng(1)
    exact, layer = torch.from_numpy(rng.dirichlet(np.ones(9), 40)), torch.from_numpy(rng.normal(size=(4, 9)))
    features = torch.from_numpy(rng.normal(size=(40, 4)))
    laws = (features @ layer).softmax(-1)
    own = (exact * (exact / laws).log()).sum(-1)
    excess = own - least_divergence(exact, layer, torch.zeros(9, dtype=torch.float64), features)
    for weights in torch.from_numpy(rng.normal(size=(200, 4))) @ layer:
        assert (((laws - exact) @ weights).square() <= 2 * weights.abs().max() ** 2 * excess + 1e-12).all()


def test_completion_is_solved_by_its_words_after_the_template():
    text = sample(MODEL, 200, 6, 0).tokens
    template, words = completion(MODEL)
    laws = next_token_features(CausalOracleLM(MODEL), text, template)
    task = completion_task(MODEL, template, words, laws)
    labels = task.labels(latent_posterior(MODEL, task, text))
    scores = laws @ words
    assert ((scores > scores.median()) == (labels == 1))[scores != scores.median()].all()
    assert 0.4 < labels.double().mean() < 0.6
    assert causal_certificate(MODEL, task, template).recoverable


def test_head_errors():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 3))
    labels = (features @ [1, -2, 0.5] > 0.3).astype(int)
    assert head_error(features[:200], labels[:200], features[200:], labels[200:]) < 0.03
    assert head_error(features[:200], labels[:200], features[200:], 1 - labels[200:]) > 0.97
    noise = rng.integers(2, size=200)
    assert 0.3 < head_error(features[:200], noise, features[200:], labels[200:]) < 0.7


def test_slopes_of_known_curves():
    n_test, seed = 1000, xr.DataArray([0, 1, 2], dims="seed")
    excess = xr.DataArray([[0.2, 1e-2, 1e-4], [0.3, 0.05, np.nan]], dims=("n_states", "step"))
    error = (1 + seed) * 0.3 * excess**0.7 * xr.ones_like(xr.DataArray([0.0], dims="features"))
    columns = {"excess_at_read_position": excess, "error": (error * (n_test + 1) - 0.5) / n_test}
    settings = xr.Dataset(attrs={"n_test": n_test})
    found = summary.slopes(xr.DataTree.from_dict({"/results": xr.Dataset(columns), "/settings": settings}))
    assert found["slope"].item() == pytest.approx(0.7)
    np.testing.assert_allclose(found["slope_interval"], 0.7)
    assert found["n_networks"] == 9  # those with more than 0.1 nats are left out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": ("exact",)}, "unknown objective"),
        ({"width": 50}, "width: expected less than vocabulary_size"),
        ({"steps": 3}, "checkpoints: expected at least 10 different numbers of steps"),
        ({"n_checkpoints": 1}, "n_checkpoints: expected an integer of at least 2"),
        ({"states": (1,)}, "states: expected an integer of at least 2"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(InvalidInput, match=message):
        LossVsError(**{"states": (3,), "n_seeds": 1} | options)


def test_checkpoints_grow_by_a_factor():
    assert LossVsError((3,), 1, steps=1000, n_checkpoints=4).checkpoints == (0, 10, 100, 1000)
    assert LossVsError((3,), 1, steps=7, n_checkpoints=2).checkpoints == (0, 7)
    assert {str(each) for each in Objective} > set(LossVsError((3,), 1).objectives)
