"""Simulation-based calibration: laws from the prior, text from the laws; among posterior draws the laws rank uniformly.

All simulations are chains of one sampler, each with text of its own.
Source: Talts, Betancourt, Simpson, Vehtari & Gelman (2018).
"""

import time

import pytest
import torch
from scipy import stats

from ppl_hmm import HMM, sample
from ppl_hmm.estimation.bayes.gibbs import GibbsSampler
from ppl_hmm.estimation.bayes.prior import DirichletPrior
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.bayes.tree import invariants
from ppl_hmm.estimation.texts import Batch, WeightedTexts

SIMULATIONS, RANKED, THIN, BURN = 200, 99, 20, 200
N_STATES, V, TEXTS, LENGTH, BINS = 2, 3, 10, 12, 10
ALPHA = {"initial": (N_STATES,), "transition": (N_STATES, N_STATES), "emission": (N_STATES, V)}


def quantities(target, laws):
    """Return what does not depend on the order of states (C,), by name."""
    # Of the texts, one is told apart: the mean over texts alone would hide a wrong weight of few.
    token_law = (laws["initial"][:, None] @ laws["transition"] @ laws["emission"])[:, 0]
    return {
        **invariants(laws),
        "log_likelihood": target.log_evidence(laws),
        "probability of the first token": token_law[:, 0],
    }


def ranks(sampled_prior, seed):
    """Return the rank (SIMULATIONS,) of the truth among draws of a sampler that believes in ``sampled_prior``."""
    stream = torch.Generator().manual_seed(seed)
    truth = DirichletPrior.of(1.0, ALPHA).draw(SIMULATIONS, stream)
    tokens = sample(HMM(*truth.values()), TEXTS, LENGTH, stream).tokens
    ends = torch.full((SIMULATIONS, TEXTS), LENGTH)
    batch = Batch(tokens, ends, torch.ones(TEXTS, dtype=torch.float64), torch.arange(TEXTS))
    target, sampler = Target(WeightedTexts((batch,), V), DirichletPrior.of(sampled_prior, ALPHA)), GibbsSampler()
    state = sampler.start(target, target.prior.draw(SIMULATIONS, stream), stream)
    state, _ = sampler.advance(target, state, BURN, tuning=True)
    of_truth = quantities(target, truth)
    below = {name: torch.zeros(SIMULATIONS) for name in of_truth}
    for _ in range(RANKED):
        state, block = sampler.advance(target, state, THIN, tuning=False)
        for name, drawn in quantities(target, {name: law[:, -1] for name, law in block.laws.items()}).items():
            below[name] += drawn < of_truth[name]
    return below


def p_values(found):
    """Return the chi-square p-value of uniform ranks, by quantity."""
    counts = {name: torch.histc(rank, BINS, -0.5, RANKED + 0.5).numpy() for name, rank in found.items()}
    return {name: stats.chisquare(count).pvalue for name, count in counts.items()}


@pytest.mark.slow
def test_truths_rank_uniformly_and_do_not_for_another_prior():
    started = time.process_time()
    calibrated = p_values(ranks(1.0, seed=0))
    seconds = time.process_time() - started
    doubled = p_values(ranks({"emission": 2.0}, seed=0))
    assert min(calibrated.values()) > 0.01, calibrated
    assert doubled["sigma_min"] < 0.01, doubled
    assert seconds < 60, seconds
