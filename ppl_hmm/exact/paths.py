"""Paths of hidden states: the best one, and draws from the posterior.

Both go backward in their algebra and then forward, choosing H₀, H₁, … in turn: given the state chosen so far, the
weight of the next state is transition × likelihood × backward message. The largest such weight gives the best path
(Viterbi, 1967); a random state in proportion gives an exact draw (Scott, 2002).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ppl_hmm.exact.backends import choose
from ppl_hmm.exact.backends.contract import Paths
from ppl_hmm.exact.chain import RESCUE, few_at_a_time
from ppl_hmm.exact.recursion import Chain


@torch.no_grad()
def best_path(chain: Chain, *, backend: str | None = None) -> Paths:
    """Return the path that maximises P(h₀..h_T, x), one for each sequence (D = 1). Cost O(B·T·K²).

    Ties go to the lowest state; impossible text gives an arbitrary path.
    """
    return choose(chain.transition, backend).best_path(chain)


@torch.no_grad()
def sample_paths(chain: Chain, n_draws: int, generator: torch.Generator, *, backend: str | None = None) -> Paths:
    """Return D draws from P(H₀..H_T | x) for each sequence; x must be possible. Cost O(B·T·K·(K+D)).

    Backends take the same uniforms in the same order: their draws differ only where rounding decides.
    """
    draws, lost = choose(chain.transition, backend).sample_paths(chain, n_draws, generator)
    for few, picked in few_at_a_time(lost, chain):
        draws[few] = RESCUE.sample_paths(picked, n_draws, generator)[0][:, 0]
    return draws


def log_joint(chain: Chain, paths: Paths) -> Float[Tensor, "P B D"]:
    """Return log P(h₀..h_T, x) of each path in nats. Cost O(B·D·T)."""
    model = torch.arange(len(chain.ids), device=chain.ids.device)[:, None, None, None]
    start = chain.initial[model[..., 0], paths[..., 0]].log()
    moves = chain.transition[model, paths[..., :-1], paths[..., 1:]].log()
    weights = chain.table[model, chain.ids[:, :, None], paths[..., 1:]].log()
    return start + (moves + weights).sum(-1)
