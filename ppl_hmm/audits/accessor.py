"""``tree.ppl_hmm``: what an audit's tree can tell. Importing this module registers it with xarray."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.report import report
from ppl_hmm.errors import InvalidInput
from ppl_hmm.storage.layout import LAYOUTS, kind_of, validate, with_current_names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@xr.register_datatree_accessor("ppl_hmm")
class AuditAccessor:
    """Summary, verdicts and figures of the tree that :func:`ppl_hmm.audit` returns, also after a round trip to disk.

    Raises
    ------
    InvalidInput
        The tree is no audit, or lacks a group, a variable or a dimension of one (which).
    """

    def __init__(self, tree: xr.DataTree) -> None:
        kind = kind_of(tree)
        if kind != "audit":
            raise InvalidInput("tree.ppl_hmm", "the tree of an audit", f"that of: {kind}", "pass what audit returns")
        self._tree = with_current_names(tree)
        validate(self._tree)

    @property
    def verdict(self) -> dict[str, str]:
        """The verdict of each question."""
        table = self._tree[schema.RECOVERABILITY].to_dataset()
        return dict(zip(table[schema.QUESTION].values.tolist(), table["verdict"].values.tolist(), strict=True))

    def summary(self) -> pd.DataFrame:
        """Return a row for each question: verdict, residual, conditioning, agreement and measured accuracy."""
        columns = list(LAYOUTS["audit"][schema.RECOVERABILITY])  # stores may have their own order
        return self._tree[schema.RECOVERABILITY].to_dataset()[columns].to_dataframe()

    def report(self) -> str:
        """Return the answers in words: what, why, how stable, what to do."""
        return report(self._tree)

    def plot(self, name: str) -> Figure:
        """Return the figure ``name``; an unknown name lists the figures that this tree has."""
        from ppl_hmm.audits.figures.catalogue import draw_audit

        return draw_audit(name, self._tree)
