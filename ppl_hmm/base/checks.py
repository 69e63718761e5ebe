"""Checks of arrays: that rows are distributions, that text is possible."""

from __future__ import annotations

import torch

from ppl_hmm.errors import ImpossibleText, InvalidInput

#: How far a row may sum from one: above the rounding of float32 rows, also once they are float64; below any mistake.
ROW_SUM_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}


def check_distributions(name: str, rows: torch.Tensor) -> None:
    """Raise :class:`InvalidInput`, naming the row and its sum, unless every row (…,n) is a distribution."""
    if 0 in rows.shape:
        raise InvalidInput(name, "non-empty dimensions", f"shape {tuple(rows.shape)}", "pass at least one entry")
    rows = rows.detach()
    if rows.amin() < 0:
        where = (rows < 0).nonzero()[0].tolist()
        raise InvalidInput(
            f"{name}{where}", "a non-negative probability", str(rows[tuple(where)].item()), "remove negative entries"
        )
    sums = rows.sum(-1)
    off = _off(sums)
    if off.any():
        where = off.nonzero()[0].tolist()
        row = f" row {where[0] if len(where) == 1 else where}" if where else ""
        raise InvalidInput(
            f"{name}{row} is not a distribution",
            "entries that sum to 1",
            f"a sum of {sums[tuple(where)].item():.{7 if rows.dtype == torch.float32 else 10}g}",
            "columns sum to 1: transpose it, rows being laws" if transposed(rows) else "divide the row by its sum",
        )


def transposed(rows: torch.Tensor) -> bool:
    """Return whether square matrices (…,n,n) have laws as their columns."""
    return rows.ndim > 1 and rows.shape[-1] == rows.shape[-2] and not _off(rows.sum(-2)).any()


def require_possible(possible: torch.Tensor, what: str) -> None:
    """Raise :class:`ImpossibleText` unless all texts (…) are possible; ``what`` names one, ``{}`` is its place."""
    if possible.all():
        return
    place = ", ".join(map(str, (~possible).nonzero()[0].tolist()))
    remedy = "drop the text, or smooth the emissions"
    raise ImpossibleText(what.format(place), "text of positive probability", "probability 0", remedy)


def _off(sums: torch.Tensor) -> torch.Tensor:
    """Return whether each sum is further from one than rounding explains."""
    return (sums - 1).abs() > ROW_SUM_TOLERANCE[sums.dtype]
