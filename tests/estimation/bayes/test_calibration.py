"""Simulation-based calibration: laws from the prior, text from the laws; among posterior draws the laws rank uniformly.

Simulations are chains of one sampler, each with text of its own.
Source: Talts, Betancourt, Simpson, Vehtari & Gelman (2018).
"""

import time

import pytest
import torch
from scipy import stats

from ppl_hmm import HMM, sample
from ppl_hmm.estimation.bayes.gibbs import GibbsSampler
from ppl_hmm.estimation.bayes.hamiltonian import HamiltonianSampler
from ppl_hmm.estimation.bayes.prior import DirichletPrior
from ppl_hmm.estimation.bayes.pyro_nuts import NoUTurnSampler
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.bayes.tree import invariants
from ppl_hmm.estimation.texts import Batch, WeightedTexts

SHAPES = {"initial": (2,), "transition": (2, 2), "emission": (2, 3)}
PRIOR = DirichletPrior.of(None, SHAPES)


def simulated(n, n_texts, length, seed):
    """Return laws (n,…) from the prior, a corpus (n,B,T) of each, and the stream they came from."""
    stream = torch.Generator().manual_seed(seed)
    truth = PRIOR.draw(n, stream)
    return truth, sample(HMM(*truth.values()), n_texts, length, stream).tokens, stream


def quantities(target, laws):
    """Return what does not depend on the order of states (C,), by name."""
    # One token's law is told apart: the mean over texts alone would hide a wrong weight of few.
    token_law = (laws["initial"][:, None] @ laws["transition"] @ laws["emission"])[:, 0]
    return {
        **invariants(laws),
        "log_likelihood": target.log_evidence(laws),
        "probability of the first token": token_law[:, 0],
    }


def ranks(sampler, simulation, prior=PRIOR, *, tune, kept, thin):
    """Return by quantity how many kept draws of a sampler that believes in ``prior`` are below the truth (n,)."""
    truth, tokens, stream = simulation
    n_texts, length = tokens.shape[1:]
    ends, weights = torch.full(tokens.shape[:2], length), torch.ones(n_texts, dtype=torch.float64)
    target = Target(WeightedTexts((Batch(tokens, ends, weights, torch.arange(n_texts)),), 3), prior)
    state = sampler.start(target, prior.draw(len(tokens), stream), stream)
    state, _ = sampler.advance(target, state, tune, tuning=True)
    of_truth = quantities(target, truth)
    below = {name: torch.zeros(len(tokens)) for name in of_truth}
    for _ in range(kept):
        state, block = sampler.advance(target, state, thin, tuning=False)
        for name, drawn in quantities(target, {name: law[:, -1] for name, law in block.laws.items()}).items():
            below[name] += drawn < of_truth[name]
    return below


def p_values(found, kept, bins):
    """Return the chi-square p-value of uniform ranks, by quantity."""
    counts = {name: torch.histc(rank, bins, -0.5, kept + 0.5).numpy() for name, rank in found.items()}
    return {name: float(stats.chisquare(count).pvalue) for name, count in counts.items()}


@pytest.mark.slow
def test_truths_rank_uniformly_among_gibbs_draws_and_do_not_for_another_prior():
    options = {"tune": 200, "kept": 99, "thin": 20}
    started = time.process_time()
    calibrated = p_values(ranks(GibbsSampler(), simulated(200, 10, 12, seed=0), **options), 99, 10)
    seconds = time.process_time() - started
    doubled = DirichletPrior.of({"emission": 2.0}, SHAPES)
    mistaken = p_values(ranks(GibbsSampler(), simulated(200, 10, 12, seed=0), doubled, **options), 99, 10)
    assert min(calibrated.values()) > 0.01, calibrated
    assert mistaken["sigma_min"] < 0.01, mistaken
    assert seconds < 60, seconds


@pytest.mark.slow
def test_truths_rank_uniformly_among_hamiltonian_draws():
    found = ranks(HamiltonianSampler(), simulated(200, 8, 8, seed=0), tune=200, kept=49, thin=3)
    found = p_values(found, 49, 10)
    assert min(found.values()) > 0.01, found


@pytest.mark.slow
def test_truths_rank_uniformly_among_no_u_turn_draws():
    truth, tokens, stream = simulated(50, 8, 8, seed=1)
    chains = [({name: law[c, None] for name, law in truth.items()}, tokens[c, None], stream) for c in range(50)]
    parts = [ranks(NoUTurnSampler(), chain, tune=60, kept=19, thin=3) for chain in chains]
    found = p_values({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, 19, 5)
    assert min(found.values()) > 0.01, found
