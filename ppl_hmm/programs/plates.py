"""Plates and time: what the axes of a distribution's parameters and texts mean.

Parameters have an axis for each plate, then one for time, then (K,J): that is how Pyro's ``DiscreteHMM`` reads them. A
parameter drawn inside plates has the plates' axes and no axis for time. If its last plate has size one, as in (n,1,K,J)
for one model a group, that plate is read as time, and the groups as the last plate.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.recursion import Chain


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

    chain: Chain
    shape: torch.Size
    order: tuple[int, ...]

    @property
    def positions(self) -> range:
        """All row numbers, 0..T−1."""
        return range(self.chain.ids.shape[-1])

    def restore(self, values: Tensor) -> Tensor:
        """Give results (P,B,…) the shape of the texts back."""
        values = values.reshape([*(self.shape[dim] for dim in self.order), *values.shape[2:]])
        places = [self.order.index(dim) for dim in range(len(self.order))]
        return values.permute([*places, *range(len(places), values.ndim)])


def arrange(
    ids: Tensor, plates: torch.Size, of_parameters: torch.Size, initial: Tensor, transition: Tensor, emission: Tensor
) -> Arranged:
    """Return texts ids (…,T) under models of logits, in ``plates``: dimensions in which parameters differ come first.

    Parameters (…,K), (…,K,K) and (…,K,V) broadcast to ``of_parameters``; ids below zero are ``MASK``.
    """
    own = (1,) * (len(plates) - len(of_parameters)) + tuple(of_parameters)
    of_models = [dim for dim, size in enumerate(own) if size > 1]
    order = (*of_models, *(dim for dim in range(len(plates)) if dim not in of_models))
    n_models, length, n_tokens = of_parameters.numel(), ids.shape[-1], emission.shape[-1]
    ids = ids.expand(*plates, length).permute(*order, len(plates)).reshape(n_models, -1, length)

    def models(logits: Tensor, n_own: int) -> Tensor:
        own_shape = logits.shape[logits.ndim - n_own :]
        return _probabilities(logits).expand(*of_parameters, *own_shape).reshape(n_models, *own_shape)

    rows = models(emission, 2).mT
    table = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
    ids = torch.where(ids < 0, n_tokens, ids)
    return Arranged(Chain(models(initial, 1), models(transition, 2), table, ids), plates, order)


def _probabilities(logits: Tensor) -> Tensor:
    """Return exp(logits), NaN for NaN; its gradient at −inf is zero whatever comes from above, infinities included."""
    possible = logits != -torch.inf
    return torch.where(possible, torch.where(possible, logits, 0).exp(), 0)
