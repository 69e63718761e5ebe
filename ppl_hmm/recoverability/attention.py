"""Attention over masked conditionals: the arithmetic that certificates and heads share.

A linear form that depends on the token is a matrix of rows (V+1,V): row x is read where the text has token x, the last
row where it has ``MASK``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def observed(tokens: Tensor, vocabulary_size: int) -> Tensor:
    """Return the row number of each token: its id, V for ``MASK``."""
    return torch.where(tokens < 0, vocabulary_size, tokens)


def read(weights: Tensor, conditionals: Tensor, rows: Tensor) -> Tensor:
    """Return weights[x_i]ᵀG_i (…,B,T) of weights (…,V+1,V), conditionals (B,T,V) and row numbers x (B,T)."""
    return torch.einsum("...btv,btv->...bt", weights[..., rows, :], conditionals)


def of_token(conditionals: Tensor, rows: Tensor) -> Tensor:
    """Return G_i[x_i] (B,T), the probability of the token itself; 1 for ``MASK``."""
    return torch.nn.functional.pad(conditionals, (0, 1), value=1.0).gather(-1, rows[..., None])[..., 0]


def hard_attention(scores: Tensor, present: Tensor, tolerance: float) -> Tensor:
    """Return equal weights (B,T) on the present positions whose score is within ``tolerance`` of the best; sums to one.

    A text without positions has weights of zero.
    """
    best = scores.masked_fill(~present, -torch.inf).amax(-1, keepdim=True)
    chosen = ((scores >= best - tolerance) & present).to(scores)
    return chosen / chosen.sum(-1, keepdim=True).clamp(min=1)


def soft_attention(scores: Tensor, present: Tensor) -> Tensor:
    """Return the softmax (B,T) of scores over the present positions; zeros for a text without any."""
    scores = scores.masked_fill(~present, torch.finfo(scores.dtype).min)
    return scores.softmax(-1) * present
