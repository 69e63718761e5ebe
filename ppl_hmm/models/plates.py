"""Plates and time: what the axes of a distribution's parameters and texts mean.

Parameters have an axis for each plate, then one for time, then (K,J): that is how Pyro's ``DiscreteHMM`` reads them. A
parameter drawn inside plates has the plates' axes and no axis for time. If its last plate has size one, as in (n,1,K,J)
for one model a group, that plate is read as time, and the groups as the last plate.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from ppl_hmm.errors import InvalidInput
from ppl_hmm.text import as_tensor


def alike(**logits: ArrayLike | Tensor) -> list[Tensor]:
    """Return logits as tensors of one dtype, the widest among them and float32.

    Raises
    ------
    InvalidInput
        Not real numbers, or on several devices.
    """
    tensors = {what: as_tensor(values, what=what) for what, values in logits.items()}
    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) > 1:
        where = ", ".join(f"{what} on {tensor.device}" for what, tensor in tensors.items())
        raise InvalidInput("logits", "all parameters on one device", where, "move them with .to(device)")
    dtype = functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors.values()), torch.float32)
    if dtype.is_complex:
        kinds = ", ".join(f"{what} of {tensor.dtype}" for what, tensor in tensors.items())
        raise InvalidInput("logits", "real numbers", kinds, "pass logarithms of probabilities")
    return [tensor.to(dtype) for tensor in tensors.values()]


def without_time(logits: Tensor, shape: tuple[int, int], what: str) -> Tensor:
    """Return logits (…,K,J) of (K,J) or (…,1,K,J), the form with an axis for time."""
    if logits.shape[-2:] != shape:
        raise InvalidInput(what, f"shape (…, {shape[0]}, {shape[1]})", f"{tuple(logits.shape)}", "check K")
    if logits.ndim == 2:
        return logits
    if logits.shape[-3] != 1:
        raise InvalidInput(
            what,
            "(K, J), or (…, 1, K, J) with an axis of one for time",
            f"shape {tuple(logits.shape)}",
            "add the axis with .unsqueeze(-3); for parameters that change over time use Pyro's DiscreteHMM",
        )
    return logits.squeeze(-3)


def broadcast(what: str, **shapes: Sequence[int]) -> torch.Size:
    """Return the shape that all broadcast to, or raise :class:`InvalidInput` naming them."""
    try:
        return torch.Size(broadcast_shape(*shapes.values()))
    except ValueError:
        raise InvalidInput(
            what,
            "plates of equal sizes, or of size 1",
            ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items()),
            "give parameters an axis for each plate, then one for time before (K, J): .unsqueeze(-3)",
        ) from None


def warn_of_plates_read_as_time(plates: Sequence[int], initial: Tensor, **logits: Tensor) -> None:
    """Warn of logits given as (…,n,1,K,J), if their axis of one may be meant as a plate.

    It may where ``plates``, those of the result, fit both readings. Then neighbouring plates have one size n, and the
    other reading would give other results in silence. The initial law (…,K) has no axis for time: if it has the plates
    of one reading only, it tells which is meant.
    """
    for what, given in logits.items():
        own = given.shape[:-2]
        other = (*own, 1)
        told = _fits(own, initial.shape[:-1]) and not _fits(other, initial.shape[:-1])
        if own.numel() > 1 and _fits(other, plates) and not told:
            shape = (*other, *given.shape[-2:])
            warnings.warn(
                f"{what} of shape {shape} is read as plates {tuple(own)} and an axis for time, but plates {other} "
                f"would fit {tuple(plates)} as well. If those are meant, add the axis for time by .unsqueeze(-3); "
                f"if not, say so by initial_logits of shape {(*own, initial.shape[-1])}.",
                UserWarning,
                stacklevel=5,
            )


def _fits(own: Sequence[int], plates: Sequence[int]) -> bool:
    """Say whether ``own`` broadcasts to ``plates``."""
    aligned = zip(reversed(own), reversed(plates), strict=False)
    return len(own) <= len(plates) and all(size in (1, other) for size, other in aligned)


class Arranged(NamedTuple):
    """Arrays for :mod:`ppl_hmm.exact`, and the way back."""

    arrays: tuple[Tensor, Tensor, Tensor, Tensor]  # initial, transition, table, ids
    shape: torch.Size
    order: tuple[int, ...]

    @property
    def positions(self) -> range:
        """All row numbers, 0..T−1."""
        return range(self.arrays[-1].shape[-1])

    def restore(self, values: Tensor) -> Tensor:
        """Give results (P,B,…) the shape of the texts back."""
        values = values.reshape([*(self.shape[dim] for dim in self.order), *values.shape[2:]])
        places = [self.order.index(dim) for dim in range(len(self.order))]
        return values.permute([*places, *range(len(places), values.ndim)])
