"""Where chains start: spread more widely than the posterior, so that chains that agree have found what there is."""

from __future__ import annotations

import torch

from ppl_hmm.estimation.bayes.prior import Laws
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.climb import Objective, climb
from ppl_hmm.estimation.priors import Pseudocounts
from ppl_hmm.estimation.starts import MIXED, starting_laws
from ppl_hmm.exact.baum_welch import Counts

#: Expectation-maximisation before a chain: iterations at most, the gain of the last one in nats a token, and a prior
#: that keeps laws off zero.
_ITERATIONS, _GAIN, _CONCENTRATION = 100, 1e-4, 1.01
#: A chain starts as if its maximum had been seen on so small a share of the text: with this many times the variance.
_SPREAD = 10.0


def spread_laws(target: Target, chains: int, stream: torch.Generator) -> Laws:
    """Return laws (C,…) in turn around a maximum of the evidence and from the prior; with a memory, all from the prior.

    Each maximum is climbed to from a start of its own.
    """
    laws = target.prior.draw(chains, stream)
    if target.cell_of_state is not None:
        return laws
    n_climbed = (chains + 1) // 2
    around, _ = target.counts(_maxima(target, n_climbed, stream))
    near = target.prior.draw_given({name: counts / _SPREAD for name, counts in around.items()}, stream)
    for name, law in laws.items():
        law[::2] = near[name]
    return laws


def _maxima(target: Target, n: int, stream: torch.Generator) -> Laws:
    """Return laws of n models at maxima of the evidence."""
    texts, n_states = target.texts, target.prior.concentrations["initial"].shape[-1]
    start, _ = starting_laws(texts, n_states, MIXED, n, stream)
    objective = Objective(texts, Pseudocounts.of(_CONCENTRATION, start), frozenset(), None)
    found: Counts = climb(objective, start, _ITERATIONS, _GAIN * texts.n_observed).parameters
    return {"initial": found.initial, "transition": found.transition, "emission": found.emission.mT.contiguous()}
