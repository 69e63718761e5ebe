"""Averages over memories, whose weights are logarithms."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_hmm.exact.algebra import safe_log


class Average:
    """Σ_c e^{w_c} v_c / Σ_c e^{w_c}, over terms that come in blocks; relative to the largest weight so far."""

    def __init__(self) -> None:
        self._top: Tensor | None = None

    def add(self, log_weights: Tensor, values: Tensor) -> None:
        """Add terms: weights (P,C,…), values (P,C,…) with further dimensions."""
        top = log_weights.amax(1)
        if self._top is None:
            self._top, self._total, self._sum = top, torch.zeros_like(top), torch.zeros_like(values[:, 0])
        new_top = torch.maximum(self._top, top)
        reference = new_top.clamp(min=torch.finfo(top.dtype).min)
        shrink = (self._top - reference).exp()
        weights = (log_weights - reference[:, None]).exp()
        self._total = self._total * shrink + weights.sum(1)
        trailing = [1] * (values.ndim - log_weights.ndim)
        self._sum *= shrink.reshape(*shrink.shape, *trailing)
        for weight, value in zip(weights.unbind(1), values.unbind(1), strict=True):
            self._sum.addcmul_(weight.reshape(*weight.shape, *trailing), value)
        self._top = new_top

    @property
    def mean(self) -> Tensor:
        """The weighted mean; zero where all weights are."""
        total = torch.where(self._total > 0, self._total, 1)
        return self._sum / total.reshape(*total.shape, *[1] * (self._sum.ndim - total.ndim))

    @property
    def log_total(self) -> Tensor:
        """Log Σ_c e^{w_c}; −inf where all weights are zero."""
        assert self._top is not None  # something was added
        return torch.where(self._total > 0, self._top + safe_log(self._total), -torch.inf)
