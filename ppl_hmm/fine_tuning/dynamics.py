"""Whether fine-tuning behaves like its kernel: linear in the parameters, and with features that stay.

Source: Malladi et al. (2023), Definition 3.5 and §6: a share of at least one half counts as linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base import foreign
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.fine_tuning.classes import class_labels
from ppl_hmm.fine_tuning.kernel import Kind, kernel_of
from ppl_hmm.fine_tuning.training import FineTuning

_LEVEL = 0.95
_RESAMPLES = 2000


def linearization_score(
    runs: FineTuning | Sequence[FineTuning],
    inputs: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    *,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> xr.Dataset:
    """Return how much of fine-tuning its first-order expansion recovers, on test text.

    Parameters
    ----------
    runs
        Draws of fine-tuning: of seeds, few-shot examples, or both.
    inputs, labels
        Test examples (N,…) and their classes (N,).
    resamples, seed
        Of the bootstrap over draws.

    Returns
    -------
    xarray.Dataset
        ``accuracy(stage, draw)``: ``before``, ``linear`` and ``after``. ``linearization``: the share Σ(linear − before)
        / Σ(after − before), pooled over draws as that of one draw explodes where it gained little, with
        ``linearization_interval(bound)``; missing where fine-tuning gained nothing. ``r2(draw)``: 1 − Σ(f − f_lin)² /
        Σ(f − f₀)² over test scores, with ``r2_mean`` and ``r2_interval(bound)``. Intervals of 95 %, missing for one
        draw.

    Raises
    ------
    InvalidInput
        No draws, labels of another length or of other classes, and as :func:`~ppl_hmm.tangent_kernel`.

    See Also
    --------
    ppl_hmm.fine_tune : Makes a draw.
    ppl_hmm.fixed_features_score : The other half of kernel behaviour.

    Notes
    -----
    Cost three forward passes of the test text for each draw.
    Source: Malladi et al. (2023), Definition 3.5.

    Examples
    --------
    >>> import torch
    >>> from ppl_hmm import fine_tune, linearization_score
    >>> linear, X, y = torch.nn.Linear(2, 1, bias=False), [[1.0, 0.0], [-1.0, 1.0]], [0, 1]
    >>> score = linearization_score(fine_tune(linear, X, y, learning_rate=0.1, steps=5), X, y)
    >>> round(score["r2"].item(), 6)  # of a linear model
    1.0
    """
    draws = _draws(runs)
    examples = draws[0].function.inputs(inputs)
    found = class_labels(labels, len(examples))
    _require_classes(draws, found)
    accuracy, r2 = np.empty((len(schema.STAGES), len(draws))), np.empty(len(draws))
    for n, run in enumerate(draws):
        stages = run.scores_before(examples), run.linear_scores(examples), run.scores(examples)
        accuracy[:, n] = [np.mean(run.classify(scores) == found) for scores in stages]
        r2[n] = explained(*stages)
    share, of_share = with_interval(lambda chosen: pooled_share(*accuracy[:, chosen]), len(draws), resamples, seed)
    mean, of_mean = with_interval(lambda chosen: float(r2[chosen].mean()), len(draws), resamples, seed)
    return xr.Dataset(
        {
            schema.ACCURACY: ((schema.STAGE, schema.DRAW), accuracy),
            schema.LINEARIZATION: share,
            f"{schema.LINEARIZATION}_interval": (schema.BOUND, of_share),
            schema.R2: (schema.DRAW, r2),
            f"{schema.R2}_mean": mean,
            f"{schema.R2}_interval": (schema.BOUND, of_mean),
        },
        coords={schema.STAGE: list(schema.STAGES), schema.BOUND: [schema.LOWER, schema.UPPER]},
    )


def fixed_features_score(
    runs: FineTuning | Sequence[FineTuning],
    inputs: ArrayLike | Tensor,
    *,
    kind: Kind = "sgd",
    memory: float = 2e9,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> xr.Dataset:
    """Return how far fine-tuning moved its kernel: ‖K_after − K_before‖ / ‖K_before‖ in the Frobenius norm.

    Parameters
    ----------
    runs
        Draws of fine-tuning.
    inputs
        Examples (N,…) between which kernels are compared.
    kind, memory
        As of :func:`~ppl_hmm.tangent_kernel`.
    resamples, seed
        Of the bootstrap over draws.

    Returns
    -------
    xarray.Dataset
        ``distance(draw)``, ``distance_mean`` and ``distance_interval(bound)``, of 95 %, missing for one draw.

    Raises
    ------
    InvalidInput
        As :func:`~ppl_hmm.tangent_kernel`; a kernel of zeros before fine-tuning.

    See Also
    --------
    ppl_hmm.linearization_score : The other half of kernel behaviour.
    ppl_hmm.tangent_kernel : The kernel.

    Notes
    -----
    Cost of two tangent kernels for each draw. Source: Malladi et al. (2023), Definition 3.5.

    Examples
    --------
    >>> import torch
    >>> from ppl_hmm import fine_tune, fixed_features_score
    >>> linear, X = torch.nn.Linear(2, 1, bias=False), [[1.0, 0.0], [-1.0, 1.0]]
    >>> fixed_features_score(fine_tune(linear, X, [0, 1], learning_rate=0.1, steps=5), X)["distance"].item()
    0.0
    """
    draws = _draws(runs)
    examples = draws[0].function.inputs(inputs)
    distance = np.array([kernel_distance(run, examples, kind, memory) for run in draws])
    mean, interval = with_interval(lambda chosen: float(distance[chosen].mean()), len(draws), resamples, seed)
    return xr.Dataset(
        {
            schema.DISTANCE: (schema.DRAW, distance),
            f"{schema.DISTANCE}_mean": mean,
            f"{schema.DISTANCE}_interval": (schema.BOUND, interval),
        },
        coords={schema.BOUND: [schema.LOWER, schema.UPPER]},
    )


def kernel_distance(run: FineTuning, inputs: Tensor, kind: Kind, memory: float = 2e9) -> float:
    """Return ‖K_after − K_before‖ / ‖K_before‖ of a draw."""
    before = kernel_of(run.function, inputs, None, kind, memory=memory)
    after = kernel_of(run.function, inputs, None, kind, run.after, memory=memory)
    size = torch.linalg.vector_norm(before).item()
    if not size:
        raise InvalidInput("kernel before fine-tuning", "one that is not zero", "zeros", "tune other parameters")
    return torch.linalg.vector_norm(after - before).item() / size


def pooled_share(before: np.ndarray, linear: np.ndarray, after: np.ndarray) -> float:
    """Return Σ(linear − before) / Σ(after − before) over draws (n,); NaN where nothing was gained."""
    gained = float(np.sum(after - before))
    return float(np.sum(linear - before)) / gained if gained > 0 else float("nan")


def explained(before: Tensor, linear: Tensor, after: Tensor) -> float:
    """Return 1 − Σ(after − linear)² / Σ(after − before)² of scores (N,S); 1 where nothing moved."""
    moved = (after - before).double().square().sum().item()
    return 1 - (after - linear).double().square().sum().item() / moved if moved else 1.0


def with_interval(
    statistic: Callable[[np.ndarray], float], n_draws: int, resamples: int = _RESAMPLES, seed: int = 0
) -> tuple[float, np.ndarray]:
    """Return a statistic of all draws, and its percentile bootstrap interval (2,) of 95 %; NaN of one draw.

    Resamples in which the statistic is missing are left out.
    """
    value, rng = statistic(np.arange(n_draws)), np.random.default_rng(seed)
    if n_draws < 2:
        return value, np.full(2, np.nan)
    chosen = rng.integers(n_draws, size=(at_least("resamples", resamples, 1), n_draws))
    values = np.array([statistic(each) for each in chosen])
    values = values[~np.isnan(values)]
    tails = (1 - _LEVEL) / 2, (1 + _LEVEL) / 2
    return value, np.quantile(values, tails) if len(values) else np.full(2, np.nan)


def _require_classes(draws: Sequence[FineTuning], labels: np.ndarray) -> None:
    for run in draws:
        other = labels[~np.isin(labels, run.classes)]
        if len(other):
            expected = f"classes of fine-tuning: {', '.join(map(str, run.classes))}"
            raise InvalidInput("labels", expected, str(other[0]), "pass labels of the same names")


def _draws(runs: FineTuning | Sequence[FineTuning]) -> list[FineTuning]:
    draws = [runs] if isinstance(runs, FineTuning) else runs
    if not isinstance(draws, Sequence) or not draws or not all(isinstance(run, FineTuning) for run in draws):
        got = foreign.described(runs) if runs else "none"
        raise InvalidInput("runs", "what fine_tune returns, or several", got, "call fine_tune first")
    return list(draws)
