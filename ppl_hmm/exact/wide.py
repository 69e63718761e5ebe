"""Numbers whose exponents have room: products of tiny probabilities stay positive, and quotients right."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Values = Float[Tensor, "..."]
Exponents = Int[Tensor, "..."]
Chosen = Bool[Tensor, "..."]

# The exponent of zero: below all others, and far from the end of 32 bits.
_LOWEST = -(1 << 24)


@dataclasses.dataclass(frozen=True, eq=False)
class Wide:
    """Numbers mantissa·2^exponent, entry by entry; zeros are exact zeros, as accurate as floats otherwise."""

    mantissa: Values  # ±[½, 1), or 0
    exponent: Exponents

    @classmethod
    def of(cls, values: Values) -> Wide:
        """Split floats."""
        return cls._split(*torch.frexp(values))

    def __getitem__(self, index: Any) -> Wide:
        return Wide(self.mantissa[index], self.exponent[index])

    def __mul__(self, other: Wide) -> Wide:
        return Wide(self.mantissa * other.mantissa, self.exponent + other.exponent)._normalised()

    def __truediv__(self, other: Wide) -> Wide:
        return Wide(self.mantissa / other.mantissa, self.exponent - other.exponent)._normalised()

    def __add__(self, other: Wide) -> Wide:
        exponent = torch.maximum(self.exponent, other.exponent)
        return Wide(self._at(exponent) + other._at(exponent), exponent)._normalised()

    def __sub__(self, other: Wide) -> Wide:
        return self + Wide(-other.mantissa, other.exponent)

    def sum(self, dim: int) -> Wide:
        """Add along one dimension."""
        exponent = self.exponent.amax(dim, keepdim=True)
        return Wide(self._at(exponent).sum(dim), exponent.squeeze(dim))._normalised()

    def abs(self) -> Wide:
        """Return absolute values."""
        return Wide(self.mantissa.abs(), self.exponent)

    def where(self, kept: Chosen, other: float) -> Wide:
        """Return another number where entries are not kept."""
        return Wide(torch.where(kept, self.mantissa, other), torch.where(kept, self.exponent, 0))._normalised()

    @property
    def positive(self) -> Chosen:
        """Which numbers exceed zero."""
        return self.mantissa > 0

    def floats(self) -> Values:
        """Return floats: zero or infinite where a number is beyond them."""
        half = self.exponent // 2  # 2^exponent may be no float where the number is
        return torch.ldexp(torch.ldexp(self.mantissa, half), self.exponent - half)

    def _at(self, exponent: Exponents) -> Values:
        """Return mantissas at exponents that are no smaller."""
        return torch.ldexp(*torch.broadcast_tensors(self.mantissa, self.exponent - exponent))

    def _normalised(self) -> Wide:
        mantissa, exponent = torch.frexp(self.mantissa)
        return self._split(mantissa, self.exponent + exponent)

    @classmethod
    def _split(cls, mantissa: Values, exponent: Exponents) -> Wide:
        return cls(mantissa, exponent.masked_fill(mantissa == 0, _LOWEST))


def wide_product(left: Wide, right: Wide) -> Wide:
    """Return the matrix product of (…,n,k) and (k,m) or (…,k,m). Cost and memory O(n·k·m)."""
    left, right = left[..., :, None], right[..., None, :, :]
    # Products of mantissas are no smaller than a quarter: their sum needs no other exponents.
    return Wide(left.mantissa * right.mantissa, left.exponent + right.exponent).sum(-2)
