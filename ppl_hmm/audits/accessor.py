"""``tree.ppl_hmm``: what an audit's tree can tell. Importing this module registers it with xarray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.over_posterior.accessor import FitAuditAccessor
from ppl_hmm.audits.report import WIDTH, report
from ppl_hmm.audits.tree import Audited
from ppl_hmm.errors import ForeignFile, InvalidInput
from ppl_hmm.storage import netcdf
from ppl_hmm.storage.layout import LAYOUTS, kind_of, validate, with_current_names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ppl_hmm.recoverability.refutation import Refutation


def open_audit(path: str | Path) -> xr.DataTree:
    """Return a saved audit's tree, with ``tree.ppl_hmm``.

    Parameters
    ----------
    path
        A netCDF file: ``audit.nc`` of ``ppl-hmm audit --out``, or one that ``tree.to_netcdf`` wrote. Files of version
        0.1 are read, too: dimensions get their present names.

    Raises
    ------
    ForeignFile
        There is no such file, it is damaged, or it is no audit's.

    See Also
    --------
    audit : Makes the tree.
    load : Models, tasks, prompts and heads.
    open_results : Experiments.

    Examples
    --------
    >>> import tempfile
    >>> from ppl_hmm import audit, example, open_audit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     audit(*example("aliased"), length=3, seed=0).to_netcdf(f"{folder}/audit.nc")
    ...     open_audit(f"{folder}/audit.nc").ppl_hmm.verdict
    {'head': 'not recoverable', 'masks': 'recoverable', 'prompt': 'recoverable'}
    """
    tree = with_current_names(netcdf.read(path))
    try:
        if schema.RECOVERABILITY_POSTERIOR not in tree.children:
            _require_audit(tree, f"file {path}")
        validate(tree)
    except InvalidInput as error:
        remedy = "load reads models, tasks, prompts and heads; open_results reads experiments"
        raise ForeignFile(f"file {path}", "the tree of an audit", str(error), remedy) from None
    return tree


@xr.register_datatree_accessor("ppl_hmm")
def accessor(tree: xr.DataTree) -> AuditAccessor | FitAuditAccessor:
    """Return what ``tree.ppl_hmm`` is: of the audit of a model, or of that of a fit."""
    of_fit = isinstance(tree, xr.DataTree) and schema.RECOVERABILITY_POSTERIOR in tree.children
    return FitAuditAccessor(tree) if of_fit else AuditAccessor(tree)


class AuditAccessor:
    """Summary, verdicts and figures of the tree that :func:`ppl_hmm.audit` returns, also after a round trip to disk.

    Raises
    ------
    InvalidInput
        The tree is no audit, or lacks a group, a variable or a dimension of one (which).
    """

    def __init__(self, tree: xr.DataTree) -> None:
        _require_audit(tree, "tree.ppl_hmm")
        self._audited = Audited(tree)
        validate(self._audited.tree)

    @property
    def verdict(self) -> dict[str, str]:
        """The verdict of each question."""
        return {name: str(asked.verdict) for name, asked in self._audited.asked.items()}

    @property
    def remedy(self) -> dict[str, str | int | float]:
        """The cheapest thing that works: what is ``recommended``, on what ``basis``, its cost and its stability.

        ``n_masks`` that a head reads, ``n_prompt_tokens``, ``half_range`` over ‖μ‖_∞ of a certified head (NaN for
        others), ``accuracy`` of what was learned on new text.
        """
        return self._audited.remedy

    @property
    def refutation(self) -> Refutation | None:
        """The proof that no prompt will do, which ``audit(…, prompt_seconds=…)`` looks for; None without one."""
        return self._audited.refutation

    @property
    def draws(self) -> xr.Dataset:
        """Margins, best guesses and entropies of sampled texts as independent draws (chain, draw), for ArviZ.

        ``arviz.summary(tree.ppl_hmm.draws)`` and ``arviz_stats.summary(tree, group="draws")`` summarise them.
        """
        remedy = "audit a sample of texts: more tokens than can be listed, or fewer n_sequences"
        return self._audited.group(schema.DRAWS, remedy)

    def summary(self) -> pd.DataFrame:
        """Return a row for each question: verdict, cause, residual, conditioning, agreement, measured accuracy."""
        columns = list(LAYOUTS["audit"][schema.RECOVERABILITY])  # stores may have their own order
        return self._audited.table[[*columns, schema.CAUSE, schema.N_MASKS, schema.HALF_RANGE]].to_dataframe()

    def report(self, *, verbose: bool = False, width: int = WIDTH) -> str:
        """Return the answers in words, in lines of ``width`` columns; theorems and formulas only if ``verbose``."""
        return report(self._audited.tree, verbose=verbose, width=width)

    def plot(self, name: str) -> Figure:
        """Return the figure ``name``; an unknown name lists the figures that this tree has."""
        from ppl_hmm.audits.figures.catalogue import draw_audit

        return draw_audit(name, self._audited.tree)


def _require_audit(tree: xr.DataTree, what: str) -> None:
    kind = kind_of(tree)
    if kind not in ("audit", schema.AUDIT_OF_LABELS):
        raise InvalidInput(what, "the tree of an audit", f"that of: {kind}", "pass what audit returns")
