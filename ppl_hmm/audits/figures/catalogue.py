"""The figures of an audit, by name: what each shows, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import matplotlib as mpl
import xarray as xr
from matplotlib.figure import Figure

from ppl_hmm.audits.figures import answers_data, answers_drawing, labelled, model_data, model_drawing
from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.plots.style import SETTINGS


class AuditFigure(NamedTuple):
    """A figure of an audit: its data, from the tree, and how they are drawn."""

    data: Callable[[xr.DataTree], xr.Dataset]  # raises InvalidInput, with a remedy, where the tree has no such data
    draw: Callable[[xr.Dataset], Figure]


AUDIT_FIGURES = {
    "singular-values": AuditFigure(model_data.singular_values, model_drawing.draw_singular_values),
    "margins": AuditFigure(model_data.margins, model_drawing.draw_margins),
    "simplex": AuditFigure(model_data.simplex, model_drawing.draw_simplex),
    "linear-map": AuditFigure(model_data.linear_map, model_drawing.draw_linear_map),
    "prompt": AuditFigure(answers_data.prompt, answers_drawing.draw_prompt),
    "attention": AuditFigure(answers_data.attention, answers_drawing.draw_attention_along_text),
    "lengths": AuditFigure(model_data.lengths, model_drawing.draw_lengths),
    "transfer": AuditFigure(answers_data.transfer, answers_drawing.draw_transfer),
    "learned": AuditFigure(labelled.learned, labelled.draw_learned),
    "learning-curve": AuditFigure(labelled.learning_curve, labelled.draw_learning_curve),
}


def available(tree: xr.DataTree) -> list[str]:
    """Return the names of the figures that an audit's tree has the data of."""
    return [name for name, figure in AUDIT_FIGURES.items() if _has_data(figure, tree)]


def draw_audit(name: str, tree: xr.DataTree) -> Figure:
    """Return the figure ``name`` of an audit's tree.

    Raises
    ------
    InvalidInput
        No such figure (with the list of those that this tree has), or one that this tree has no data of (and why).
    """
    if name not in AUDIT_FIGURES:
        one_of("figure", name, available(tree))
    figure = AUDIT_FIGURES[name]
    with mpl.rc_context(SETTINGS):
        return figure.draw(figure.data(tree))


def draw_certificates(table: xr.Dataset) -> Figure:
    """Return the figure of many models: accuracy of learned heads against what the certificate said.

    Parameters
    ----------
    table
        As in :func:`ppl_hmm.audits.figures.answers_data.certificates`.
    """
    with mpl.rc_context(SETTINGS):
        return answers_drawing.draw_certificates(answers_data.certificates(table))


def _has_data(figure: AuditFigure, tree: xr.DataTree) -> bool:
    try:
        figure.data(tree)
    except InvalidInput:
        return False
    return True
