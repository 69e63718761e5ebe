"""Paths of hidden states: the best one, and draws from the posterior.

Both go backward in their algebra and then forward, choosing H₀, H₁, … in turn: given the state chosen so far, the
weight of the next state is transition × likelihood × backward message. The largest such weight gives the best path
(Viterbi, 1967); a random state in proportion gives an exact draw (Scott, 2002).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_hmm.exact.algebra import LOG, MAXIMUM, SCALED, Algebra, Floor
from ppl_hmm.exact.chain import LOG_CHUNK_ENTRIES, chunks, in_chunks, pick
from ppl_hmm.exact.recursion import Ids, Initial, Table, Transition, backward
from ppl_hmm.randomness import categorical

Paths = Int[Tensor, "P B D S"]  # D paths h₀..h_T of each sequence, S = T+1


@torch.no_grad()
def best_path(initial: Initial, transition: Transition, table: Table, ids: Ids) -> Paths:
    """Return the path that maximises P(h₀..h_T, x), one for each sequence (D = 1). Cost O(B·T·K²).

    Ties go to the lowest state; impossible text gives an arbitrary path.
    """
    size = LOG_CHUNK_ENTRIES // transition.numel()
    return torch.cat(
        [
            _decode(MAXIMUM, initial, transition, table, ids[:, chunk], 1, lambda law: law.argmax(-1))[0]
            for chunk in chunks(ids.shape[1], size)
        ],
        dim=1,
    )


@torch.no_grad()
def sample_paths(
    initial: Initial, transition: Transition, table: Table, ids: Ids, n_draws: int, generator: torch.Generator
) -> Paths:
    """Return D draws from P(H₀..H_T | x) for each sequence; x must be possible. Cost O(B·T·K·(K+D))."""
    arrays = (initial, transition, table, ids)
    draws, lost = _decode(SCALED, *arrays, n_draws, lambda law: categorical(law, generator))
    for few in in_chunks(lost, transition):
        exact, _ = _decode(
            LOG, *pick(few, *arrays), n_paths=n_draws, choose=lambda law: categorical(law.softmax(-1), generator)
        )
        draws[few] = exact[:, 0]
    return draws


def log_joint(initial: Initial, transition: Transition, table: Table, ids: Ids, paths: Paths) -> Float[Tensor, "P B D"]:
    """Return log P(h₀..h_T, x) of each path in nats. Cost O(B·D·T)."""
    model = torch.arange(initial.shape[0], device=ids.device)[:, None, None, None]
    start = initial[model[..., 0], paths[..., 0]].log()
    moves = transition[model, paths[..., :-1], paths[..., 1:]].log()
    weights = table[model, ids[:, :, None], paths[..., 1:]].log()
    return start + (moves + weights).sum(-1)


def _decode(
    algebra: Algebra,
    initial: Initial,
    transition: Transition,
    table: Table,
    ids: Ids,
    n_paths: int,
    choose: Callable[[Tensor], Tensor],
) -> tuple[Paths, Tensor]:
    """Choose h₀..h_T by the weight of each next state, given the ones before and all the text.

    Also say which sequences (P,B) may have lost weight to underflow.
    """
    floor = Floor.of(transition, table)
    messages = [message for message, _ in backward(algebra, transition, table, ids)][::-1]  # message_0..message_T
    lost = torch.zeros(ids.shape[:2], dtype=torch.bool, device=ids.device)
    for message in messages:
        lost = lost | algebra.faint(message, floor)
    initial, transition, table = (algebra.represent(array) for array in (initial, transition, table))
    model = torch.arange(ids.shape[0], device=ids.device)[:, None]
    law = algebra.weigh(initial[:, None], messages[0])[:, :, None].expand(-1, -1, n_paths, -1)
    states = [choose(law)]
    for t, message in enumerate(messages[1:]):
        forth = algebra.weigh(table[model, ids[:, :, t]], message)[:, :, None]
        states.append(choose(algebra.weigh(transition[model[..., None], states[-1]], forth)))
    return torch.stack(states, -1), lost
