"""Sweeps a second of the Gibbs sampler: all chains draw paths of all texts, then laws."""

import time

import pytest
import torch

from ppl_hmm import random_hmm, sample
from ppl_hmm.estimation.bayes.gibbs import GibbsSampler
from ppl_hmm.estimation.bayes.prior import DirichletPrior
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.texts import WeightedTexts

CHAINS, K, V, SWEEPS = 4, 10, 10, 100
MUST = 80  # a second of one processor


@pytest.mark.slow
def test_sweeps_a_second():
    texts = WeightedTexts.of(sample(random_hmm("dirichlet", K, V, seed=0), 200, length=100, seed=0).tokens)
    target = Target(texts, DirichletPrior.of(None, {"initial": (K,), "transition": (K, K), "emission": (K, V)}))
    stream, sampler = torch.Generator().manual_seed(0), GibbsSampler()
    state = sampler.start(target, target.prior.draw(CHAINS, stream), stream)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        state, _ = sampler.advance(target, state, SWEEPS, tuning=False)
        seconds.append(time.process_time() - started)
    assert SWEEPS / min(seconds) > MUST
