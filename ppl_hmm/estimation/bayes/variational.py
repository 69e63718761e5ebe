r"""Draws from a variational approximation: every row of every law has a Dirichlet law of its own, fitted by gradient.

The guide q(θ) = Π Dirichlet(row; a) maximises

.. math:: E_q[\log P(x | θ)] - KL(q \| \mathrm{prior}),

whose first term is estimated from draws θ of q and its gradient by expected counts, ∂log P(x | θ) / ∂log θ; hidden
states are summed out, and only the rows are independent. Steps are along the natural gradient, which the Dirichlet law
has in closed form: where states are known, a whole step leads to the exact posterior. Each chain has a guide, which
starts where expectation-maximisation ends. Its draws are independent, and biased: rows that depend on each other in the
posterior spread more than the guide says. Source: Hoffman, Blei, Wang & Paisley (2013); Figurnov, Mohamed & Mnih (2018)
for gradients of draws.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from ppl_hmm import schema
from ppl_hmm.base.randomness import CPU
from ppl_hmm.estimation.bayes.prior import DirichletPrior, Laws, draw_dirichlet
from ppl_hmm.estimation.bayes.sampler import Block, State, restored_stream, saved_stream
from ppl_hmm.estimation.bayes.target import Target

#: Iterations of expectation-maximisation before the guide starts.
_ITERATIONS = 100
#: Draws of the laws for each step of a guide.
_DRAWS = 4
#: Step number n goes _RATE / (1 + n / _STEADY) of the way of the natural gradient, and changes no concentration by a
#: larger factor than exp(±_LARGEST).
_RATE, _STEADY, _LARGEST = 0.05, 100.0, 0.5
_STEP, _STREAM = "step", "stream"


class VariationalSampler:
    """Mean-field guides in place of chains: tuning fits them, and draws are independent draws of them.

    A step costs O(S·C·B·T·K²) for S = 4 draws of the laws, m^N times that with a memory.
    """

    def start(self, target: Target, laws: Laws, stream: torch.Generator) -> State:
        """Climb from laws (C,…) to the most likely ones, and let the guides count what these expect."""
        for _ in range(_ITERATIONS):
            counts, _ = target.counts(laws)
            laws = {name: _mean(a) for name, a in _with(target.prior, counts).items()}
        counts, _ = target.counts(laws)
        state: State = {_STREAM: saved_stream(stream), _STEP: torch.zeros((), dtype=torch.int64, device=CPU)}
        return state | _with(target.prior, counts)

    def advance(self, target: Target, state: State, n: int, tuning: bool) -> tuple[State, Block]:
        """Take n steps of each guide while tuning, then draw n times from it."""
        state, stream = dict(state), restored_stream(state[_STREAM])
        if tuning:
            for _ in range(n):
                state |= _step(target, state, stream)
        guide = DirichletPrior({name: state[name].repeat_interleave(n, 0) for name in target.fields})
        laws = {name: draw_dirichlet(concentration, stream) for name, concentration in guide.concentrations.items()}
        state[_STREAM] = saved_stream(stream)
        statistics = {schema.LP: target.log_density(laws), schema.LOG_GUIDE: guide.log_density(laws)}
        return state, Block(
            {name: law.unflatten(0, (-1, n)) for name, law in laws.items()},
            {name: values.unflatten(0, (-1, n)) for name, values in statistics.items()},
        )


def _step(target: Target, state: State, stream: torch.Generator) -> State:
    """Return what one step along the natural gradient changes."""
    guide = {name: state[name].detach().requires_grad_() for name in target.fields}
    with torch.enable_grad():
        bound = _bound(target, guide, stream)
    gradients = torch.autograd.grad(bound, list(guide.values()))
    rate = _RATE / (1 + state[_STEP] / _STEADY)
    changed: State = {_STEP: state[_STEP] + 1}
    for (name, concentration), gradient in zip(guide.items(), gradients, strict=True):
        move = rate * _natural(concentration.detach(), gradient) / concentration.detach()
        changed[name] = concentration.detach() * move.clamp(-_LARGEST, _LARGEST).exp()
    return changed


def _natural(concentration: Tensor, gradient: Tensor) -> Tensor:
    """Return F⁻¹ gradient for the Fisher information F = diag ψ′(a) − ψ′(Σa) 11ᵀ of each row (…,n)."""
    if concentration.shape[-1] == 1:  # a law of one entry has nothing to learn
        return torch.zeros_like(concentration)
    inverse = 1 / torch.polygamma(1, concentration)
    of_sum = torch.polygamma(1, concentration.sum(-1, keepdim=True))
    each = inverse * gradient
    share = of_sum * each.sum(-1, keepdim=True) / (1 - of_sum * inverse.sum(-1, keepdim=True))
    return each + inverse * share


def _bound(target: Target, guide: Laws, stream: torch.Generator) -> Tensor:
    """Return () with the gradient of the evidence's lower bound, summed over chains, by concentrations (C,…)."""
    n_chains = len(guide["initial"])
    laws = {name: draw_dirichlet(a.repeat(_DRAWS, *([1] * (a.ndim - 1))), stream) for name, a in guide.items()}
    counts, _ = target.counts({name: law.detach() for name, law in laws.items()})
    total = torch.zeros((), dtype=torch.float64, device=CPU)
    for name, concentration in guide.items():
        total = total + (counts[name] * laws[name].log()).sum() / _DRAWS
        prior = target.prior.concentrations[name].expand(n_chains, *concentration.shape[1:])
        total = total - kl_divergence(Dirichlet(concentration), Dirichlet(prior)).sum()
    return total


def _with(prior: DirichletPrior, counts: Laws) -> Laws:
    return {name: alpha + counts[name] for name, alpha in prior.concentrations.items()}


def _mean(concentration: Tensor) -> Tensor:
    return concentration / concentration.sum(-1, keepdim=True)
