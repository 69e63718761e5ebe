"""Simulation-based calibration of the Hamiltonian samplers: truths rank uniformly among draws given their text."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from ppl_hmm import HMM, sample
from ppl_hmm.estimation.bayes.hamiltonian import HamiltonianSampler
from ppl_hmm.estimation.bayes.prior import DirichletPrior
from ppl_hmm.estimation.bayes.pyro_nuts import NoUTurnSampler
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.bayes.tree import invariants
from ppl_hmm.estimation.texts import Batch, WeightedTexts

TEXTS, LENGTH, V = 8, 8, 3
SHAPES = {"initial": (2,), "transition": (2, 2), "emission": (2, V)}
PRIOR = DirichletPrior.of(None, SHAPES)


def simulated(n, seed):
    """Return laws (n,…) from the prior, and a text (n,B,T) of each."""
    stream = torch.Generator().manual_seed(seed)
    truth = PRIOR.draw(n, stream)
    return truth, sample(HMM(*truth.values()), TEXTS, LENGTH, stream).tokens, stream


def target_of(tokens):
    """Return the posterior given texts (C,B,T), of a chain each."""
    ends = torch.full(tokens.shape[:2], LENGTH)
    batch = Batch(tokens, ends, torch.ones(TEXTS, dtype=torch.float64), torch.arange(TEXTS))
    return Target(WeightedTexts((batch,), V), PRIOR)


def quantities(target, laws):
    return {**invariants(laws), "log evidence": target.log_evidence(laws)}


def ranks(sampler, truth, tokens, stream, tune, kept, thin):
    """Return by quantity how many of the kept draws are below the truth (C,)."""
    target = target_of(tokens)
    start = sampler.start(target, PRIOR.draw(len(tokens), stream), stream)
    state, _ = sampler.advance(target, start, tune, tuning=True)
    _, block = sampler.advance(target, state, kept * thin, tuning=False)
    of_truth = quantities(target, truth)
    chosen = ({name: law[:, d] for name, law in block.laws.items()} for d in range(0, kept * thin, thin))
    drawn = [quantities(target, laws) for laws in chosen]
    return {name: sum((each[name] < value).double() for each in drawn) for name, value in of_truth.items()}


def p_values(found, kept, bins):
    counts = {name: torch.histc(rank, bins, -0.5, kept + 0.5).numpy() for name, rank in found.items()}
    return {name: float(stats.chisquare(count).pvalue) for name, count in counts.items()}


@pytest.mark.slow
def test_truths_rank_uniformly_among_hamiltonian_draws():
    truth, tokens, stream = simulated(200, seed=0)
    found = p_values(ranks(HamiltonianSampler(), truth, tokens, stream, 200, 49, 3), 49, 10)
    assert min(found.values()) > 0.01, found


@pytest.mark.slow
def test_truths_rank_uniformly_among_no_u_turn_draws():
    truth, tokens, stream = simulated(50, seed=1)
    parts = [
        ranks(NoUTurnSampler(), {name: law[c, None] for name, law in truth.items()}, tokens[c, None], stream, 60, 19, 3)
        for c in range(len(tokens))
    ]
    found = p_values({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, 19, 5)
    assert min(found.values()) > 0.01, found
