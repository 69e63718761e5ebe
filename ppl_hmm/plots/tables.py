"""Tables for the terminal."""

from __future__ import annotations

import numpy as np
import xarray as xr
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from ppl_hmm import schema
from ppl_hmm.errors import one_of
from ppl_hmm.plots import data

_METHODS = (schema.HEAD, schema.HEAD_LOG, schema.PROMPT, schema.PROMPT_THEOREM, schema.PROMPT_THEOREM_THRESHOLD)


def table(name: str, tree: xr.DataTree) -> Group:
    """Return the tables of an experiment, beside the published numbers.

    Raises
    ------
    InvalidInput
        No such table (with the list).
    """
    one_of("table", name, TABLES)
    return TABLES[name](tree)


def _head_vs_prompt(tree: xr.DataTree) -> Group:
    curves = data.head_vs_prompt(tree)
    threshold = f"{tree[schema.SETTINGS].attrs['support_threshold']:g}"
    accuracy = _table(
        "Test accuracy in %: mean over models, 95 % interval",
        ("K", "head", "paper", "head, log G", "prompt", "paper", "built", "built δ"),
        "paper: a transformer trained on samples, decoded from the published figure\n"
        "built: prompt and head of Theorem P, mean over the models that meet its condition",
    )
    shares = _table(
        "Share of models in %",
        ("K", "separable", "…prompted", "Theorem H", "Theorem P", "with δ", "undecided"),
        "separable: a linear head separates the training text, also after the learned prompt\n"
        f"Theorem: its condition holds; δ = {threshold}: rarer moves left out, also needed ones; not proved\n"
        "undecided: share of test texts whose margin is within rounding",
    )
    undecidable = tree[schema.RESULTS].to_dataset()[schema.UNDECIDABLE].mean(schema.SEED)
    for n_states in curves[schema.N_STATES].values:
        row = curves.sel({schema.N_STATES: n_states})
        head, head_log, prompt, theorem, relaxed = (row.sel({schema.METHOD: method}) for method in _METHODS)
        accuracy.add_row(
            str(n_states),
            _interval(head),
            _published(head),
            _interval(head_log),
            _interval(prompt),
            _published(prompt),
            _percent(theorem["mean"]),
            _percent(relaxed["mean"]),
        )
        shares.add_row(
            str(n_states),
            *(_share(curve["separable"]) for curve in (head, prompt)),
            *(_share(curve["condition"]) for curve in (head, theorem, relaxed)),
            _percent(undecidable.sel({schema.N_STATES: n_states})),
        )
    return Group(accuracy, shares)


def _table(title: str, headings: tuple[str, ...], caption: str) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, caption=caption, caption_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


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
