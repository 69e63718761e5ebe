"""Loss against downstream error along the training of causal models, where the truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import xarray as xr

from ppl_hmm.errors import at_least
from ppl_hmm.experiments.engine.runner import Progress, run_experiment
from ppl_hmm.experiments.trained.loss_vs_error.cells import compute
from ppl_hmm.experiments.trained.loss_vs_error.configuration import LossVsError


def loss_vs_error(
    states: Sequence[int],
    seeds: int,
    out: str | Path,
    *,
    workers: int = 2,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **sizes: Any,
) -> xr.DataTree:
    """Compare the excess loss of causal networks with the error of heads on them, or continue a comparison.

    For each number of states and each seed, a random model, two tasks (on the last state; completion of a sentence),
    each read at the end of the text and after a template, and a network trained on each objective. Along its training:
    its excess loss over the exact optimum, the error of logistic heads on features f, on conditional means Φp, on the
    law p of the next word and on a random projection of p, and two bounds on the error of a linear head.

    Parameters
    ----------
    states
        Numbers of hidden states K.
    seeds
        Models 0..seeds−1 of each size.
    out
        Directory of the results. A finished one is returned as it is; one of another configuration is refused.
    workers, executor, progress
        As of :func:`ppl_hmm.head_vs_prompt`.
    sizes
        Other fields of :class:`ppl_hmm.experiments.trained.loss_vs_error.configuration.LossVsError`: ``objectives``,
        ``width``, ``steps``, ``n_checkpoints``, …

    Returns
    -------
    xarray.DataTree
        ``/results`` over (n_states, objective, seed). ``excess(step)`` in nats, the mean divergence over all prefixes;
        ``excess_sampled(step)``, the same of the tokens themselves, with its standard error ``excess_sampled_error``;
        ``excess_at_read_position(template, step)``; ``excess_for_layer(template, step)`` of the loss that a network was
        trained on over the best features for its last layer, in nats, or in squares of probabilities for the quadratic
        loss. ``error(features, task, template, step)`` of logistic heads, and ``exact_error`` of one on the exact laws;
        ``guess_error``, the share of the smaller class; ``exact_tau(size)``, the least hinge loss of heads of
        ‖v‖_∞ ≤ size on the exact laws.
        ``natural_bound(heads_of)``, τ + B√(2ε) at its least, with ``natural_size`` B and ``natural_tau`` τ, and what
        that head has on the network: ``natural_loss`` and ``natural_error``. ``heads_of='any'`` reads laws;
        ``'layer'`` reads conditional means, or the features of a network on the quadratic loss. ``transfer_bound`` and
        ``transfer_error`` of a head on exact laws; ``transfer_chosen``, the bound on the texts where it was chosen.
        ``/settings``; ``/timings``.

    Raises
    ------
    InvalidInput, ForeignFile, OtherConfiguration, WorkerLost, NoBalancedTask
        As :func:`ppl_hmm.head_vs_prompt`.

    See Also
    --------
    ppl_hmm.transfer : The transfer bound of one's own language model and head.
    ppl_hmm.train : Trains a network.
    ppl_hmm.open_results : Reads a finished or running experiment.

    Notes
    -----
    Bounds and what they bound are of the same test texts, where both hold with certainty. Source: Saunshi, Malladi &
    Arora (2021), arXiv 2010.03648, §3–§5, and their experiments; the programmes and the transfer bound are ours.

    Examples
    --------
    >>> import tempfile
    >>> from ppl_hmm import loss_vs_error
    >>> little = {"steps": 4, "n_checkpoints": 2, "n_train": 50, "n_validation": 50, "n_test": 50, "length": 6}
    >>> tree = loss_vs_error([3], 1, tempfile.mkdtemp(), workers=1, objectives=("tokens",), **little)
    >>> bool((tree["results/natural_loss"] <= tree["results/natural_bound"] + 1e-9).all())
    True
    """
    settings = LossVsError(tuple(states), at_least("seeds", seeds, 1), **sizes)
    return run_experiment(settings, compute, out, workers=workers, executor=executor, progress=progress)
