"""Effective draws of a posterior a CPU second, beside peers; and how long chains take to agree."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from benchmarks import posteriors, problems
from benchmarks.records import OWN, Shape
from ppl_hmm import fit_bayes, schema
from ppl_hmm.estimation.bayes.hamiltonian import HamiltonianSampler
from ppl_hmm.estimation.bayes.mixing import AGREE
from ppl_hmm.estimation.bayes.pyro_nuts import NoUTurnSampler
from ppl_hmm.estimation.bayes.tree import invariants

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

SHAPE, CHAINS = Shape(100, 64, 4, 8), 4
#: How many times the effective draws of each peer we must have, or aim at.
DISCRETE_HMM, NUTS, NUMPYRO = "Pyro NUTS, DiscreteHMM", "Pyro NUTS, our potential", "numpyro NUTS, scan"
AIMS = {DISCRETE_HMM: 20, NUTS: None, NUMPYRO: 3}
#: CPU seconds until chains from spread starts agree, by default options.
LONGEST = 90


@pytest.mark.slow  # Pyro's sampler takes over ten minutes for its draws
def test_effective_draws():
    torch.set_num_threads(1)
    model, text = problems.chain(SHAPE, torch.float64)
    target = posteriors.target_of(model, text)
    drawn = {
        OWN: posteriors.own(HamiltonianSampler(), model, text, CHAINS),
        NUTS: posteriors.own(NoUTurnSampler(), model, text, 1),
        NUMPYRO: posteriors.numpyro_scan(model, text, CHAINS),
        DISCRETE_HMM: posteriors.pyro_discrete_hmm(model, text),
    }
    rates = {name: effective(target, laws) / seconds for name, (laws, seconds) in drawn.items()}
    for name, rate in rates.items():
        print(f"{name}: {rate.round(2)} effective draws of σ_min, tr A², log-evidence a CPU second")
    for name, aim in AIMS.items():
        print(f"{name}: ours are {(rates[OWN] / rates[name]).round(1)} times as many, aim {aim}")
    assert (rates[OWN] >= 20 * rates[DISCRETE_HMM]).all()
    assert (rates[NUTS] >= 4 * rates[DISCRETE_HMM]).all()


def test_chains_from_spread_starts_agree_by_default():
    torch.set_num_threads(1)
    _, text = problems.chain(SHAPE, torch.float64)
    fit_bayes(text[:5, :8], 2, tune=2, draws=5, seed=0)  # compiles
    began = time.process_time()
    tree = fit_bayes(text, SHAPE.states, vocabulary_size=SHAPE.vocabulary, chains=CHAINS, seed=0)
    seconds = time.process_time() - began
    print(f"{seconds:.0f} CPU seconds: {tree[schema.MIXING].attrs['summary']}")
    assert (tree[schema.MIXING][schema.RHAT] <= AGREE).all()
    assert seconds < LONGEST


def effective(target, laws):
    """Return the effective numbers of draws (C,D,…) of the invariants."""
    from arviz_stats.base.array import array_stats

    shape = laws["initial"].shape[:2]
    flat = {name: law.flatten(0, 1) for name, law in laws.items()}
    numbers = {**invariants(laws), schema.LOG_EVIDENCE: target.log_evidence(flat).view(shape)}
    return np.array([float(np.asarray(array_stats.ess(values.numpy()))) for values in numbers.values()])
