"""What a linear head reads of exact conditionals: scores, margins, and the share of texts of each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.checks import check_distributions
from ppl_hmm.base.labels import read
from ppl_hmm.errors import InvalidInput
from ppl_hmm.recoverability.half_range import class_pairs
from ppl_hmm.recoverability.rounding import SCORE_ROUNDING

Array = ArrayLike | Tensor


class HeadReading(NamedTuple):
    """Exact conditionals as a head reads them, without the texts of weight zero."""

    conditionals: Tensor  # (B,V)
    head: Tensor  # (C,V); zeros and b for two classes
    shares: Tensor  # (B,), sum to one

    @property
    def differences(self) -> Tensor:
        """b_c' − b_c for each pair of classes (pairs,V)."""
        first, second = class_pairs(len(self.head))
        return self.head[second] - self.head[first]

    def margins(self) -> tuple[Tensor, Tensor]:
        """Return the distinct |s| in ascending order, ties at 0, and the share of texts that has each."""
        top = (self.conditionals @ self.head.mT).topk(2, dim=-1).values
        margins = top[:, 0] - top[:, 1]
        rounding = SCORE_ROUNDING * self.head.abs().sum(-1).max()
        sizes, index = torch.unique(torch.where(margins > rounding, margins, 0), return_inverse=True)
        return sizes, torch.zeros_like(sizes).index_add(0, index, self.shares)


def read_head(conditionals: Array, head: Array, weights: Array | None) -> tuple[HeadReading, Tensor]:
    """Return the checked arguments, and which texts (B,) have positive weight."""
    exact = distributions("conditionals", conditionals)
    checked = as_tensor(head, torch.device("cpu"), what="head").detach().to(torch.float64)
    if checked.ndim not in (1, 2) or checked.shape[-1] != exact.shape[1] or not torch.isfinite(checked).all():
        raise InvalidInput(
            "head",
            f"finite weights ({exact.shape[1]},), or (C, {exact.shape[1]}) for C classes",
            f"shape {tuple(checked.shape)}" + ("" if torch.isfinite(checked).all() else " with NaN or infinity"),
            "give one weight for each token",
        )
    checked = torch.atleast_2d(checked)
    if len(checked) == 1:
        checked = torch.cat([torch.zeros_like(checked), checked])
    if weights is None:
        shares = exact.new_ones(len(exact))
    else:
        shares = as_tensor(weights, torch.device("cpu"), what="weights").detach().to(torch.float64)
    total = float(shares.sum())
    if shares.shape != exact.shape[:1] or not (shares >= 0).all() or not 0 < total < float("inf"):
        raise InvalidInput(
            "weights",
            f"finite numbers ({len(exact)},) of at least 0, not all 0",
            f"shape {tuple(shares.shape)} with sum {total:g}",
            "pass e.g. the probability of each text",
        )
    kept = shares > 0
    return HeadReading(exact[kept], checked, shares[kept] / total), kept


def distributions(what: str, rows: Array) -> Tensor:
    """Return rows (B,V), divided by their sums: float64 may not have had them so."""
    array = read(rows, (schema.SEQUENCE, schema.TOKEN), what)
    checked = as_tensor(array.values, torch.device("cpu"), what=what).detach().to(torch.float64)
    if checked.ndim != 2 or not torch.isfinite(checked).all():
        raise InvalidInput(
            what,
            "distributions (B, V)",
            f"shape {tuple(checked.shape)}" + (" with NaN or infinity" if checked.ndim == 2 else ""),
            "give one row of conditionals for each text",
        )
    check_distributions(what, checked)
    return checked / checked.sum(-1, keepdim=True)
