"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import xarray as xr
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from ppl_hmm import schema
from ppl_hmm.errors import one_of
from ppl_hmm.experiments.look import data


class _Column(NamedTuple):
    heading: str
    show: Callable[[xr.Dataset], str]
    method: str | None = None  # None: the same for all


class _Table(NamedTuple):
    title: str
    columns: tuple[_Column, ...]
    caption: str  # settings of the experiment are filled in


def table(name: str, tree: xr.DataTree) -> Group:
    """Return the tables of an experiment, beside the published numbers.

    Raises
    ------
    InvalidInput
        No such table (with the list).
    """
    one_of("table", name, TABLES)
    curves = data.curves(tree)
    return Group(*(_filled(layout, curves) for layout in TABLES[name] if _is_there(layout, curves)))


def _is_there(layout: _Table, curves: xr.Dataset) -> bool:
    """Say whether the experiment has the approaches of a table; stores of former versions lack some."""
    methods = {column.method for column in layout.columns if column.method is not None}
    return methods <= set(curves[schema.APPROACH].values)


def empty_table(title: str, headings: Iterable[str], caption: str) -> Table:
    """Return a table without rows."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, caption=caption, caption_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _filled(layout: _Table, curves: xr.Dataset) -> Table:
    headings = (column.heading for column in layout.columns)
    table = empty_table(layout.title, headings, layout.caption.format(**curves.attrs))
    for n_states in curves[schema.N_STATES].values:
        row = curves.sel({schema.N_STATES: n_states})
        table.add_row(
            *(
                column.show(row if column.method is None else row.sel({schema.APPROACH: column.method}))
                for column in layout.columns
            )
        )
    return table


def _size(row: xr.Dataset) -> str:
    return str(int(row[schema.N_STATES]))


def _interval(curve: xr.Dataset) -> str:
    mean = _percent(curve["mean"])
    return mean if np.isnan(curve["low"]) else f"{mean}\n{_percent(curve['low'])}–{_percent(curve['high'])}"


def _published(curve: xr.Dataset) -> str:
    if np.isnan(curve["published"]):
        return "–"
    return f"{_percent(curve['published'])}\n±{_percent(curve['published_half_width'])}"


def _mean(curve: xr.Dataset) -> str:
    return _percent(curve["mean"])


def _undecidable(row: xr.Dataset) -> str:
    return _percent(row["undecidable"])


def _separable(curve: xr.Dataset) -> str:
    return _share(curve["separable"])


def _condition(curve: xr.Dataset) -> str:
    return _share(curve["condition"])


def _percent(value: xr.DataArray) -> str:
    return "–" if np.isnan(value) else f"{100 * float(value):.1f}"


def _share(value: xr.DataArray) -> str:
    return "–" if np.isnan(value) else f"{100 * float(value):.0f}"


def _decimals(name: str) -> Callable[[xr.Dataset], str]:
    return lambda row: f"{float(row[name]):.4f}"


_total_variation, _excess = _decimals(schema.TOTAL_VARIATION), _decimals(schema.EXCESS)
_excess_at_read_position = _decimals(schema.EXCESS_AT_READ_POSITION)


_ACCURACY = "Test accuracy in %: mean over models, 95 % interval"
_PAPER = "paper: a transformer trained on samples, read off the published figure\n"
_TRAINED = "trained: {language_model}, objective {objective}, {budget} steps\n"
_DISTANCE = "total variation: mean over test texts\nexcess: loss over the best one, in nats"
_SHARES = "Share of models in %"
TABLES = {
    "head-vs-prompt": (
        _Table(
            _ACCURACY,
            (
                _Column("K", _size),
                _Column("head", _interval, schema.HEAD),
                _Column("paper", _published, schema.HEAD),
                _Column("head, log G", _interval, schema.HEAD_LOG),
                _Column("prompt", _interval, schema.PROMPT),
                _Column("paper", _published, schema.PROMPT),
                _Column("built", _mean, schema.PROMPT_THEOREM),
                _Column("built δ", _mean, schema.PROMPT_THEOREM_THRESHOLD),
            ),
            _PAPER + "built: prompt and head of Theorem P, mean over the models that meet its condition",
        ),
        _Table(
            _SHARES,
            (
                _Column("K", _size),
                _Column("separable", _separable, schema.HEAD),
                _Column("…prompted", _separable, schema.PROMPT),
                _Column("Theorem H", _condition, schema.HEAD),
                _Column("Theorem P", _condition, schema.PROMPT_THEOREM),
                _Column("with δ", _condition, schema.PROMPT_THEOREM_THRESHOLD),
                _Column("undecided", _undecidable),
            ),
            "separable: a linear head separates the training text, also after the learned prompt\n"
            "Theorem: its condition holds; δ = {support_threshold:g}: rarer moves left out, also needed ones; not"
            " proved\nundecided: share of test texts whose margin is within rounding",
        ),
        _Table(
            "Linear heads on several masks",
            (
                _Column("K", _size),
                _Column("1 mask", _mean, schema.HEAD),
                *(_Column(f"{n_masks} masks", _mean, own) for n_masks, own in schema.HEAD_ON_MASKS.items()),
                _Column("certified: 1", _condition, schema.HEAD),
                *(_Column(str(n_masks), _condition, own) for n_masks, own in schema.HEAD_ON_MASKS.items()),
            ),
            "test accuracy in %, learned; certified: share of models, in %, for which\n"
            "Theorem H (one mask) or Theorem C (several) proves that such a head exists",
        ),
    ),
    "head-vs-prompt-trained": (
        _Table(
            _ACCURACY,
            (
                _Column("K", _size),
                _Column("head: exact", _interval, schema.HEAD),
                _Column("trained", _interval, schema.HEAD_TRAINED),
                _Column("paper", _published, schema.HEAD),
                _Column("prompt: exact", _interval, schema.PROMPT),
                _Column("trained", _interval, schema.PROMPT_TRAINED),
                _Column("paper", _published, schema.PROMPT),
            ),
            _TRAINED + _PAPER.rstrip(),
        ),
        _Table(
            "Distance from the exact law at the mask",
            (
                _Column("K", _size),
                _Column("total variation", _total_variation),
                _Column("excess", _excess_at_read_position),
            ),
            _DISTANCE,
        ),
    ),
    "memory-vs-vanilla": (
        _Table(
            _ACCURACY,
            (
                _Column("states", _size),
                _Column("softmax", _interval, schema.ATTENTION_SOFTMAX),
                _Column("paper", _published, schema.ATTENTION_SOFTMAX),
                _Column("hard", _interval, schema.ATTENTION_HARD),
                _Column("built", _mean, schema.ATTENTION_THEOREM),
                _Column("vanilla", _interval, schema.VANILLA_LINEAR),
                _Column("paper", _published, schema.VANILLA_LINEAR),
            ),
            "states: 4·m with a memory of m values, read by attention; K for vanilla\n"
            + _PAPER
            + "built: attention of Theorem M where its condition holds, also on texts\n"
            "that never surely enter the states it reads, where it promises nothing",
        ),
        _Table(
            _SHARES,
            (
                _Column("states", _size),
                _Column("Theorem M", _condition, schema.ATTENTION_THEOREM),
                _Column("Theorem H", _condition, schema.VANILLA_LINEAR),
                _Column("separable", _separable, schema.VANILLA_LINEAR),
                _Column("undecided", _undecidable),
            ),
            "Theorem: its condition holds, M with a memory, H without\n"
            "separable: vanilla training text, by a linear head\n"
            "undecided: memory texts whose margin is within rounding",
        ),
    ),
    "memory-vs-vanilla-trained": (
        _Table(
            _ACCURACY,
            (
                _Column("states", _size),
                _Column("attention: exact", _interval, schema.ATTENTION_SOFTMAX),
                _Column("trained", _interval, schema.ATTENTION_TRAINED),
                _Column("paper", _published, schema.ATTENTION_SOFTMAX),
                _Column("vanilla: exact", _interval, schema.VANILLA_LINEAR),
                _Column("trained", _interval, schema.VANILLA_TRAINED),
                _Column("paper", _published, schema.VANILLA_LINEAR),
            ),
            "states: 4·m with a memory of m values, read by softmax attention; K for vanilla\n"
            + _TRAINED
            + _PAPER.rstrip(),
        ),
        _Table(
            "Distance of trained laws from the exact ones, where the head reads",
            (
                _Column("states", _size),
                _Column("memory: total variation", _total_variation, schema.ATTENTION_TRAINED),
                _Column("excess", _excess, schema.ATTENTION_TRAINED),
                _Column("vanilla: total variation", _total_variation, schema.VANILLA_TRAINED),
                _Column("excess", _excess, schema.VANILLA_TRAINED),
            ),
            _DISTANCE,
        ),
    ),
}
