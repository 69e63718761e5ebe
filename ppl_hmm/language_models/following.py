"""Suffixes behind texts of different lengths, as embeddings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def followed(embedded: Tensor, ends: Tensor, suffix: Tensor) -> Tensor:
    """Return texts (B,T,width) with a suffix (S,width) at their ends (B,): (B,T+S,width)."""
    if not len(suffix):
        return embedded
    longer = pad(embedded, (0, 0, 0, len(suffix)))
    place = torch.arange(longer.shape[1], device=longer.device) - ends[:, None]
    within = (place >= 0) & (place < len(suffix))
    return torch.where(within[..., None], suffix[place.clamp(0, len(suffix) - 1)], longer)
