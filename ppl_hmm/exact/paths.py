"""Paths of hidden states: the best one, and draws from the posterior.

Both go backward in their algebra and then forward, choosing H₀, H₁, … in turn: given the state chosen so far, the
weight of the next state is transition × likelihood × backward message. The largest such weight gives the best path
(Viterbi, 1967); a random state in proportion gives an exact draw (Scott, 2002).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from ppl_hmm.exact.backends import choose
from ppl_hmm.exact.backends.contract import Paths
from ppl_hmm.exact.chain import RESCUE, few_at_a_time
from ppl_hmm.exact.recursion import Chain


@torch.no_grad()
def best_path(chain: Chain, ends: Int[Tensor, "P B"] | None = None, *, backend: str | None = None) -> Paths:
    """Return the path that maximises P(h₀..h_T, x), one for each sequence (D = 1). Cost O(B·T·K²).

    A text that ends after fewer rows, ``ends``, has the best path of these alone, and then −1: the best states of rows
    that follow would change those before. Ties go to the lowest state; impossible text gives an arbitrary path.
    """
    compute, length = choose(chain.transition, backend).best_path, chain.ids.shape[-1]
    if ends is None or bool((ends == length).all()):
        return compute(chain)
    best = chain.ids.new_full((*ends.shape, 1, 1 + length), -1)
    for end in ends.unique().tolist():
        own = ends == end
        some = own.any(0)
        found = pad(compute(chain.with_ids(chain.ids[:, some, :end])), (0, length - end), value=-1)
        best[:, some] = torch.where(own[:, some, None, None], found, best[:, some])
    return best


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
    """Return log P(h₀..h_T, x) of each path in nats, up to its first −1. Cost O(B·D·T)."""
    model = torch.arange(len(chain.ids), device=chain.ids.device)[:, None, None, None]
    ended, paths = paths[..., 1:] < 0, paths.clamp(min=0)
    start = chain.initial[model[..., 0], paths[..., 0]].log()
    moves = chain.transition[model, paths[..., :-1], paths[..., 1:]].log()
    weights = chain.table[model, chain.ids[:, :, None], paths[..., 1:]].log()
    return start + torch.where(ended, 0, moves + weights).sum(-1)
