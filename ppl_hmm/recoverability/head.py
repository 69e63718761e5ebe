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

import torch
from torch import Tensor

from ppl_hmm.exact import recursion
from ppl_hmm.exact.algebra import SCALED
from ppl_hmm.parameters import HMM, SoftPrompt
from ppl_hmm.recoverability.certificate import (
    RESIDUAL_TOLERANCE,
    Certificate,
    Verdict,
    require_pair,
    require_thresholds,
)
from ppl_hmm.rows import Prompt, model_prompt
from ppl_hmm.tasks import PosteriorTask, require_uncertain

# Singular values of rows that sum to one are off by no more.
_SIGMA_ROUNDING = 1e-14
_ROUNDING = 4  # sums of K products in float64 are off by at most a few K·eps


def entering_law(model: HMM, prompt: Prompt | None = None) -> Tensor:
    """Return q (K,): the law of the mask's state before its text is seen; π₀A without a prompt.

    With L prompt tokens q ∝ π₀A diag(u_1) A ⋯ diag(u_L) A; zeros if the prompt is impossible.
    """
    law = model.initial
    if prompt is not None:
        rows = model_prompt(model, prompt)
        ids = torch.arange(len(rows), device=rows.device)[None, None]
        for _, filtered, _ in recursion.forward(SCALED, law[None, None], model.transition[None], rows[None], ids):
            law = filtered[0, 0]
    return law @ model.transition


def head_certificate(
    model: HMM,
    task: PosteriorTask,
    prompt: Prompt | None = None,
    *,
    support_threshold: float = 0.0,
    tolerance: float = RESIDUAL_TOLERANCE,
) -> Certificate:
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

    Raises
    ------
    InvalidInput
        Batches, different numbers of states, a negative threshold or tolerance.

    Notes
    -----
    Cost O(K·V·min(K,V)).
    """
    require_pair("head_certificate", model, task, HMM)
    require_uncertain("head_certificate", model, task)
    require_thresholds(support_threshold, tolerance)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    law = entering_law(model, prompt)
    targets = task_targets(model, task)
    entered = law > support_threshold

    candidates = _candidates(model, law, entered, targets)
    scale = float(task.contrasts.abs().max())
    residuals = {
        equation: margin_error(model, law * entered, weights, targets) / (scale or 1.0)
        for equation, weights in candidates.items()
    }
    equation = min(residuals, key=residuals.__getitem__)
    residual, weights = residuals[equation], candidates[equation]
    verdict: Verdict = "recoverable" if residual <= tolerance else "undecided"
    return Certificate(
        theorem="Theorem H (3.3)" if prompt is None else "Theorem P (3.6)",
        weights=weights[0] if task.n_classes == 2 else weights,
        residual=residual,
        margin_error=margin_error(model, law, weights, targets),
        sigma_min=smallest_row_singular_value(model.emission[entered]),
        support_threshold=support_threshold,
        tolerance=tolerance,
        verdict=verdict,
        reasons=_reasons(equation, residual, targets, entered, support_threshold),
        model=model,
        task=task,
        prompt=prompt if isinstance(prompt, SoftPrompt) or prompt is None else SoftPrompt(prompt),  # type: ignore[arg-type]
    )


def exists_on_paper(certificate: Certificate) -> bool:
    """Say whether Theorem H's condition holds in exact arithmetic, be its head beyond float64 or not.

    That is so where the rows W[S] of the states entered are independent, their smallest singular value being above
    rounding, and S holds all states that the task needs.
    """
    model, task = certificate.model, certificate.task
    if not isinstance(model, HMM) or not isinstance(task, PosteriorTask):
        return False
    if task.position is not None:
        return certificate.sigma_min > _SIGMA_ROUNDING  # of the rows that the task's head reads
    needed = (task_targets(model, task) != 0).any(0)
    entered = entering_law(model, certificate.prompt) > certificate.support_threshold
    return certificate.sigma_min > _SIGMA_ROUNDING and not bool((needed & ~entered).any())


def margin_error(model: HMM, law: Tensor, weights: Tensor, targets: Tensor) -> float:
    """Return the most that heads (C,V), the mask being entered by ``law`` (K,), move the margin of any text.

    max_h |Aᵀ(q∘Wb − π₀∘μ)|_h / (π₀A)_h; for more than two classes the margin is a difference of scores, so the range
    of Aᵀ(…) over classes counts. A text whose margin is larger in absolute value is classified right. Where (π₀A)_h = 0
    the numerator must vanish up to its own rounding: text may come from h almost surely, and still be possible.
    """
    error = (law * (weights @ model.emission.mT) - targets) @ model.transition
    size = (law * (weights.abs() @ model.emission.mT) + targets.abs()) @ model.transition
    rounding = _ROUNDING * model.n_states * torch.finfo(error.dtype).eps * size.amax(0)
    change = error[0].abs() if len(error) == 1 else error.amax(0) - error.amin(0)
    first = model.initial @ model.transition
    unbounded = torch.where(change > rounding, torch.inf, 0.0)
    return float(torch.where(first > 0, change / torch.where(first > 0, first, 1), unbounded).max())


def _candidates(model: HMM, law: Tensor, entered: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return the heads (C,V) that solve three equations, from the strongest to the weakest, by least squares.

    All are the same where the first has a solution and q is of one order of magnitude. The first is best scaled, the
    second cares for what matters where q is not, the third asks only for what some text can tell.
    """
    first = model.initial @ model.transition
    rows = (law * entered)[:, None] * model.emission
    scaled = (model.transition / torch.where(first > 0, first, 1)).mT
    return {
        "Wb = Dμ": least_squares(model.emission[entered], targets[:, entered] / law[entered]),
        "diag(q)Wb = π₀∘μ": least_squares(rows, targets),
        "Aᵀ(diag(q)Wb − π₀∘μ) = 0": least_squares(scaled @ rows, targets @ scaled.mT),
    }


def least_squares(matrix: Tensor, targets: Tensor) -> Tensor:
    """Return the solutions (C,V) of least norm of matrix·b_c = target_c."""
    if not len(matrix):
        return targets.new_zeros(len(targets), matrix.shape[-1])
    return targets @ torch.linalg.pinv(matrix, rtol=torch.finfo(matrix.dtype).eps * max(matrix.shape)).mT


def _reasons(
    equation: str, residual: float, targets: Tensor, entered: Tensor, support_threshold: float
) -> tuple[str, ...]:
    reasons = [f"{equation}: relative margin error {residual:.3g}, {int(entered.sum())} states entered"]
    outside = ((targets != 0) & ~entered).any(0).nonzero()[:, 0].tolist()
    if outside:
        reasons.append(f"the task needs states {', '.join(map(str, outside))}, which cannot be entered")
    if support_threshold > 0:
        reasons.append(f"support threshold {support_threshold:g}: sign agreement is measured, not proved")
    return tuple(reasons)


def task_targets(model: HMM, task: PosteriorTask) -> Tensor:
    """Return π₀∘μ (1,K) for two classes, or π₀∘(w_c − w_0) (C,K) for more: only differences between classes matter."""
    return model.initial * task.contrasts.to(model.initial)


def smallest_row_singular_value(rows: Tensor) -> float:
    """Return the smallest of the n singular values of n rows (n,V): 0 when n > V, and when n = 0 (nothing enters)."""
    n_rows, n_columns = rows.shape
    return float(torch.linalg.svdvals(rows)[-1]) if 0 < n_rows <= n_columns else 0.0
