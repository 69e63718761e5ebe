"""What approaches reach on the models of a cell, as its columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ppl_hmm import schema
from ppl_hmm.experiments.figure3.text import LabelledText

_BY_APPROACH = (schema.APPROACH, schema.SEED)
_REDRAWS = {"units": "1", "long_name": "models drawn before one that has a balanced task"}


class Answer(NamedTuple):
    """What one approach reaches on each of the P models of a cell."""

    approach: str
    accuracy: ArrayLike  # on test text; NaN where the approach has nothing to offer
    separable: ArrayLike | None = None  # does some linear head separate the decidable training text? None: not asked
    condition: ArrayLike | None = None  # does the theorem's condition hold? None: not asked


def columns(*arms: tuple[LabelledText[Any], Iterable[Answer]]) -> xr.Dataset:
    """Return the answers on the text of each arm; the undecidable share (P,) is that of the first arm's test text."""
    answers = [(answer, data) for data, answers in arms for answer in answers]
    first = arms[0][0]
    n_models = len(first.models)
    return xr.Dataset(
        {
            schema.ACCURACY: (_BY_APPROACH, np.array([answer.accuracy for answer, _ in answers]), {"units": "1"}),
            schema.SEPARABLE: _flags([answer.separable for answer, _ in answers], n_models),
            schema.CONDITION: _flags([answer.condition for answer, _ in answers], n_models),
            schema.REDRAWS: (_BY_APPROACH, np.array([data.redraws for _, data in answers], np.int16), _REDRAWS),
            schema.UNDECIDABLE: (schema.SEED, first.undecidable, {"units": "1"}),
        },
        coords={schema.APPROACH: [answer.approach for answer, _ in answers]},
    )


def _flags(rows: list[ArrayLike | None], n_models: int) -> tuple[tuple[str, ...], np.ndarray, dict[str, Any]]:
    not_asked = np.full(n_models, schema.NOT_ASKED)
    values = np.array([not_asked if row is None else row for row in rows], dtype=np.int8)
    return _BY_APPROACH, values, schema.FLAGS
