"""Tables for the terminal."""

from __future__ import annotations

import numpy as np
import xarray as xr
from rich.box import SIMPLE_HEAD
from rich.table import Table

from ppl_hmm import schema
from ppl_hmm.errors import one_of
from ppl_hmm.plots import data


def table(name: str, tree: xr.DataTree) -> Table:
    """Return the table of an experiment, beside the published numbers.

    Raises
    ------
    InvalidInput
        No such table (with the list).
    """
    one_of("table", name, TABLES)
    return TABLES[name](tree)


def _head_vs_prompt(tree: xr.DataTree) -> Table:
    curves = data.head_vs_prompt(tree)
    undecidable = tree[schema.RESULTS].to_dataset()[schema.UNDECIDABLE].mean(schema.SEED)
    result = Table(
        title="Test accuracy in %: mean over models, 95 % interval",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
        caption="paper: a transformer trained on samples, decoded from the published figure\n"
        "separable: share of models whose training text a linear head separates, without → with the prompt\n"
        "undec.: undecidable, share of test texts whose margin is within rounding",
        caption_justify="left",
    )
    for heading in ("K", "head", "paper", "head on log G", "prompt", "paper", "separable", "undec."):
        result.add_column(heading, justify="right", no_wrap=heading != "head on log G")
    for n_states in curves[schema.N_STATES].values:
        row = curves.sel({schema.N_STATES: n_states})
        head, head_log, prompt = (
            row.sel({schema.METHOD: method}) for method in (schema.HEAD, schema.HEAD_LOG, schema.PROMPT)
        )
        result.add_row(
            str(n_states),
            _interval(head),
            _published(head),
            _interval(head_log),
            _interval(prompt),
            _published(prompt),
            f"{_share(head['separable'])}→{_share(prompt['separable'])}",
            _percent(undecidable.sel({schema.N_STATES: n_states})),
        )
    return result


def _interval(curve: xr.Dataset) -> str:
    mean = _percent(curve["mean"])
    return mean if np.isnan(curve["low"]) else f"{mean}\n{_percent(curve['low'])}–{_percent(curve['high'])}"


def _published(curve: xr.Dataset) -> str:
    if np.isnan(curve["published"]):
        return "–"
    return f"{_percent(curve['published'])}\n±{_percent(curve['published_half_width'])}"


def _percent(value: xr.DataArray) -> str:
    return "–" if np.isnan(value) else f"{100 * float(value):.1f}"


def _share(value: xr.DataArray) -> str:
    return "–" if np.isnan(value) else f"{100 * float(value):.0f}"


TABLES = {"head-vs-prompt": _head_vs_prompt}
