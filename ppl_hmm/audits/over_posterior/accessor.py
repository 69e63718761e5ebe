"""What ``tree.ppl_hmm`` offers on the audit of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.over_posterior import report as words
from ppl_hmm.audits.over_posterior.report import TOLD
from ppl_hmm.storage.layout import validate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FitAuditAccessor:
    """Summary, report and figures of the audit of a fit."""

    def __init__(self, tree: xr.DataTree) -> None:
        validate(tree)
        self._tree = tree

    @property
    def verdict(self) -> dict[str, dict[str, float]]:
        """The share of draws of each verdict, by question: it means little without :meth:`summary`'s half-ranges."""
        return words.verdict_shares(self._tree)

    @property
    def warnings(self) -> list[str]:
        """What must be known before any verdict: chains that do not agree, text that told nothing."""
        return words.warnings(self._tree)

    def summary(self) -> pd.DataFrame:
        """Return a row for each question: P(half-range ≤ budget) at some budgets, medians, accuracy across draws."""
        drawn = self._tree[schema.RECOVERABILITY_POSTERIOR].to_dataset()
        by_draw = (schema.CHAIN, schema.DRAW)
        chances = drawn[schema.PROBABILITY].sel({schema.BUDGET: list(TOLD)}, method="nearest")
        columns: dict[str, Any] = {
            f"P(half-range ≤ {budget:g})": chances.sel({schema.BUDGET: budget}).values
            for budget in chances[schema.BUDGET].values.tolist()
        }
        columns["median half-range"] = drawn[schema.HALF_RANGE].quantile(0.5, by_draw, method="inverted_cdf").values
        for name in (schema.CROSS_DRAW_ACCURACY, schema.OWN_ACCURACY):
            columns[name] = drawn[name].mean(by_draw).values
        return pd.DataFrame(columns, pd.Index(drawn[schema.QUESTION].values, name=schema.QUESTION))

    def report(self, *, width: int = 80, **_: bool) -> str:
        """Return the answers in words, what forbids to believe them first, in lines of ``width`` columns."""
        return words.report(self._tree, width=width)

    def plot(self, name: str) -> Figure:
        """Return the figure ``name``; an unknown name lists the figures that this tree has."""
        from ppl_hmm.audits.over_posterior.figures import draw_fit

        return draw_fit(name, self._tree)
