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
    errors = (sums - 1).abs()
    if errors.amax() > ROW_SUM_TOLERANCE[rows.dtype]:
        where = (errors > ROW_SUM_TOLERANCE[rows.dtype]).nonzero()[0].tolist()
        row = f" row {where[0] if len(where) == 1 else where}" if where else ""
        raise InvalidInput(
            f"{name}{row} is not a distribution",
            "entries that sum to 1",
            f"a sum of {sums[tuple(where)].item():.{7 if rows.dtype == torch.float32 else 10}g}",
            "divide the row by its sum",
        )


def require_possible(possible: torch.Tensor, what: str) -> None:
    """Raise :class:`ImpossibleText` unless all texts (…) are possible; ``what`` names one, ``{}`` is its place."""
    if possible.all():
        return
    place = ", ".join(map(str, (~possible).nonzero()[0].tolist()))
    remedy = "drop the text, or smooth the emissions"
    raise ImpossibleText(what.format(place), "text of positive probability", "probability 0", remedy)
