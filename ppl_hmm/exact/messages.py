"""Messages whose entries are right up to a factor, whatever their size."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_hmm.exact.wide import Wide, wide_product


def wide_messages(transition: Float[Tensor, "K K"], emission: Float[Tensor, "K V"], tokens: Int[Tensor, "B T"]) -> Wide:
    """Return f (B,K), f(x)_h = P(x | H₀=h), of text in which −1 is unobserved; nothing underflows.

    Entries have the relative error of :func:`~ppl_hmm.exact.rounding.message_rounding`, and zeros are exact. Cost
    O(B·T·K²) time, O(B·K²) memory.
    """
    table = Wide.of(torch.cat([emission.mT, torch.ones_like(emission.mT[:1])]))  # −1 is its last row
    moves = Wide.of(transition.mT)
    message = Wide.of(emission.new_ones(len(tokens), len(transition)))
    for column in tokens.mT.flip(0):
        message = wide_product(message * table[column], moves)
    return message
