"""Head tuning against prompt tuning on exact conditionals: Figure 3 (left) of Wei, Xie & Ma (2021)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import xarray as xr

from ppl_hmm.errors import at_least
from ppl_hmm.experiments.cells import compute_cell
from ppl_hmm.experiments.grid import Settings, as_states
from ppl_hmm.experiments.runner import Progress, run
from ppl_hmm.experiments.store import Store

NAME = "head-vs-prompt"
#: Sizes of the published figure.
STATES = (4, 8, 10, 15, 25, 30)
N_SEEDS = 20
#: Settings of a run that takes seconds: the same code on little text.
SMOKE: dict[str, Any] = {"length": 20, "n_train": 300, "n_validation": 100, "n_test": 200, "restarts": 2}
SMOKE_STATES = (4, 12)
SMOKE_SEEDS = 2


def head_vs_prompt(
    states: Sequence[int],
    seeds: int,
    out: str | Path,
    *,
    workers: int = 2,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **sizes: Any,
) -> xr.DataTree:
    """Compute the experiment, or continue it, and return its tree.

    At each number of hidden states and each seed: a random ``wei2021`` model and task, exact conditionals G in front of
    raw text, a linear head on probabilities, one on log-probabilities, a learned prompt with its head, and the prompts
    and heads that Theorem P constructs, exactly and with a support threshold, where its condition holds.

    Parameters
    ----------
    states
        Numbers of hidden states K.
    seeds
        How many models at each size: seeds 0..seeds−1.
    out
        Directory of the results. A finished one is returned as it is; one of another configuration is refused.
    workers
        Processes; 1 computes in this one. The numbers do not depend on it.
    executor
        Any ``concurrent.futures.Executor`` in place of processes, such as that of a Dask client.
    progress
        Called with (cells done, cells in all).
    sizes
        Other fields of :class:`ppl_hmm.experiments.grid.Settings`: ``length``, ``n_train``, …

    Returns
    -------
    xarray.DataTree
        ``/results`` with ``accuracy(method, n_states, seed)`` in [0, 1], ``separable`` and ``condition`` (1 yes, 0 no,
        −1 not asked), ``undecidable(n_states, seed)``; ``/published``; ``/settings``; ``/timings``. Select a method by
        ``.sel({"method": "head"})``: as a keyword, xarray takes ``method`` for something else.

    Raises
    ------
    InvalidInput, ForeignFile, OtherConfiguration, WorkerLost
        Sizes below one; an ``out`` that cannot be used; a worker that died.
    """
    settings = Settings(NAME, as_states(states), at_least("seeds", seeds, 1), **sizes)
    at_least("workers", workers, 1)  # before anything is written
    return run(compute_cell, Store(out, settings), workers=workers, executor=executor, progress=progress)
