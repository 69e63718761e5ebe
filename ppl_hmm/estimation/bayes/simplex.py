"""Unbounded coordinates of laws: isometric log-ratios, their Jacobian, and gradients in them.

A law x over N outcomes is softmax(z) for log-odds z = H y, where the columns of H (N, N−1) are orthonormal and sum to
zero (Helmert's contrasts): y = Hᵀ log x. Then

    log |dx/dy| = Σ_i log x_i + ½ log N,        ∂f/∂y = Hᵀ (x∘∂f/∂x − x Σ_j x_j ∂f/∂x_j).

For a text's evidence x∘∂f/∂x are expected counts, so that the log posterior with a Dirichlet(α) prior has, in y, the
gradient Hᵀ (counts + α − x Σ(counts + α)); x stands for the Jacobian as well, which turns α − 1 into α.
Source: Egozcue, Pawlowsky-Glahn, Mateu-Figueras & Barceló-Vidal (2003), Mathematical Geology 35.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU

#: Shares below this move up to it before logarithms are taken: an exact zero has no coordinates.
LEAST_SHARE = 1e-10


@dataclasses.dataclass(frozen=True)
class SimplexCoordinates:
    """The coordinates of a model's laws, one after another: D = Σ_fields (number of laws)·(outcomes − 1)."""

    shapes: Mapping[str, tuple[int, ...]]  # of each field, without chains; the last dimension is that of the outcomes

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """Number of coordinates by field."""
        return {name: math.prod(shape[:-1]) * (shape[-1] - 1) for name, shape in self.shapes.items()}

    def coordinates(self, laws: Mapping[str, Tensor]) -> Tensor:
        """Return the coordinates (C,D) of laws; zeros count as :data:`LEAST_SHARE`."""
        return self.pulled_back({name: laws[name].clamp(min=LEAST_SHARE).log() for name in self.shapes})

    def log_laws(self, coordinates: Tensor) -> dict[str, Tensor]:
        """Return the logarithms of the laws at coordinates (C,D)."""
        found, begin = {}, 0
        for (name, shape), size in zip(self.shapes.items(), self.sizes.values(), strict=True):
            of_laws = coordinates[:, begin : begin + size].reshape(len(coordinates), *shape[:-1], shape[-1] - 1)
            found[name] = (of_laws @ contrasts(shape[-1], coordinates.dtype, coordinates.device).T).log_softmax(-1)
            begin += size
        return found

    def pulled_back(self, by_log_odds: Mapping[str, Tensor]) -> Tensor:
        """Return Hᵀ v (C,D) of arrays v shaped as the laws: of derivatives by log-odds, those by coordinates."""
        parts = (v @ contrasts(v.shape[-1], v.dtype, v.device) for v in (by_log_odds[name] for name in self.shapes))
        return torch.cat([part.flatten(1) for part in parts], -1)

    def log_jacobian(self, log_laws: Mapping[str, Tensor]) -> Tensor:
        """Return log |d laws / d coordinates| (C,), by the first N−1 shares of each law."""
        constant = sum(0.5 * math.prod(shape[:-1]) * math.log(shape[-1]) for shape in self.shapes.values())
        return sum((log_laws[name].flatten(1).sum(-1) for name in self.shapes), torch.tensor(constant, device=CPU))


@functools.cache
def contrasts(n_outcomes: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return Helmert's contrasts (N, N−1): orthonormal columns, each of sum zero."""
    ends = torch.arange(1, n_outcomes, dtype=dtype, device=device)
    rows = torch.arange(n_outcomes, dtype=dtype, device=device)[:, None]
    upper = torch.where(rows < ends, 1.0, torch.where(rows == ends, -ends, 0.0))
    return upper / (ends * (ends + 1)).sqrt()
