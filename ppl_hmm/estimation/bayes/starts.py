"""Where chains start: spread more widely than the posterior, so that chains that agree have found what there is."""

from __future__ import annotations

import torch

from ppl_hmm.estimation.bayes.prior import Laws
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.climb import Objective, climb
from ppl_hmm.estimation.priors import Pseudocounts
from ppl_hmm.estimation.starts import MIXED, starting_laws

#: Expectation-maximisation before a chain: starts for each that is kept, iterations at most, the gain of the last one
#: in nats a token, and a prior that keeps laws off zero.
_STARTS, _ITERATIONS, _GAIN, _CONCENTRATION = 4, 100, 1e-4, 1.01
#: A chain starts as if its maximum had been seen on so small a share of the text: with this many times the variance.
_SPREAD = 10.0


def spread_laws(target: Target, chains: int, stream: torch.Generator) -> Laws:
    """Return laws (C,…) in turn around a maximum of the evidence and from the prior; with a memory, all from the prior.

    Maxima are the best of four climbs for each.
    """
    laws = target.prior.draw(chains, stream)
    if target.cell_of_state is not None:
        return laws
    around, _ = target.counts(_maxima(target, (chains + 1) // 2, stream))
    near = target.prior.draw_given({name: counts / _SPREAD for name, counts in around.items()}, stream)
    for name, law in laws.items():
        law[::2] = near[name]
    return laws


def _maxima(target: Target, n: int, stream: torch.Generator) -> Laws:
    """Return laws (n,…) at the highest maxima of the evidence that climbs from different starts came to."""
    n_states = target.prior.concentrations["initial"].shape[-1]
    begun, _ = starting_laws(target.texts, n_states, MIXED, _STARTS * n, stream)
    objective = Objective(target.texts, Pseudocounts.of(_CONCENTRATION, begun), frozenset(), backend=None)
    found = climb(objective, begun, _ITERATIONS, tolerance=_GAIN * target.texts.n_observed)
    best = found.log_posterior[-1].argsort(descending=True)[:n]
    laws = found.parameters._replace(emission=found.parameters.emission.mT)
    return {name: getattr(laws, name)[best] for name in target.fields}
