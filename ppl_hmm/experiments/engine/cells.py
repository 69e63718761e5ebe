"""Compute a cell: threads and time around what an experiment answers, and the answers of its methods as a dataset."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from ppl_hmm import schema
from ppl_hmm.experiments.engine.grid import Cell, Settings

#: What an experiment computes for one cell; the first argument is its own class of settings.
Compute = Callable[[Any, Cell], xr.Dataset]


class Answer(NamedTuple):
    """What one method reaches on each of the P models of a cell."""

    method: str
    accuracy: ArrayLike  # on test text; NaN where the method has nothing to offer
    separable: ArrayLike | None = None  # does some linear head separate the decidable training text? None: not asked
    condition: ArrayLike | None = None  # does the theorem's condition hold? None: not asked


def compute_cell(compute: Compute, settings: Settings, cell: Cell) -> xr.Dataset:
    """Return what ``compute`` gives for a cell, and the wall time.

    The same settings and cell give the same numbers in every process: the number of threads is a setting.
    """
    started = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with threadpool_limits(settings.threads):
            results = compute(settings, cell)
    finally:
        torch.set_num_threads(threads)
    seconds = time.perf_counter() - started
    shape = (1, len(cell.seeds))
    results[schema.SECONDS] = (
        (schema.N_STATES, schema.SEED),
        np.full(shape, seconds),
        {"units": "s", "long_name": "wall time of the cell that the seed belongs to"},
    )
    return results


def gather(cell: Cell, answers: Iterable[Answer], undecidable: np.ndarray) -> xr.Dataset:
    """Return the answers of all methods, and the undecidable share (P,) of the test text, for one cell."""
    answers = list(answers)
    by_method = (schema.APPROACH, schema.N_STATES, schema.SEED)
    accuracy = np.array([answer.accuracy for answer in answers])[:, None]
    return xr.Dataset(
        {
            schema.ACCURACY: (by_method, accuracy, {"units": "1"}),
            schema.SEPARABLE: (by_method, _flags(cell, [answer.separable for answer in answers]), schema.FLAGS),
            schema.CONDITION: (by_method, _flags(cell, [answer.condition for answer in answers]), schema.FLAGS),
            schema.UNDECIDABLE: (by_method[1:], undecidable[None], {"units": "1"}),
        },
        coords={
            schema.APPROACH: [answer.method for answer in answers],
            schema.N_STATES: [cell.n_states],
            schema.SEED: list(cell.seeds),
        },
    )


def _flags(cell: Cell, rows: list[ArrayLike | None]) -> np.ndarray:
    """Return (approach, n_states, seed) for one number of states."""
    not_asked = np.full(len(cell.seeds), schema.NOT_ASKED)
    return np.array([not_asked if row is None else row for row in rows], dtype=np.int8)[:, None]
