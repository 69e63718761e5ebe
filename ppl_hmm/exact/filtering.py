"""The law of the last hidden state given text: what text to come starts from."""

from __future__ import annotations

from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor

from ppl_hmm.exact.algebra import LOG
from ppl_hmm.exact.backends import choose
from ppl_hmm.exact.chain import few_at_a_time
from ppl_hmm.exact.recursion import Chain, forward


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
