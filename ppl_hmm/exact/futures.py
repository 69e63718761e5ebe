"""The law of the next tokens, given a law of the hidden state."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def future_laws(
    beliefs: Float[Tensor, "N K"],
    transition: Float[Tensor, "K K"],
    emission: Float[Tensor, "K V"],
    n_tokens: int,
) -> Float[Tensor, "N F"]:
    """Return P(X_{t+1}..X_{t+n} | belief) over all F = Vⁿ continuations; the first token counts slowest.

    Linear in the belief α: αᵀM_n with M_0 = 1, M_n[h, (x, rest)] = Σ_h' A[h,h'] W[h',x] M_{n-1}[h', rest].
    Cost O(Vⁿ·K·(K+N)).
    """
    given_state = torch.ones_like(transition[:, :1])
    for _ in range(n_tokens):
        given_state = transition @ (emission[:, :, None] * given_state[:, None]).flatten(1)
    return beliefs @ given_state
