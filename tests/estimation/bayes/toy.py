"""A posterior small enough to integrate: two states, two tokens, three short texts."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from ppl_hmm import HMM, MASK, log_likelihood
from ppl_hmm.estimation.bayes.prior import DirichletPrior
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.texts import WeightedTexts

TEXTS = torch.tensor([[0, 1, 0, 0], [1, 1, 0, MASK], [0, 0, MASK, 0]])
SHAPES = {"initial": (2,), "transition": (2, 2), "emission": (2, 2)}
#: Nodes of Gauss and Legendre that integrate polynomials of degree 23 in each of five shares exactly.
NODES = 12


def target():
    return Target(WeightedTexts.of(TEXTS, vocabulary_size=2), DirichletPrior.of(None, SHAPES))


def invariants(laws):
    """Return polynomials of the laws (…,) that no order of states changes."""
    transition, emission = laws["transition"], laws["emission"]
    trace = (transition * transition.mT).sum((-2, -1))
    return {
        "trace": trace,
        "trace squared": trace**2,
        "determinant squared": torch.linalg.det(emission) ** 2,
        "first token": (laws["initial"][..., None, :] @ transition @ emission)[..., 0, 0],
    }


def expectations():
    """Return posterior expectations of the invariants under uniform priors, by quadrature, exact to rounding."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    points = torch.tensor(list(itertools.product((nodes + 1) / 2, repeat=5)))
    mass = torch.tensor(list(itertools.product(weights / 2, repeat=5))).prod(-1)
    shares = torch.stack([points, 1 - points], -1)
    laws = {"initial": shares[:, 0], "transition": shares[:, 1:3], "emission": shares[:, 3:]}
    posterior = mass * log_likelihood(HMM(**laws), TEXTS).sum(-1).exp()
    posterior = posterior / posterior.sum()
    return {name: float((posterior * each).sum()) for name, each in invariants(laws).items()}


def within_monte_carlo_error(laws, errors=4.0):
    """Say by how many standard errors draws (C,D,…) are off, and require that it is few."""
    from arviz_stats.base.array import array_stats

    expected = expectations()
    for name, drawn in invariants(laws).items():
        values = drawn.numpy()
        error = values.std() / np.sqrt(float(array_stats.ess(values, method="mean")))
        assert abs(values.mean() - expected[name]) < errors * error, name
