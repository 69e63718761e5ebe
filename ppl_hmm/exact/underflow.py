"""The underflow rule: when a pass on probabilities may have lost weight, so that logarithms must do it again.

Every pass on the scaled route keeps a :class:`Watch`. A sequence is *lost* from the moment that

- a law holds a positive weight below the :class:`Floor`: one more step may take it below the smallest float; or
- the total of products of two laws, one from each side, :func:`cancels`: products a rounding error smaller than it
  may be no floats.

This comes before anything vanishes, so that the zeros of sequences that are not lost are exact zeros. Lost sequences
are computed again in logarithms (:func:`ppl_hmm.exact.chain.few_at_a_time`), which lose nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ppl_hmm.exact.algebra import Algebra, Law
from ppl_hmm.exact.recursion import Chain

#: So many entries at a time are copied to be reduced (64 MB in float32).
_CHUNK_ENTRIES = 1 << 24


def floor_of(tiny: Any, move: Any, likelihood: Any, largest: Any) -> Any:
    """Return the weight below which one more step may lose an entry, of scalars or arrays, in any library.

    One step multiplies by an entry of the transition (at least ``move``) and of the table (at least ``likelihood``),
    and divides by a total of at most ``largest``: weights that stay above never come below ``tiny``.
    """
    return tiny / move / likelihood * largest


@dataclasses.dataclass(frozen=True)
class Floor:
    """Weights below which one more step of the scaled route may lose an entry to underflow."""

    each: Float[Tensor, "P 1 1"]  # of each model

    @classmethod
    def of(cls, transition: Float[Tensor, "P K K"], table: Float[Tensor, "P R K"]) -> Floor:
        """Return :func:`floor_of` the smallest positive entries, one at most, and the largest one, one at least."""
        largest = table.detach().amax((-2, -1)).clamp(min=1)
        tiny = torch.finfo(table.dtype).tiny
        each = floor_of(tiny, smallest_positive(transition), smallest_positive(table), largest)
        return cls(each[:, None, None])

    @functools.cached_property
    def highest(self) -> float:
        """The floor of all models."""
        return float(self.each.max())


@dataclasses.dataclass
class Watch:
    """Which sequences (P,B) of a pass are lost so far; none ever is without a floor."""

    floor: Floor | None
    lost: Bool[Tensor, "P B"]

    @classmethod
    def over(cls, algebra: Algebra, chain: Chain) -> Watch:
        """Return the watch at the start of a pass in an algebra: without a floor if that does not underflow."""
        floor = Floor.of(chain.transition, chain.table) if algebra.underflows else None
        return cls(floor, torch.zeros(chain.ids.shape[:2], dtype=torch.bool, device=chain.ids.device))

    def law(self, law: Law) -> None:
        """Look at a law, or a message, for positive weights below the floor."""
        if self.floor is None:
            return
        law = law.detach()
        # On the CPU one reduction settles most steps; a GPU would have to be waited for.
        if law.device.type == "cpu" and float(law.amin()) >= self.floor.highest:
            return
        self.lost = self.lost | ((law > 0) & (law < self.floor.each)).any(-1)

    def total(self, total: Float[Tensor, "P B"]) -> None:
        """Look at the total of products of two laws."""
        if self.floor is not None:
            self.lost = self.lost | cancels(total)


def cancels(total: Tensor) -> Tensor:
    """Say whether the total of products of two laws is so small that some of the products may be no floats."""
    return total < smallest_total(total.dtype)


def smallest_total(dtype: torch.dtype) -> float:
    """Return the total below which entries a rounding error smaller than it are no floats."""
    return torch.finfo(dtype).tiny / torch.finfo(dtype).eps


def smallest_positive(array: Float[Tensor, "P R K"]) -> Float[Tensor, " P"]:
    """Return each model's smallest positive entry, or 1 if that is less. In chunks of rows: no copy of the array."""
    size = max(1, _CHUNK_ENTRIES // max(1, array[:, :1].numel()))
    chunks = array.detach().split(size, dim=1)
    return torch.stack([torch.where(rows > 0, rows, 1).amin((-2, -1)) for rows in chunks]).amin(0)
