"""Compute a panel from its sizes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import xarray as xr

from ppl_hmm.errors import at_least
from ppl_hmm.experiments.engine.cells import Compute
from ppl_hmm.experiments.engine.runner import Progress, run_experiment
from ppl_hmm.experiments.figure3.configurations import Figure3Settings


def reproduce(
    configuration: type[Figure3Settings],
    compute: Compute,
    states: Sequence[int],
    seeds: int,
    out: str | Path,
    *,
    workers: int = 2,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **sizes: Any,
) -> xr.DataTree:
    """Compute a panel in the directory ``out``, or continue it there.

    Parameters
    ----------
    configuration, compute
        The panel's settings, and what it computes for one cell.
    states, seeds, out, workers, executor, progress, sizes
        As in :func:`ppl_hmm.head_vs_prompt`, and so are the errors.
    """
    settings = configuration(tuple(states), at_least("seeds", seeds, 1), **sizes)
    return run_experiment(settings, compute, out, workers=workers, executor=executor, progress=progress)
