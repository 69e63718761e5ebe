"""The kernel view of fine-tuning where the truth is known: networks trained on text of a model."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import xarray as xr

from ppl_hmm.errors import at_least
from ppl_hmm.experiments.engine.runner import Progress, run_experiment
from ppl_hmm.experiments.kernels.cells import compute
from ppl_hmm.experiments.kernels.configuration import KernelView


def kernel_view(
    states: Sequence[int],
    seeds: int,
    out: str | Path,
    *,
    workers: int = 2,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **sizes: Any,
) -> xr.DataTree:
    """Compare fine-tuning of trained networks with its tangent kernels, or continue a comparison.

    For each regime and number of states a network of each architecture, width, objective and number of steps is trained
    on a random model's text. On each task and draw of few-shot examples it is fine-tuned by SGD, sign-SGD and Adam,
    read by words at the mask (a cloze), by a fresh linear head and by a probed one, and so is the regression on each
    kernel.

    Parameters
    ----------
    states
        Numbers of hidden states K.
    seeds
        Few-shot draws 0..seeds−1 of each task.
    out
        Directory of the results. A finished one is returned as it is; one of another configuration is refused.
    workers, executor, progress
        As of :func:`ppl_hmm.head_vs_prompt`.
    sizes
        Other fields of :class:`ppl_hmm.experiments.kernels.configuration.KernelView`: ``shots``, ``steps``, …

    Returns
    -------
    xarray.DataTree
        ``/results`` over (regime, n_states, architecture, width, objective, training_steps, task, seed):
        ``accuracy(readout, optimizer, stage, shots)`` before, by the first-order expansion, and after; ``r2``,
        ``distance`` of the kernel; ``kernel_accuracy(kernel)`` and ``exact_accuracy(exact_kernel)``;
        ``majority``, the share of the test texts' more frequent label;
        ``alignment(kernel, target)``; ``low_rank_alignment(rank, comparison)``, ``projection_distance`` and
        ``projection_expected(n_dimensions)``; ``/settings``; ``/timings``.

    Raises
    ------
    InvalidInput, ForeignFile, OtherConfiguration, WorkerLost
        As :func:`ppl_hmm.head_vs_prompt`.

    See Also
    --------
    ppl_hmm.linearization_score, ppl_hmm.fixed_features_score : The scores of one's own fine-tuning.
    ppl_hmm.open_results : Reads a finished or running experiment.

    Examples
    --------
    >>> import tempfile
    >>> from ppl_hmm import kernel_view
    >>> of_networks = {"architectures": ("bidirectional",), "widths": (4,), "training_steps": (2,)}
    >>> little = {"n_tasks": 1, "shots": (2,), "length": 5, "steps": 1, "n_test": 20}
    >>> tree = kernel_view([3], 1, tempfile.mkdtemp(), workers=1, **of_networks, **little)
    >>> tree["results/accuracy"].sizes["optimizer"]
    3
    """
    settings = KernelView(tuple(states), at_least("seeds", seeds, 1), **sizes)
    return run_experiment(settings, compute, out, workers=workers, executor=executor, progress=progress)
