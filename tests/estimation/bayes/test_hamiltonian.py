"""Hamiltonian Monte Carlo against a posterior that quadrature integrates; its state, its steps, its divergences."""

from __future__ import annotations

import math

import pytest
import torch
import toy

from ppl_hmm import random_hmm, sample, schema
from ppl_hmm.estimation.bayes import mixing
from ppl_hmm.estimation.bayes.hamiltonian import HamiltonianSampler, _trajectory, halton
from ppl_hmm.estimation.bayes.potential import LogPosterior
from ppl_hmm.estimation.bayes.prior import DirichletPrior
from ppl_hmm.estimation.bayes.starts import spread_laws
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.bayes.tree import invariants
from ppl_hmm.estimation.bayes.tuning import FIRST_WINDOW, Scales, Steps, Times, chees_gradient
from ppl_hmm.estimation.texts import WeightedTexts
from ppl_hmm.schema import Agreement

SAMPLER = HamiltonianSampler()


def started(target, chains=3, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return SAMPLER.start(target, target.prior.draw(chains, stream), stream)


def test_draws_are_those_of_the_posterior():
    target = toy.target()
    state, _ = SAMPLER.advance(target, started(target, chains=6), 80, tuning=True)
    _, block = SAMPLER.advance(target, state, 80, tuning=False)
    toy.within_monte_carlo_error(block.laws)


def test_log_density_is_that_of_the_target():
    target = toy.target()
    _, block = SAMPLER.advance(target, started(target), 5, tuning=True)
    last = {name: law[:, -1] for name, law in block.laws.items()}
    torch.testing.assert_close(block.statistics[schema.LP][:, -1], target.log_density(last))


def test_two_calls_are_one_bit_for_bit():
    target, n = toy.target(), FIRST_WINDOW + 5  # beyond the end of a window
    whole, block = SAMPLER.advance(target, started(target), n, tuning=True)
    half, first = SAMPLER.advance(target, started(target), 20, tuning=True)
    kept = {name: torch.from_numpy(value.numpy().copy()) for name, value in half.items()}
    resumed, second = SAMPLER.advance(target, half, n - 20, tuning=True)
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
        assert torch.equal(half[name], kept[name]), name
    for name, law in block.laws.items():
        assert torch.equal(torch.cat([first.laws[name], second.laws[name]], 1), law)


def test_trajectories_can_be_run_back():
    target = toy.target()
    log_posterior, state = LogPosterior(target), started(target)
    points, scales = state["points"], Scales.starting(state["points"])
    momentum = torch.randn(points.shape, generator=torch.Generator().manual_seed(1), dtype=points.dtype)
    step = torch.tensor(0.1).double()
    there = _trajectory(log_posterior, points, log_posterior(points), momentum, scales, step, 7)
    back = _trajectory(log_posterior, there.points, there.density, -there.momentum, scales, step, 7)
    torch.testing.assert_close(back.points, points)
    torch.testing.assert_close(back.momentum, -momentum)


def test_diverging_trajectories_are_counted_and_refused():
    target = toy.target()
    state = started(target)
    state |= Steps.starting(torch.tensor(1e3).double())._asdict() | Times.starting(torch.tensor(1e4).double())._asdict()
    after, block = SAMPLER.advance(target, state, 3, tuning=False)
    assert block.statistics[schema.DIVERGING].all()
    assert not block.statistics[schema.ACCEPTANCE_RATE].any()
    assert torch.equal(after["points"], state["points"])


@pytest.mark.parametrize("seed", range(2))
def test_sparse_models_of_many_states_are_reported_not_to_mix(seed):
    model = random_hmm("dirichlet", 10, 10, seed=seed, concentration=0.1)
    tokens = sample(model, 30, 30, seed=seed).tokens
    texts = WeightedTexts.of(tokens, vocabulary_size=10)
    prior = DirichletPrior.of(0.1, {"initial": (10,), "transition": (10, 10), "emission": (10, 10)})
    target, stream = Target(texts, prior), torch.Generator().manual_seed(seed)
    laws = spread_laws(target, 4, stream)
    state, _ = SAMPLER.advance(target, SAMPLER.start(target, laws, stream), 15, tuning=True)
    _, block = SAMPLER.advance(target, state, 15, tuning=False)
    numbers = {name: value.numpy() for name, value in invariants(block.laws).items()}
    numbers[schema.LOG_EVIDENCE] = block.statistics[schema.LP].numpy()
    found = mixing.mixing(numbers, numbers[schema.LOG_EVIDENCE][..., None])
    assert found.attrs["agreement"] in (Agreement.MODES, Agreement.UNFINISHED)
    assert "R-hat" in found.attrs["summary"]


def test_halton_numbers():
    assert [halton(number) for number in range(1, 8)] == [1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]


def test_step_size_finds_its_acceptance():
    """Acceptance falls with the step as exp(−step): 0.651 at step −log 0.651."""
    steps = Steps.starting(torch.tensor(3.0).double())
    for _ in range(500):
        steps = steps.after(torch.exp(-steps.log_step.exp())[None], 0.651)
    assert float(steps.log_step_mean.exp()) == pytest.approx(-math.log(0.651), rel=0.05)


def test_trajectory_time_is_best_by_unit_of_time():
    """Of a normal law of variance 1 points go round, and ChEES is sin² t: sin² t / t is largest where tan t = 2t."""
    stream, times = torch.Generator().manual_seed(0), Times.starting(torch.tensor(0.5).double())
    for _ in range(600):
        before, momentum = torch.randn(2, 50, 1, generator=stream, dtype=torch.float64)
        t = times.log_time.exp()
        after, velocity = before * t.cos() + momentum * t.sin(), momentum * t.cos() - before * t.sin()
        times = times.after(chees_gradient(before, after, velocity, t, torch.ones(50).double()))
    assert float(times.log_time_mean.exp()) == pytest.approx(1.1656, rel=0.05)


def test_scales_are_deviations_of_the_last_window():
    stream = torch.Generator().manual_seed(0)
    scales, width = Scales.starting(torch.zeros(2, 2).double()), torch.tensor([[0.1, 1.0], [2.0, 0.5]]).double()
    for _ in range(FIRST_WINDOW * 7):
        scales, _ = scales.after(5 + width * torch.randn(2, 2, generator=stream, dtype=torch.float64))
    torch.testing.assert_close(scales.scale, width, rtol=0.15, atol=0)
