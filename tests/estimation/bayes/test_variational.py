"""Variational draws: exact where the posterior is a product of Dirichlet laws, and known to be too narrow elsewhere."""

import numpy as np
import pytest
import torch
from torch.distributions import Dirichlet

from ppl_hmm import HMM, HMMPrior, InvalidInput, MemoryHMMPrior, fit_bayes, log_likelihood, random_hmm, sample
from ppl_hmm.estimation.bayes import variational
from ppl_hmm.estimation.bayes.prior import DirichletPrior
from ppl_hmm.estimation.bayes.sampler import sampler_of
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.texts import WeightedTexts

TEXT = [[0, 1, 2, 2, 0], [2, 2, 1], [0, 0, 0, 2]]


def target_of(n_states, text=TEXT, prior=None):
    texts = WeightedTexts.of(text)
    shapes = {"initial": (n_states,), "transition": (n_states,) * 2, "emission": (n_states, texts.vocabulary_size)}
    return Target(texts, DirichletPrior.of(prior, shapes))


def fitted(target, n_steps, chains=2, seed=0):
    stream = torch.Generator().manual_seed(seed)
    sampler = sampler_of("svi")
    state = sampler.start(target, target.prior.draw(chains, stream), stream)
    return sampler.advance(target, state, n_steps, tuning=True)[0] if n_steps else state


def test_one_state_has_the_exact_posterior():
    target = target_of(1, prior={"emission": [0.5, 1.0, 2.0]})
    state = fitted(target, 0)
    want = torch.tensor([[[0.5 + 5, 1 + 2, 2 + 5]]], dtype=torch.float64).expand(2, 1, 3)
    torch.testing.assert_close(state["emission"], want, rtol=1e-12, atol=0)
    moved = fitted(target, 60)["emission"]
    torch.testing.assert_close(moved, want, rtol=0.1, atol=0)  # steps are noisy, and stay where they should


def test_the_natural_gradient_solves_the_fisher_information():
    stream = torch.Generator().manual_seed(0)
    concentration = 0.1 + 5 * torch.rand(2, 3, 4, dtype=torch.float64, generator=stream)
    gradient = torch.randn(2, 3, 4, dtype=torch.float64, generator=stream)
    of_entries, of_sum = torch.polygamma(1, concentration), torch.polygamma(1, concentration.sum(-1))
    fisher = torch.diag_embed(of_entries) - of_sum[..., None, None]
    want = torch.linalg.solve(fisher, gradient)
    torch.testing.assert_close(variational._natural(concentration, gradient), want, rtol=1e-10, atol=1e-12)


def test_the_gradient_is_that_of_the_bound_by_automatic_differentiation(monkeypatch):
    monkeypatch.setattr(variational, "_DRAWS", 3)
    target = target_of(2)
    guide = {name: each.requires_grad_() for name, each in fitted(target, 0).items() if name in target.fields}
    bound = variational._bound(target, guide, torch.Generator().manual_seed(1))
    found = torch.autograd.grad(bound, list(guide.values()))

    stream = torch.Generator().manual_seed(1)
    laws = {name: variational.draw_dirichlet(a.repeat(3, *[1] * (a.ndim - 1)), stream) for name, a in guide.items()}
    total = sum(log_likelihood(HMM(**laws), row).sum() for row in ([each] for each in TEXT)) / 3
    for name, concentration in guide.items():
        prior = Dirichlet(target.prior.concentrations[name].expand(concentration.shape))
        total = total - torch.distributions.kl_divergence(Dirichlet(concentration), prior).sum()
    for one, other in zip(found, torch.autograd.grad(total, list(guide.values())), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_run_goes_on_bit_for_bit():
    target, sampler = target_of(2), sampler_of("svi")
    begun = fitted(target, 0)
    whole, drawn = sampler.advance(target, begun, 4, tuning=False)
    again, repeated = sampler.advance(target, begun, 4, tuning=False)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert all(torch.equal(drawn.laws[name], repeated.laws[name]) for name in drawn.laws)
    assert {name: tuple(law.shape) for name, law in drawn.laws.items()} == {
        "initial": (2, 4, 2),
        "transition": (2, 4, 2, 2),
        "emission": (2, 4, 2, 3),
    }


@pytest.mark.parametrize("memory", [None, (2, [0, 0])])
def test_a_fit_says_what_its_draws_are(memory, caplog):
    tree = fit_bayes(TEXT, 2, method="svi", chains=2, draws=5, tune=3, seed=0, memory=memory)
    assert tree.attrs["draws_of"] == "guide"
    assert "they spread less than the posterior" in caplog.text
    assert {"lp", "log_guide"} <= set(tree["sample_stats"])
    assert np.isfinite(tree["sample_stats/log_guide"]).all()


def test_priors_of_programs_are_priors_of_fits():
    prior = HMMPrior([1.0, 2.0], [[1.0, 0.5], [0.3, 2.0]], [[0.1, 1.0, 3.0], [1.0, 1.0, 1.0]])
    found = target_of(2, prior=prior).prior.concentrations
    assert all(torch.equal(found[name], concentration) for name, concentration in prior.concentrations.items())
    with pytest.raises(InvalidInput, match=r"prior of initial: expected a number, or shape \(3,\), got shape \(2,\)"):
        target_of(3, prior=prior)
    with pytest.raises(InvalidInput, match=r"names in prior: .*got memory_prior"):
        target_of(2, prior=MemoryHMMPrior.symmetric([0, 0], 2, 3))


@pytest.mark.slow
def test_its_spread_is_too_small():
    ratios = []
    for seed in range(6):
        texts = sample(random_hmm("dirichlet", 4, 8, seed=seed), 100, length=64, seed=seed).tokens
        spread = {}
        for method in ("svi", "gibbs"):
            tree = fit_bayes(texts, 4, method=method, vocabulary_size=8, chains=4, draws=500, tune=500, seed=seed)
            spread[method] = float(tree["posterior/sigma_min"].std("draw").mean())
        ratios.append(spread["svi"] / spread["gibbs"])
    assert np.exp(np.log(ratios).mean()) < 1, ratios
