"""The law of the last hidden state given text: what text to come starts from."""

from __future__ import annotations

from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor

from ppl_hmm.exact.algebra import LOG
from ppl_hmm.exact.backends import choose
from ppl_hmm.exact.chain import in_chunks, pick
from ppl_hmm.exact.recursion import Ids, Initial, Table, Transition, forward


def log_filtered(
    initial: Initial, transition: Transition, table: Table, ids: Ids, *, backend: str | None = None
) -> Float[Tensor, "P B K"]:
    """Return log P(H_T | x), −inf throughout for impossible text, differentiable.

    Laws far below the smallest float stay, as logarithms. Cost O(B·T·K²) time; memory O(B·K), or O(B·T·K²) where
    parameters require a gradient.
    """
    arrays = (initial, transition, table, ids)
    if torch.is_grad_enabled() and any(array.requires_grad for array in arrays):
        return _in_logarithms(*arrays)
    result, lost = choose(transition, backend).smooth(*arrays, [ids.shape[-1] - 1], own_token=True)
    law = result.marginals[:, :, 0].log()
    for few in in_chunks(lost, transition):
        law[few] = _in_logarithms(*pick(few, *arrays))[:, 0]
    return law


def _in_logarithms(initial: Initial, transition: Transition, table: Table, ids: Ids) -> Float[Tensor, "P B K"]:
    ((_, law, _),) = deque(forward(LOG, initial[:, None], transition, table, ids), maxlen=1)  # the last step
    return law
