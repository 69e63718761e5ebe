"""Pyro's NUTS through our potential: against quadrature; its state."""

from __future__ import annotations

import pytest
import torch
import toy

from ppl_hmm import schema
from ppl_hmm.estimation.bayes.potential import LogPosterior
from ppl_hmm.estimation.bayes.pyro_nuts import NoUTurnSampler, _Potential

SAMPLER = NoUTurnSampler()


def started(target, chains=2, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return SAMPLER.start(target, target.prior.draw(chains, stream), stream)


@pytest.mark.slow
def test_draws_are_those_of_the_posterior():
    target = toy.target()
    state, _ = SAMPLER.advance(target, started(target), 100, tuning=True)
    _, block = SAMPLER.advance(target, state, 200, tuning=False)
    toy.within_monte_carlo_error(block.laws)


def test_two_calls_are_one_bit_for_bit():
    target = toy.target()
    before = torch.get_rng_state()
    whole, block = SAMPLER.advance(target, started(target), 4, tuning=True)
    half, first = SAMPLER.advance(target, started(target), 2, tuning=True)
    resumed, second = SAMPLER.advance(target, half, 2, tuning=True)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    for name, law in block.laws.items():
        assert torch.equal(torch.cat([first.laws[name], second.laws[name]], 1), law)
    assert torch.equal(torch.get_rng_state(), before)  # the caller's stream is untouched


def test_statistics_are_those_of_the_draws():
    target = toy.target()
    _, block = SAMPLER.advance(target, started(target, chains=1), 2, tuning=True)
    last = {name: law[:, -1] for name, law in block.laws.items()}
    torch.testing.assert_close(block.statistics[schema.LP][:, -1], target.log_density(last))
    n_steps, depth = block.statistics[schema.N_STEPS], block.statistics[schema.TREE_DEPTH]
    assert (n_steps < 2**depth).all()
    assert ((block.statistics[schema.ACCEPTANCE_RATE] <= 1) & (block.statistics[schema.ACCEPTANCE_RATE] >= 0)).all()


def test_autograd_sees_the_gradient_of_the_density():
    target = toy.target()
    log_posterior = LogPosterior(target)
    (point,) = log_posterior.coordinates.coordinates(target.prior.draw(1, torch.Generator().manual_seed(0)))
    point.requires_grad_()
    (gradient,) = torch.autograd.grad(3 * _Potential.apply(point, log_posterior), point)
    torch.testing.assert_close(gradient, -3 * log_posterior(point.detach()[None]).gradient[0])
