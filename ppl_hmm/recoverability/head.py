"""Theorem H: when a linear head on G recovers the task, and the head that does.

Input (∅, x): G = Wᵀ P(H_1|·) with P(H_1=h|·) ∝ q(h) f(x)_h, where q = π₀A enters the mask and f is the message of the
text. The margin μᵀP(H₀|x) is (π₀∘μ)ᵀf / π₀ᵀf. So a head b with

    W b = Dμ on supp q,  D = diag(π₀/q),  supp(π₀∘μ) ⊆ supp q,

scores c(x)·μᵀP(H₀|x) with c(x) > 0. As f = A·g with g ≥ 0, it is enough that Aᵀe = 0 for e = q∘Wb − π₀∘μ, and an
e that is not quite zero moves the margin of no text by more than

    max_h |Aᵀe|_h / (π₀A)_h,

which is what *residual* means here, relative to ‖μ‖_∞. (‖Wb − Dμ‖/‖Dμ‖ would not do: where q spans many orders of
magnitude it can be 1e-12 for a head that is wrong on 40 % of the text.) A prompt in front of the mask only changes q.
Source: Wei, Xie & Ma (2021), Theorem 3.3 (and 3.6 for a given prompt); the weaker forms, the bound on the margin and
non-stationary models are ours.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact.wide import Wide, wide_product
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.recoverability.arguments import require_pair, require_thresholds
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.entering import (
    entering_law as entering_law,
    margin_error,
    margin_errors,
    smallest_row_singular_value,
    states_entered,
    states_of,
    task_targets,
    wide_law,
)
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.proof import proved
from ppl_hmm.recoverability.rounding import law_rounding
from ppl_hmm.schema import Cause, Reader
from ppl_hmm.tasks import PosteriorTask, on_possible_values, require_uncertain

#: Singular values of rows that sum to one are off by no more.
SIGMA_ROUNDING = 1e-14
# Least squares need finite equations: those of texts this unlikely are proposals only.
_LARGEST_COEFFICIENT = 1e100


def head_certificate(
    model: HMM,
    task: PosteriorTask,
    prompt: Prompt | None = None,
    *,
    support_threshold: float = 0.0,
    tolerance: float = RESIDUAL_TOLERANCE,
    exact: bool = False,
) -> HeadCertificate:
    """Return the certificate of Theorem H, or of Theorem P for a given ``prompt``.

    Parameters
    ----------
    model, task
        One model and one task of the same K, no batch dimensions.
    prompt
        :class:`SoftPrompt` or rows (L,K) in front of the mask.
    support_threshold
        δ ≥ 0: states entered with probability at most δ count as not entered.
    tolerance
        Largest relative residual that counts as solved.
    exact
        Whether to prove the condition, or that it fails, in rational arithmetic, parameters being taken as exact
        numbers, the largest of each row as one minus the others: :attr:`HeadCertificate.proof`. A solved condition is
        certified however nearly dependent W's rows are, and the weights are its floats where these err less. The
        verdict is withheld where this would take long.

    Raises
    ------
    InvalidInput
        Batches, different numbers of states, a negative threshold or tolerance; ``exact`` with a threshold.

    See Also
    --------
    constructed_head : The head of a certificate whose condition holds.
    prompt_certificate : With the best prompt found.
    position_certificate : For a task on a position.
    find_witness : Texts that no head classifies, where there are some.

    Notes
    -----
    Cost O(K·V·min(K,V)); ``exact``: O(K³·bits) operations on words, 0.1 s at K = V = 10.

    Examples
    --------
    >>> from ppl_hmm import HMM, PosteriorTask, head_certificate
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> certificate = head_certificate(model, PosteriorTask([[1, 0], [0, 1]]))
    >>> print(certificate.verdict)
    recoverable
    >>> certificate.sign_agreement([[0, 1], [2, 2], [0, 0]])
    SignAgreement(agreeing=3, decidable=3, undecidable=0)
    """
    require_pair("head_certificate", model, task, HMM)
    require_uncertain("head_certificate", model, task)
    require_thresholds(support_threshold, tolerance)
    if exact and support_threshold > 0:
        raise InvalidInput("support_threshold of an exact proof", "0", str(support_threshold), "leave it out")
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    task = on_possible_values(model, task)
    if prompt is not None and not isinstance(prompt, SoftPrompt):
        prompt = SoftPrompt(prompt)  # type: ignore[arg-type]
    law = wide_law(model, prompt)
    entered = states_of(law, support_threshold)
    rounding = law_rounding(model, prompt)
    best, error = _best_head(model, task, law, entered, tolerance, rounding)
    if not torch.equal(entered, law.positive):  # states that do not count move the margin, too
        error = margin_error(model, task, [law], best.weights[:, None], rounding)
    certificate = HeadCertificate(
        theorem="Theorem H (3.3)" if prompt is None else "Theorem P (3.6)",
        weights=best.weights[0] if task.n_classes == 2 else best.weights,
        residual=best.residual,
        margin_error=error + rounding * float(task.scale),
        sigma_min=smallest_row_singular_value(model.emission[entered]),
        support_threshold=support_threshold,
        tolerance=tolerance,
        cause=Cause.of_condition(best.residual <= tolerance),
        reasons=_reasons(best, task_targets(model, task), entered, support_threshold),
        model=model,
        task=task,
        prompt=prompt,
    )
    return proved(certificate) if exact else certificate


def exists_on_paper(certificate: HeadCertificate) -> bool:
    """Say whether Theorem H's condition holds in exact arithmetic, be its head beyond float64 or not.

    That is so where the rows W[S] of the states entered are independent, their smallest singular value being above
    rounding, and S holds all states that the task needs; on several masks, where all rows of R are independent.
    """
    if certificate.cause is Cause.TOO_LARGE or certificate.sigma_min <= SIGMA_ROUNDING:
        return False
    of_first_state = certificate.reader is Reader.MASKED and certificate.task.place.position is None
    if certificate.n_masks > 1 or not of_first_state:
        return True  # all states that its rows are of can be read
    model, task = cast(HMM, certificate.model), cast(PosteriorTask, certificate.task)
    needed = (task_targets(model, task) != 0).any(0)
    entered = states_entered(model, certificate.prompt, certificate.support_threshold)
    return not bool((needed & ~entered).any())


class _Head(NamedTuple):
    """A proposal: heads (C,V), what they solve, and their margin error relative to ‖μ‖_∞ on the states that count."""

    equation: str
    weights: Tensor
    residual: float


def _best_head(
    model: HMM, task: PosteriorTask, law: Wide, entered: Tensor, tolerance: float, rounding: float
) -> tuple[_Head, float]:
    """Return the proposal of smallest residual, and its margin error on the states that count.

    Tokens that are rare in all states are lost to the rank of W where another direction is not: if no head solves the
    equations as they are, those with columns of one size are tried.
    """
    scale = float(task.contrasts.abs().max()) or 1.0
    kept = law.where(entered, 0.0)
    equations = _equations(model, task, law, entered)
    heads: list[tuple[_Head, float]] = []
    for equal_columns in (False, True):
        weights = torch.stack([least_squares(rows, targets, equal_columns) for rows, targets in equations.values()])
        errors = margin_errors(model, task, [kept], weights[..., None, :], rounding)
        proposals = zip(equations, weights, errors.tolist(), strict=True)
        heads += [(_Head(equation, head, error / scale), error) for equation, head, error in proposals]
        best = min(heads, key=lambda head: head[0].residual)
        if best[0].residual <= tolerance:
            break
    return best


def _equations(model: HMM, task: PosteriorTask, law: Wide, entered: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return matrices and targets (C,·) of three equations for heads, from the strongest to the weakest.

    All are the same where the first has a solution and q is of one order of magnitude. The first is best scaled, the
    second cares for what matters where q is not, the third asks only for what some text can tell.
    """
    initial, moves, targets = Wide.of(model.initial), Wide.of(model.transition), task_targets(model, task)
    first = wide_product(initial[None], moves)[0]
    backwards = moves / first.where(first.positive, 1.0)
    kept = law.where(entered, 0.0)
    weighed, wanted = ((each[:, None] * backwards).floats().mT for each in (kept, initial))
    contrasts = task.contrasts.to(model.initial)
    ratio = (initial * Wide.of(contrasts))[:, entered] / law[entered]
    return {
        "Wb = Dμ": (model.emission[entered], ratio.floats()),
        "diag(q)Wb = π₀∘μ": (kept.floats()[:, None] * model.emission, targets),
        "Aᵀ(diag(q)Wb − π₀∘μ) = 0": (_bounded(weighed) @ model.emission, contrasts @ wanted.mT),
    }


def least_squares(matrix: Tensor, targets: Tensor, equal_columns: bool = False) -> Tensor:
    """Return the solutions (C,V) of least norm of matrix·b_c = target_c; of columns scaled to one size, if asked."""
    if not len(matrix):
        return targets.new_zeros(len(targets), matrix.shape[-1])
    sizes = matrix.abs().amax(0).clamp(min=1 / _LARGEST_COEFFICIENT) if equal_columns else torch.ones_like(matrix[0])
    inverse = torch.linalg.pinv(matrix / sizes, rtol=torch.finfo(matrix.dtype).eps * max(matrix.shape))
    return _bounded(_bounded(targets) @ inverse.mT / sizes)


def refined_least_squares(matrix: Tensor, targets: Tensor, equal_columns: bool = False) -> Tensor:
    """Return :func:`least_squares`, solved once more for what the rounding of the first solution left."""
    first = least_squares(matrix, targets, equal_columns)
    return first + least_squares(matrix, targets - first @ matrix.mT, equal_columns)


def _bounded(values: Tensor) -> Tensor:
    return values.clamp(-_LARGEST_COEFFICIENT, _LARGEST_COEFFICIENT)


def _reasons(head: _Head, targets: Tensor, entered: Tensor, support_threshold: float) -> tuple[str, ...]:
    reasons = [f"{head.equation}: relative margin error {head.residual:.3g}, {int(entered.sum())} states entered"]
    outside = ((targets != 0) & ~entered).any(0).nonzero()[:, 0].tolist()
    if outside:
        reasons.append(f"the task needs states {', '.join(map(str, outside))}, which cannot be entered")
    if support_threshold > 0:
        reasons.append(f"support threshold {support_threshold:g}: sign agreement is measured, not proved")
    return tuple(reasons)
