"""What text so far says of its hidden state, and of the token to come: one pass from left to right.

    α_t(h) = P(H_t=h | rows up to t),    P(H_{t+1} | rows up to t) = Aᵀα_t,    P(X_{t+1} | rows up to t) = WᵀAᵀα_t

With a memory the belief is one over pairs of a memory and a state, and so is what is predicted of the next state:
P(M, H_t | rows up to t) ∝ P(M) P(rows up to t | M) P(H_t | rows up to t, M). Everything is differentiable; there an
entry that is exactly zero counts as a constant for texts near underflow, and for memories that text excludes.
Source: Rabiner (1989), §III; Wei, Xie & Ma (2021), §4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ppl_hmm.exact import mixture
from ppl_hmm.exact.algebra import LOG, log_sum_exp
from ppl_hmm.exact.backends import choose
from ppl_hmm.exact.backends.contract import Filtered
from ppl_hmm.exact.chain import RESCUE, few_at_a_time, in_parts, replace_results
from ppl_hmm.exact.mixture import MemoryText
from ppl_hmm.exact.recursion import Chain, forward


class Belief(NamedTuple):
    """What the rows up to each of N positions say; zeros and −inf from the first impossible row on."""

    joint: Float[Tensor, "P B N C K"]  # P(M, H_t | rows up to t)
    log_prefix: Float[Tensor, "P B N"]  # log P(rows up to t), natural logarithm


def filtered(chain: Chain, positions: Sequence[int], *, backend: str | None = None) -> Filtered:
    """Return P(H_t | rows up to t) and log P(rows up to t) at positions (0-based row numbers; −1 is H₀).

    Differentiable. Cost O(B·T·K²) time, memory of the result; O(B·T·K) where parameters require a gradient.
    """
    if torch.is_grad_enabled() and any(array.requires_grad for array in chain.parameters):
        return _taped(chain, positions, backend)
    result, lost = choose(chain.transition, backend).filter(chain, positions)
    for few, picked in few_at_a_time(lost, chain):
        replace_results(few, result, RESCUE.filter(picked, positions)[0])
    return result


def log_filtered(chain: Chain, *, backend: str | None = None) -> Float[Tensor, "P B K"]:
    """Return log P(H_T | x), −inf throughout for impossible text, differentiable.

    Laws far below the smallest float stay, as logarithms. Cost O(B·T·K²) time; memory O(B·K), or O(B·T·K²) where
    parameters require a gradient.
    """
    if torch.is_grad_enabled() and any(array.requires_grad for array in chain.parameters):
        return _in_logarithms(chain)
    result, lost = choose(chain.transition, backend).filter(chain, [chain.ids.shape[-1] - 1])
    law = result.filtered[:, :, 0].log()
    for few, picked in few_at_a_time(lost, chain):
        law[few] = _in_logarithms(picked)[:, 0]
    return law


def _in_logarithms(chain: Chain) -> Float[Tensor, "P B K"]:
    ((_, law, _),) = deque(forward(LOG, chain), maxlen=1)  # the last step
    return law


def _taped(chain: Chain, positions: Sequence[int], backend: str | None) -> Filtered:
    """Return the same by operations that torch differentiates; texts near underflow at O(B·T·K²) memory."""
    with torch.no_grad():
        _, lost = choose(chain.transition, backend).filter(chain, positions)
    return Filtered(*in_parts(chain, lost.any(0), lambda backend, part: backend.filter(part, positions)[0]))


def belief(text: MemoryText, positions: Sequence[int]) -> Belief:
    """Return the joint law of memory and state after rows up to positions. Cost O(C·B·T·K²), memory of the result."""
    if text.n_memories == 1:
        found = filtered(text.only_chain, positions)
        return Belief(found.filtered[..., None, :], found.log_prefix)
    joint, log_joint = [], []
    for block in mixture.blocks(text):
        found = filtered(block.chain, positions)
        joint.append(block.unfold(found.filtered))
        log_joint.append(block.log_prior[..., None, None] + block.unfold(found.log_prefix))
    log_weight = torch.cat(log_joint, dim=1)  # (P,C,B,N)
    log_prefix = log_sum_exp(log_weight, dim=1)
    share = (log_weight - torch.where(log_prefix > -torch.inf, log_prefix, 0)[:, None]).exp()
    return Belief((torch.cat(joint, dim=1) * share[..., None]).permute(0, 2, 3, 1, 4), log_prefix)


def next_token(
    joint: Float[Tensor, "P B N C K"], transition: Float[Tensor, "P K K"], emission: Float[Tensor, "P C K V"]
) -> Float[Tensor, "P B N V"]:
    """Return P(X_{t+1} | rows up to t), given the emission under each memory. Cost O(C·K·V·(B·N + K))."""
    following = transition[:, None] @ emission  # P(X_{t+1} | M, H_t)
    law = joint.flatten(3).flatten(1, 2) @ following.flatten(1, 2)  # one product for each model
    return law.unflatten(1, joint.shape[1:3])
