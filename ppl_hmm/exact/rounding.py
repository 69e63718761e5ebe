"""What rounding can do to the results of the recursions."""

from __future__ import annotations

import torch


def message_rounding(n_tokens: int, n_states: int, dtype: torch.dtype = torch.float64) -> float:
    """Bound the relative error of each entry of a message, and of a posterior, of T tokens and K states.

    A message is a sum of products of non-negative numbers, so every entry is right up to a factor: each of the T+1
    steps multiplies and adds K numbers and divides by a total, K+3 roundings of half an ulp. Products of posteriors
    and weights cancel; their error is this share of what was summed. The bound is no estimate: errors that average
    out stay far below it.
    """
    return 1.05 * torch.finfo(dtype).eps * ((n_tokens + 1) * (n_states + 3) + n_tokens)
