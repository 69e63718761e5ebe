"""The tree of a Bayesian fit: what ArviZ takes as it is, and what it says of text; bad input is named."""

import arviz_stats
import numpy as np
import pytest
import torch
import xarray as xr
from comparisons import case, check

from ppl_hmm import HMM, MASK, MemoryHMM, fit_bayes, load, log_likelihood, sample
from ppl_hmm.estimation.bayes.gibbs import GibbsSampler
from ppl_hmm.estimation.bayes.prior import DirichletPrior

MODEL = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]])
TEXT = sample(MODEL, 30, length=10, seed=0, lengths=[10, 3] * 15).tokens
OPTIONS = {"method": "gibbs", "chains": 2, "draws": 100, "tune": 50, "seed": 0}
INVARIANTS = ["sigma_min", "transition_trace_squared", "log_evidence"]


@pytest.fixture(scope="module")
def tree():
    return fit_bayes(TEXT, 2, **OPTIONS)


def test_the_groups_are_arviz_s(tree):
    posterior, prior = tree["posterior"], tree["prior"]
    assert dict(posterior.sizes) == {"chain": 2, "draw": 100, "state": 2, "state_next": 2, "token": 3}
    assert posterior["emission"].dims == ("chain", "draw", "state", "token")
    assert posterior["transition"].dims == ("chain", "draw", "state", "state_next")
    assert set(prior.data_vars) == set(posterior.data_vars)
    assert prior.sizes["chain"] == 1
    assert tree["log_likelihood/text"].dims == ("chain", "draw", "sequence")
    assert tree["posterior_predictive/token"].dims == ("chain", "draw", "sequence", "position")
    assert np.array_equal(tree["observed_data/token"], TEXT)
    masked = tree["posterior_predictive/token"] == MASK
    assert (masked == (tree["observed_data/token"] == MASK)).all()


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_arviz_stats_takes_the_tree_as_it_is(tree):
    summary = arviz_stats.summary(tree, var_names=INVARIANTS)
    assert list(summary.index) == INVARIANTS
    assert (arviz_stats.rhat(tree, var_names=INVARIANTS)["sigma_min"] < 1.5).all()
    assert (arviz_stats.ess(tree, var_names=INVARIANTS)["sigma_min"] > 5).all()
    assert np.isfinite(arviz_stats.loo(tree).elpd)


def test_numbers_are_those_of_the_draws(tree):
    draw = tree["posterior"].to_dataset().isel(chain=1, draw=7)
    model = HMM(draw["initial"].values, draw["transition"].values, draw["emission"].values)
    wanted = log_likelihood(model, TEXT)
    assert np.allclose(tree["log_likelihood/text"].isel(chain=1, draw=7), wanted)
    assert draw["log_evidence"].item() == pytest.approx(wanted.sum().item())
    assert draw["sigma_min"].item() == pytest.approx(np.linalg.svd(model.emission.numpy())[1].min())
    square = model.transition.numpy() @ model.transition.numpy()
    assert draw["transition_trace_squared"].item() == pytest.approx(np.trace(square))
    laws = {name: torch.tensor(draw[name].values)[None] for name in ("initial", "transition", "emission")}
    prior = DirichletPrior.of(None, {name: tuple(law.shape[1:]) for name, law in laws.items()})
    lp = tree["sample_stats/lp"].isel(chain=1, draw=7).item()
    assert lp == pytest.approx((wanted.sum() + prior.log_density(laws)).item())


def test_the_model_is_the_draw_of_highest_density(tree, tmp_path):
    lp, attributes = tree["sample_stats/lp"], tree["model"].attrs
    assert attributes["drawn_by"] == "highest posterior density"
    assert lp.isel(chain=attributes["chain"], draw=attributes["draw"]).item() == lp.max().item()
    tree.to_netcdf(tmp_path / "fit.nc", engine="h5netcdf")
    assert load(tmp_path / "fit.nc").identical(HMM.from_dataset(tree["model"].to_dataset()))


def test_the_posterior_finds_the_truth():
    text = sample(MODEL, 100, length=20, seed=1).tokens
    found = fit_bayes(text, 2, start=MODEL, **{**OPTIONS, "chains": 4, "draws": 500})["posterior"].to_dataset()
    truth = {"sigma_min": torch.linalg.svdvals(MODEL.emission)[-1], "transition_trace_squared": 0.81 + 0.64 + 0.04}
    for name, value in truth.items():
        error = (found[name].mean() - float(value)) / found[name].std()
        assert abs(error) < 4
    assert (arviz_stats.rhat(xr.DataTree.from_dict({"posterior": found[INVARIANTS]}))["sigma_min"] < 1.1).all()


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_memory_models_have_the_same_tree(tmp_path):
    found = fit_bayes(TEXT[:6], 2, memory=(2, [0, 1]), **OPTIONS)
    assert found["posterior/memory_prior"].dims == ("chain", "draw", "cell", "memory_value")
    assert found["posterior/emission"].dims == ("chain", "draw", "memory_value", "state", "token")
    model = MemoryHMM.from_dataset(found["model"].to_dataset())
    best = found["model"].attrs
    assert np.allclose(
        log_likelihood(model, TEXT[:6]), found["log_likelihood/text"].isel(chain=best["chain"], draw=best["draw"])
    )
    again = fit_bayes(TEXT[:6], 2, memory=(2, [0, 1]), start=model, out=tmp_path / "fit", **OPTIONS)
    assert np.isfinite(arviz_stats.loo(again).elpd)


def test_the_same_seed_draws_the_same(tree):
    again = fit_bayes(TEXT, 2, **OPTIONS)
    xr.testing.assert_identical(tree["posterior"].to_dataset(), again["posterior"].to_dataset())


def test_one_state_and_one_position():
    found = fit_bayes([[0], [1], [1], [MASK]], 1, **{**OPTIONS, "draws": 400})
    share = found["posterior/emission"].sel(state=0, token=1).mean().item()
    assert share == pytest.approx(3 / 5, abs=0.05)  # Beta(3, 2)


def test_advancing_leaves_the_state_as_it_was():
    from ppl_hmm.estimation.bayes.target import Target
    from ppl_hmm.estimation.texts import WeightedTexts

    shapes = {"initial": (2,), "transition": (2, 2), "emission": (2, 3)}
    goal, stream = Target(WeightedTexts.of(TEXT), DirichletPrior.of(None, shapes)), torch.Generator().manual_seed(0)
    sampler = GibbsSampler()
    state = sampler.start(goal, goal.prior.draw(2, stream), stream)
    one, other = (sampler.advance(goal, state, 3, tuning=False)[1] for _ in range(2))
    assert all(torch.equal(one.laws[name], other.laws[name]) for name in shapes)


def fit(tokens=TEXT, n_states=2, **options):
    return fit_bayes(tokens, n_states, **{**OPTIONS, "draws": 2, "tune": 0, **options})


BAD = [
    case("no states", lambda: fit(n_states=0), "n_states", "at least 1", "0"),
    case("no chains", lambda: fit(chains=0), "chains", "at least 1", "0"),
    case("no draws", lambda: fit(draws=0), "draws", "at least 1", "0"),
    case("negative tuning", lambda: fit(tune=-1), "tune", "at least 0", "-1"),
    case("half a chain", lambda: fit(chains=1.5), "chains", "an integer", "1.5"),
    case("unknown method", lambda: fit(method="magic"), "unknown method", "gibbs, hmc", "magic"),
    case("one token type", lambda: fit([[1, 1]]), "tokens", "two different tokens", "only token 1"),
    case("NaN in text", lambda: fit([[0.0, np.nan]]), "tokens", "integers", "NaN"),
    case("token beyond V", lambda: fit(vocabulary_size=2), "token out of range", "0..1", "2"),
    case("prior of zero", lambda: fit(prior=0), "concentration of initial", "above 0", "0.0"),
    case("NaN prior", lambda: fit(prior={"emission": np.nan}), "concentration of emission", "finite", "nan"),
    case("unknown prior", lambda: fit(prior={"start": 1}), "names in prior", "initial", "start"),
    case("prior of another shape", lambda: fit(prior={"emission": np.ones((2, 4))}), "emission", "(2, 3)", "(2, 4)"),
    case("prior of words", lambda: fit(prior="flat"), "prior of initial", "numbers", "str"),
    case("start of another kind", lambda: fit(start=[[1]]), "start", "HMM", "list"),
    case("start of another size", lambda: fit(start=HMM([1], [[1]], [[0.2, 0.8]])), "start", "(2, 3)", "(1, 2)"),
    case("memory", lambda: fit(memory=3), "memory", "a pair (m, cells)", "int"),
    case("cells", lambda: fit(memory=(2, [0])), "memory cells", "2 integers", "(1,)"),
    case("seed", lambda: fit(seed=-1), "seed", "non-negative", "-1"),
    case("generator", lambda: fit(seed=torch.Generator(), out="fit"), "seed", "an integer", "generator"),
]


@pytest.mark.parametrize(("call", "what", "expected", "got", "error"), BAD)
def test_bad_input_is_named(call, what, expected, got, error):
    check(call, what, expected, got, error)
