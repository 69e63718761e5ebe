"""Coordinates of laws, and the log posterior in them: against determinants, autograd, differences and Pyro."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Dirichlet
from torch.distributions import StickBreakingTransform

from ppl_hmm import HMM, MASK, log_likelihood
from ppl_hmm.estimation.bayes.potential import LogPosterior
from ppl_hmm.estimation.bayes.prior import DirichletPrior
from ppl_hmm.estimation.bayes.simplex import LEAST_SHARE, SimplexCoordinates, contrasts
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.texts import WeightedTexts

TEXTS = {
    "full": [[0, 2, 1, 1], [2, 2, 0, 1], [2, 2, 0, 1]],
    "masks": [[0, MASK, 1, 1], [MASK, 2, 0, 1], [MASK] * 4],
    "ragged": [[0, 2, 1, 1, 2], [1], [2, 0]],
    "one token": [[0], [2], [1], [1]],
}
CASES = [(text, n_states, n_tokens) for text in TEXTS for n_states, n_tokens in ((1, 3), (2, 3), (3, 4))]


def problem(text, n_states, n_tokens, concentration=None):
    texts = WeightedTexts.of(TEXTS[text], vocabulary_size=n_tokens)
    shapes = {"initial": (n_states,), "transition": (n_states, n_states), "emission": (n_states, n_tokens)}
    prior = DirichletPrior.of(concentration or {"transition": 0.7, "emission": 1.5}, shapes)
    return Target(texts, prior)


def points_of(target, seed=0, n=2):
    n_coordinates = sum(LogPosterior(target).coordinates.sizes.values())
    return torch.randn(n, n_coordinates, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n_outcomes", [1, 2, 3, 7])
def test_contrasts_are_orthonormal_and_sum_to_zero(n_outcomes):
    made = contrasts(n_outcomes, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(made.T @ made, torch.eye(n_outcomes - 1, dtype=torch.float64))
    torch.testing.assert_close(made.sum(0), torch.zeros(n_outcomes - 1, dtype=torch.float64))


def test_laws_of_the_coordinates_of_laws_are_the_laws():
    target = problem("full", 3, 4)
    laws = target.prior.draw(5, torch.Generator().manual_seed(0))
    coordinates = LogPosterior(target).coordinates
    found = coordinates.log_laws(coordinates.coordinates(laws))
    for name, law in laws.items():
        torch.testing.assert_close(found[name].exp(), law)


def test_zeros_are_moved_inside():
    coordinates = SimplexCoordinates({"initial": (3,)})
    law = coordinates.log_laws(coordinates.coordinates({"initial": torch.tensor([[0.0, 0.5, 0.5]]).double()}))
    torch.testing.assert_close(law["initial"].exp()[0, 0].item(), LEAST_SHARE)


@pytest.mark.parametrize("n_outcomes", [2, 3, 5])
def test_jacobian_is_the_determinant(n_outcomes):
    coordinates = SimplexCoordinates({"emission": (n_outcomes,)})
    point = torch.randn(n_outcomes - 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def all_but_one(at):
        return coordinates.log_laws(at[None])["emission"][0, :-1].exp()

    determinant = torch.autograd.functional.jacobian(all_but_one, point)
    expected = torch.linalg.slogdet(determinant).logabsdet
    torch.testing.assert_close(coordinates.log_jacobian(coordinates.log_laws(point[None]))[0], expected)


@pytest.mark.parametrize(("text", "n_states", "n_tokens"), CASES)
def test_gradient_is_that_of_autograd(text, n_states, n_tokens):
    target = problem(text, n_states, n_tokens)
    log_posterior, points = LogPosterior(target), points_of(target).requires_grad_()
    log_laws = log_posterior.coordinates.log_laws(points)
    laws = {name: each.exp() for name, each in log_laws.items()}
    tokens, lengths = padded(TEXTS[text])
    evidence = log_likelihood(HMM(**laws), tokens, lengths=lengths).sum(-1)
    density = evidence + target.prior.log_density(laws) + log_posterior.coordinates.log_jacobian(log_laws)
    (gradient,) = torch.autograd.grad(density.sum(), points)
    found = log_posterior(points.detach())
    torch.testing.assert_close(found.log_density, density.detach())
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-8, atol=1e-9)


def test_gradient_is_that_of_differences():
    target = problem("masks", 3, 4)
    log_posterior, (point,) = LogPosterior(target), points_of(target, n=1)
    step = 1e-5 * torch.eye(len(point), dtype=torch.float64)
    difference = (log_posterior(point + step).log_density - log_posterior(point - step).log_density) / 2e-5
    torch.testing.assert_close(log_posterior(point[None]).gradient[0], difference, rtol=1e-6, atol=1e-7)


def test_density_is_that_of_a_traced_pyro_program():
    """Up to the two coordinate systems' Jacobians: laws have one density by their first shares."""
    target = problem("full", 2, 3)
    log_posterior, points = LogPosterior(target), points_of(target)
    log_laws = log_posterior.coordinates.log_laws(points)
    for number in range(len(points)):
        laws = {name: each[number].exp() for name, each in log_laws.items()}
        expected = traced(laws, target.prior, TEXTS["full"])
        ours = log_posterior(points).log_density[number] - log_posterior.coordinates.log_jacobian(log_laws)[number]
        torch.testing.assert_close(ours, expected)
        stick = StickBreakingTransform()
        unbounded = {name: stick.inv(law) for name, law in laws.items()}
        by_pyro = expected + sum(stick.log_abs_det_jacobian(unbounded[name], law).sum() for name, law in laws.items())
        both = stacked_jacobian(log_posterior.coordinates, points[number], stick)
        torch.testing.assert_close(log_posterior(points).log_density[number], by_pyro + both)


def traced(laws, prior, texts):
    """Return the log density of a program of the laws and of the texts."""

    def program():
        drawn = {}
        for name, alpha in prior.concentrations.items():
            drawn[name] = pyro.sample(name, Dirichlet(alpha).to_event(alpha.ndim - 1))
        pyro.factor("texts", log_likelihood(HMM(**drawn), torch.tensor(texts)).sum())

    return poutine.trace(poutine.condition(program, laws)).get_trace().log_prob_sum()


def stacked_jacobian(coordinates, point, stick):
    """Return log |d stick-breaking / d ours| by a determinant."""

    def sticks(at):
        log_laws = coordinates.log_laws(at[None])
        return torch.cat([stick.inv(each[0].exp()).flatten() for each in log_laws.values()])

    return torch.linalg.slogdet(torch.autograd.functional.jacobian(sticks, point)).logabsdet


def test_far_points_have_density_zero_and_no_gradient():
    target = problem("full", 2, 3)
    points = points_of(target, n=3)
    points[0, 0], points[1, -1] = 1e4, torch.nan
    density = LogPosterior(target)(points)
    assert density.log_density[:2].tolist() == [-torch.inf] * 2
    assert torch.isfinite(density.log_density[2])
    assert not density.gradient[:2].any()


def padded(texts):
    lengths = torch.tensor([len(text) for text in texts])
    return [[*text, *[MASK] * (int(lengths.max()) - len(text))] for text in texts], lengths
