"""The head that noise in G moves least, of all heads that solve Theorem H's equations."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import null_space
from scipy.optimize import linprog
from torch import Tensor

from ppl_hmm.base.quiet import stdout_to_stderr
from ppl_hmm.errors import PplHmmError
from ppl_hmm.exact.wide import Wide
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.recoverability.arguments import require_pair, require_thresholds
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.entering import margin_error, states_of, task_targets, wide_law
from ppl_hmm.recoverability.rounding import law_rounding
from ppl_hmm.tasks import PosteriorTask, on_possible_values

#: Methods and tolerances of the programme, in turn: nearly dependent rows defeat the first often, the second rarely.
_ATTEMPTS = (("highs", 1e-10), ("highs", 1e-7), ("highs-ipm", 1e-7))


class SmallestHalfRange(NamedTuple):
    """The least noise amplification of a head that solves W b = Dμ, and that head; ∞ and None where none does.

    See Also
    --------
    smallest_half_range : Of a model and a task.

    Examples
    --------
    >>> from ppl_hmm import example, smallest_half_range
    >>> smallest_half_range(*example("degenerate"))  # no head solves the equations
    SmallestHalfRange(half_range=inf, weights=None)
    """

    half_range: float
    weights: Tensor | None  # (V,) for two classes, (C,V) for more, class 0 at zero


def smallest_half_range(
    model: HMM,
    task: PosteriorTask,
    prompt: Prompt | None = None,
    *,
    support_threshold: float = 0.0,
    tolerance: float = RESIDUAL_TOLERANCE,
) -> SmallestHalfRange:
    """Return the least half-range of a head with W b = Dμ on the states that enter the mask, and the head.

    D = diag(π₀/q); all these heads have the score c(x)·μᵀP(H₀|x), c = π₀ᵀf/qᵀf, on every text, so that the one of
    least half-range is surest of it when G is not exact. They are b₀ + Nz: b₀ the one of least norm, which is the
    weights of :func:`~ppl_hmm.head_certificate` where it solves this equation, and N a basis of {b : W b = 0}. With
    C > 2 classes the heads are chosen together, for the least half-range of the widest difference b_c − b_c'.

    Parameters
    ----------
    model, task, prompt, support_threshold, tolerance
        As in :func:`~ppl_hmm.head_certificate`.

    Returns
    -------
    SmallestHalfRange
        Half-range ∞ and no weights where b₀ moves the margin of a text by more than ``tolerance``·‖μ‖_∞. The weaker
        equations that a certificate also tries may have a solution then.

    Raises
    ------
    InvalidInput
        As in :func:`~ppl_hmm.head_certificate`.

    See Also
    --------
    head_certificate : Of the head of least norm.
    transfer_bounds : What the half-range costs on a language model that is not exact.

    Notes
    -----
    A linear programme (HiGHS) in (C−1)(V−rank W) + C(C−1)/2 + 1 variables; equality is exact by N, not by its
    tolerance. Relative accuracy of the half-range about 1e-9.

    Examples
    --------
    >>> from ppl_hmm import HMM, PosteriorTask, smallest_half_range
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> found = smallest_half_range(model, PosteriorTask([[1, 0], [0, 1]]))
    >>> round(found.half_range, 2)
    2.5
    """
    require_pair("smallest_half_range", model, task, HMM)
    require_thresholds(support_threshold, tolerance)
    model, task = model.detach().to(torch.float64, "cpu"), task.detach().to(torch.float64, "cpu")
    task = on_possible_values(model, task)
    law = wide_law(model, prompt)
    entered = states_of(law, support_threshold)
    rows = model.emission[entered].numpy()
    ratio = (Wide.of(task_targets(model, task))[:, entered] / law[entered]).floats().nan_to_num()  # beyond floats: none
    solution = ratio.numpy() @ np.linalg.pinv(rows, rcond=_rank_tolerance(rows)).T
    scale = float(task.contrasts.abs().max()) or 1.0
    kept, rounding = law.where(entered, 0.0), law_rounding(model)
    if margin_error(model, task, [kept], torch.from_numpy(solution)[:, None], rounding) > tolerance * scale:
        return SmallestHalfRange(float("inf"), None)
    weights = narrowest_heads(solution, rows, task.n_classes)
    return SmallestHalfRange(half_range(weights), torch.from_numpy(weights[0] if task.n_classes == 2 else weights))


def half_range(weights: np.ndarray, n_masks: int = 1) -> float:
    """Return the half-range of heads (1,J·V), or of the widest difference of two of (C,J·V), in the worst block."""
    heads = weights.reshape(len(weights), n_masks, -1)
    lower, higher = class_pairs(len(weights))
    differences = heads if len(weights) == 1 else heads[higher] - heads[lower]
    return float(np.ptp(differences, axis=-1).max()) / 2


def narrowest_heads(solution: np.ndarray, rows: np.ndarray, n_classes: int, n_masks: int = 1) -> np.ndarray:
    """Return the heads of least half-range among those with the products rows·b of a solution (1,J·V) or (C,J·V)."""
    free = null_space(rows, rcond=_rank_tolerance(rows))
    if n_classes == 2:
        return _narrowest(solution, free, np.ones((1, 1)), n_masks)
    classes = np.eye(n_classes)[:, 1:]  # class 0 stays at zero
    lower, higher = class_pairs(n_classes)
    weights = _narrowest(solution[1:] - solution[0], free, classes[higher] - classes[lower], n_masks)
    return np.vstack([np.zeros(weights.shape[1]), weights])


def _narrowest(solution: np.ndarray, free: np.ndarray, pairs: np.ndarray, n_masks: int) -> np.ndarray:
    """Return heads solution + z·freeᵀ (m,J·V) whose ``pairs`` (n,m) of combinations have the least half-range.

    min h over z, the middles c of each block and h, subject to |pairs (solution + z freeᵀ) − c| ≤ h, in units of
    ‖solution‖_∞.
    """
    if not free.shape[1]:
        return solution
    unit = np.abs(solution).max() or 1.0
    n_blocks, n_tokens = len(pairs) * n_masks, solution.shape[1] // n_masks
    offsets = (pairs @ solution / unit).ravel()
    moves: np.ndarray = np.hstack([np.kron(pairs, free), -np.kron(np.eye(n_blocks), np.ones((n_tokens, 1)))])
    height = -np.ones((len(offsets), 1))
    table = np.vstack([np.hstack([moves, height]), np.hstack([-moves, height])])
    z = _optimum(table, np.r_[-offsets, offsets])[: solution.shape[0] * free.shape[1]].reshape(len(solution), -1)
    return solution + unit * z @ free.T


def _optimum(table: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Return the x with table·x ≤ most whose last entry is least, and not below zero."""
    n, message = table.shape[1], ""
    for method, tolerance in _ATTEMPTS:
        with stdout_to_stderr():
            programme = linprog(
                c=np.r_[np.zeros(n - 1), 1.0],
                A_ub=table,
                b_ub=most,
                bounds=[(None, None)] * (n - 1) + [(0, None)],
                method=method,
                options={"primal_feasibility_tolerance": tolerance, "dual_feasibility_tolerance": tolerance},
            )
        if programme.x is not None:
            return programme.x
        message = programme.message
    raise PplHmmError("half-range programme", "an optimum", message, "rescale the task's weights")


def class_pairs(n_classes: int) -> tuple[list[int], list[int]]:
    """Return the lower and the higher class of every pair."""
    pairs = list(combinations(range(n_classes), 2))
    return [lower for lower, _ in pairs], [higher for _, higher in pairs]


def _rank_tolerance(rows: np.ndarray) -> float:
    """Return the share of the largest singular value below which one counts as zero: rounding alone."""
    return np.finfo(float).eps * max(rows.shape)
