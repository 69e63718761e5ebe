"""Head tuning against prompt tuning on exact conditionals: Figure 3 (left) of Wei, Xie & Ma (2021)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import xarray as xr

from ppl_hmm.experiments.engine.runner import Progress
from ppl_hmm.experiments.figure3.configurations import HeadVsPrompt
from ppl_hmm.experiments.figure3.reproduction import reproduce

_COMPUTE = "ppl_hmm.experiments.figure3.head_vs_prompt_cells:compute"  # loads PyTorch


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
    raw text, a linear head on probabilities, one on log-probabilities, a learned prompt with its head, the prompts and
    heads that Theorem P constructs, exactly and with a support threshold, where its condition holds, and linear heads
    on 2, 3 and 4 masks.

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
        Other fields of :class:`ppl_hmm.experiments.figure3.configurations.HeadVsPrompt`: ``length``, ``n_train``, …

    Returns
    -------
    xarray.DataTree
        ``/results`` with ``accuracy(approach, n_states, seed)`` in [0, 1], ``separable`` and ``condition`` (1 yes,
        0 no, −1 not asked), ``redraws``, ``undecidable(n_states, seed)``; ``/published``; ``/settings``; ``/timings``.
        Select by ``.sel(approach="head")``; stores of the first release, which say ``method``, are renamed when they
        are opened.

    Raises
    ------
    InvalidInput, ForeignFile, OtherConfiguration, WorkerLost
        Sizes that are too small; an ``out`` that cannot be used; a worker that died.
    NoBalancedTask
        A model that has no balanced task, like ten others drawn in its place: ``redraws`` counts these.

    See Also
    --------
    ppl_hmm.memory_vs_vanilla : the right panel
    ppl_hmm.open_results : read a finished or running experiment
    ppl_hmm.experiments.run_experiment : an experiment of one's own

    Examples
    --------
    >>> import tempfile, ppl_hmm
    >>> little = {"length": 10, "n_train": 100, "n_validation": 50, "n_test": 50, "restarts": 1}
    >>> tree = ppl_hmm.head_vs_prompt([3], 1, tempfile.mkdtemp(), workers=1, **little)
    >>> tree["results/accuracy"].sel(approach="prompt-theorem", n_states=3).values.tolist()
    [1.0]
    """
    return reproduce(
        HeadVsPrompt, _COMPUTE, states, seeds, out, workers=workers, executor=executor, progress=progress, **sizes
    )
