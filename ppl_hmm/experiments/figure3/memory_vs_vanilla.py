"""Attention with a memory against a linear head without one: Figure 3 (right) of Wei, Xie & Ma (2021)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import xarray as xr

from ppl_hmm.experiments.engine.runner import Progress
from ppl_hmm.experiments.figure3.configurations import MemoryVsVanilla
from ppl_hmm.experiments.figure3.reproduction import reproduce

_COMPUTE = "ppl_hmm.experiments.figure3.memory_vs_vanilla_cells:compute"  # loads PyTorch


def memory_vs_vanilla(
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

    At each size S and each seed, two arms. A random ``wei2021-memory`` model of 4 states whose one cell has S/4 values,
    a task on its memory, exact conditionals at every position of raw text, and attention heads on them: learned, by
    softmax and hard, and the one that Theorem M constructs, where its condition holds. And a random ``wei2021`` model
    of S states without a memory, with a task and a linear head as in :func:`ppl_hmm.head_vs_prompt`.

    Parameters
    ----------
    states
        Sizes S: multiples of 4, at least 8.
    seeds, out, workers, executor, progress
        As in :func:`ppl_hmm.head_vs_prompt`.
    sizes
        Other fields of :class:`ppl_hmm.experiments.figure3.configurations.MemoryVsVanilla`: ``length``, ``n_train``, …

    Returns
    -------
    xarray.DataTree
        As from :func:`ppl_hmm.head_vs_prompt`. ``undecidable(n_states, seed)`` is that of the memory arm; ``condition``
        is Theorem M's for ``attention-theorem``, Theorem H's for ``vanilla-linear``.

    Raises
    ------
    InvalidInput, ForeignFile, OtherConfiguration, WorkerLost
        Sizes that are not allowed; an ``out`` that cannot be used; a worker that died.
    NoBalancedTask
        As from :func:`ppl_hmm.head_vs_prompt`.

    See Also
    --------
    ppl_hmm.head_vs_prompt : the left panel
    ppl_hmm.memory_vs_vanilla_trained : with trained language models as well
    ppl_hmm.open_results : read a finished or running experiment
    ppl_hmm.experiments.run_experiment : an experiment of one's own

    Examples
    --------
    >>> import tempfile, ppl_hmm
    >>> little = {"length": 8, "n_train": 60, "n_validation": 30, "n_test": 50}
    >>> tree = ppl_hmm.memory_vs_vanilla([8], 1, tempfile.mkdtemp(), workers=1, **little)
    >>> tree["results/condition"].sel(approach="attention-theorem", n_states=8).values.tolist()
    [1]
    """
    return reproduce(
        MemoryVsVanilla, _COMPUTE, states, seeds, out, workers=workers, executor=executor, progress=progress, **sizes
    )
