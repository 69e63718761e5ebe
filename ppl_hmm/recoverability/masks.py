"""Theorem C: when a head on a chain of masks recovers the task, and the head that does.

Input (∅^J, x), or (u, ∅^J, x): one head b_1, …, b_J reads the conditionals of all J masks. With p_j = π₀A^j the law
that enters the j-th of them (after a prompt p_1 = q and p_j = qA^{j−1}), and f the message of the text,

    G_j = Wᵀ(p_j ∘ A^{J−j}f) / p_Jᵀf,    Σ_j b_jᵀG_j = (Rb)ᵀf / p_Jᵀf,    Rb = Σ_j (Aᵀ)^{J−j} (p_j ∘ Wb_j).

All masks have the same divisor, so the head has the score of one with Rb in place of q∘Wb: Theorem H with another
matrix. It is enough that

    Aᵀ(Rb − π₀∘μ) = 0,

and max_h |Aᵀ(Rb − π₀∘μ)|_h / (π₀A)_h bounds what an error costs. R is the observability matrix of the chain run
backwards. Every block of it holds p_J (b_j = 1), so its rank is at most J(V−1)+1. Where A is invertible, all tasks are
recovered by J ≥ (K−1)/(V−1) masks generically, and by no fewer. Neither independent rows of W nor K ≤ V is asked for.
The theorem is ours; one mask is Theorem 3.3 of Wei, Xie & Ma (2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_hmm.errors import at_least
from ppl_hmm.exact.wide import Wide
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.recoverability.arguments import require_pair, require_thresholds
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.entering import margin_error, mask_laws, smallest_row_singular_value
from ppl_hmm.recoverability.half_range import narrowest_heads
from ppl_hmm.recoverability.head import refined_least_squares
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.proof import proved
from ppl_hmm.recoverability.rounding import law_rounding
from ppl_hmm.schema import Cause
from ppl_hmm.tasks import PosteriorTask, on_possible_values, require_uncertain

#: Masks that :func:`masks_needed` tries, by default.
MOST_MASKS = 12


def chain_certificate(
    model: HMM,
    task: PosteriorTask,
    n_masks: int,
    prompt: Prompt | None = None,
    *,
    tolerance: float = RESIDUAL_TOLERANCE,
    exact: bool = False,
) -> HeadCertificate:
    """Return the certificate of a head on ``n_masks`` masks in front of the text.

    Its head reads :func:`~ppl_hmm.probe_features` with ``n_masks``, flattened mask by mask to (B,J·V).

    Parameters
    ----------
    model, task
        One model and one task of the same K, no batch dimensions.
    n_masks
        J ≥ 1.
    prompt
        :class:`SoftPrompt` or rows (L,K) in front of the masks.
    tolerance
        Largest relative residual that counts as solved.
    exact
        Whether to prove the condition, or that it fails, in rational arithmetic: as in
        :func:`~ppl_hmm.head_certificate`.

    Returns
    -------
    HeadCertificate
        ``weights`` (J·V,) or (C,J·V): of the heads that solve the equations the one of least half-range in a block,
        which noise in G moves least. ``sigma_min`` is the K-th singular value of R, 0 when K > J(V−1)+1.

    Raises
    ------
    InvalidInput
        Batches, different numbers of states, no masks, a negative tolerance.

    Notes
    -----
    Cost O(J·K²·V) for R, O(K·J·V·min(K,J·V)) for least squares, and a linear programme in J·V variables.
    ``exact``: O(K³·bits) operations on words, 2 s at K = 30 and J = 4.

    See Also
    --------
    masks_needed : The fewest masks for a task.
    head_certificate : One mask, by the equations of the paper.

    Examples
    --------
    >>> from ppl_hmm import chain_certificate, random_hmm, random_task, sample
    >>> model = random_hmm("wei2021", 15, 10, seed=0)
    >>> task = random_task(model, 0, sample(model, 500, 20, seed=0).tokens)
    >>> [str(chain_certificate(model, task, n_masks).verdict) for n_masks in (1, 2, 3)]
    ['undecided', 'recoverable', 'recoverable']
    """
    require_pair("chain_certificate", model, task, HMM)
    require_uncertain("chain_certificate", model, task)
    require_thresholds(0.0, tolerance)
    n_masks = at_least("n_masks", n_masks, 1)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    task = on_possible_values(model, task)
    if prompt is not None and not isinstance(prompt, SoftPrompt):
        prompt = SoftPrompt(prompt)  # type: ignore[arg-type]
    laws, rounding = mask_laws(model, n_masks, prompt), law_rounding(model, prompt, n_masks)
    matrix, scale = _observability(model, laws), float(task.contrasts.abs().max()) or 1.0
    best = _Head("", matrix.new_zeros(0), torch.inf)
    for equation, weights in _proposals(_equations(model, task, laws, matrix), task.n_classes, n_masks):
        error = margin_error(model, task, laws, weights.unflatten(-1, (n_masks, -1)), rounding)
        if not best.error <= error or not len(best.weights):
            best = _Head(equation, weights, error)
        if error <= tolerance * scale:
            break
    certificate = HeadCertificate(
        theorem="Theorem C (several masks)",
        weights=best.weights[0] if task.n_classes == 2 else best.weights,
        residual=best.error / scale,
        margin_error=best.error + rounding * float(task.scale),
        sigma_min=smallest_row_singular_value(matrix) if model.n_states <= _largest_rank(model, n_masks) else 0.0,
        support_threshold=0.0,
        tolerance=tolerance,
        cause=Cause.of_condition(best.error <= tolerance * scale),
        reasons=(f"{best.equation} on {n_masks} masks: relative margin error {best.error / scale:.3g}",),
        model=model,
        task=task,
        prompt=prompt,
        n_masks=n_masks,
    )
    return proved(certificate) if exact else certificate


def masks_needed(
    model: HMM,
    task: PosteriorTask,
    prompt: Prompt | None = None,
    *,
    most: int = MOST_MASKS,
    tolerance: float = RESIDUAL_TOLERANCE,
) -> HeadCertificate | None:
    """Return the certificate with the fewest masks whose condition holds; None where ``most`` are not enough.

    Parameters
    ----------
    model, task, prompt, tolerance
        As in :func:`chain_certificate`, and so are the errors.
    most
        Masks that are tried, at most.

    See Also
    --------
    chain_certificate : A given number of masks.

    Examples
    --------
    >>> from ppl_hmm import masks_needed, random_hmm, random_task, sample
    >>> model = random_hmm("wei2021", 15, 10, seed=0)
    >>> task = random_task(model, 0, sample(model, 500, 20, seed=0).tokens)
    >>> masks_needed(model, task).n_masks
    2
    """
    for n_masks in range(1, at_least("most", most, 1) + 1):
        certificate = chain_certificate(model, task, n_masks, prompt, tolerance=tolerance)
        if certificate.recoverable:
            return certificate
    return None


class _Head(NamedTuple):
    """A proposal: heads (C,J·V), what they solve, and the most that they move a margin."""

    equation: str
    weights: Tensor
    error: float


def _largest_rank(model: HMM, n_masks: int) -> int:
    """Return the largest rank that R can have."""
    return n_masks * (model.vocabulary_size - 1) + 1


def _observability(model: HMM, laws: list[Wide]) -> Tensor:
    """Return R (K,J·V): what the weights of each mask and token add to Rb."""
    blocks: list[Tensor] = []
    for law in laws:
        blocks = [model.transition.mT @ block for block in blocks]
        blocks.append(law.floats()[:, None] * model.emission)
    return torch.cat(blocks, dim=1)


def _equations(model: HMM, task: PosteriorTask, laws: list[Wide], matrix: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return matrices and targets (C,n) of the equations to try, the best scaled first.

    The first asks for the score itself, in the states that enter the last mask; the second for all that some text can
    tell. :func:`~ppl_hmm.recoverability.entering.margin_error` says what a solution of either is worth.
    """
    contrasts = task.contrasts.to(model.initial)
    last = laws[-1].floats()
    entered = last > 0
    wanted = model.initial * contrasts
    first = model.initial @ model.transition
    reached = first > 0
    backwards = (model.transition / torch.where(reached, first, 1.0)).mT[reached]  # texts weigh a state by (π₀A)
    return {
        "Rb = π₀∘μ": (matrix[entered] / last[entered, None], wanted[:, entered] / last[entered]),
        "Aᵀ(Rb − π₀∘μ) = 0": (backwards @ matrix, wanted @ backwards.mT),
    }


def _proposals(
    equations: dict[str, tuple[Tensor, Tensor]], n_classes: int, n_masks: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield heads (C,J·V): of least half-range among those that solve the equations, then of least norm."""
    for equal_columns in (False, True):
        for equation, (rows, wanted) in equations.items():
            least = refined_least_squares(rows, wanted, equal_columns)
            narrow = narrowest_heads(least.cpu().numpy(), rows.cpu().numpy(), n_classes, n_masks)
            yield equation, rows.new_tensor(narrow)
            yield equation, least
