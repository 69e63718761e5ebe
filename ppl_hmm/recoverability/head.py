"""Theorem H: when a linear head on G recovers the task, and the head that does.

Input (∅, x): G = Wᵀ P(H_1|·) with P(H_1=h|·) ∝ q(h) f(x)_h, where q = π₀A enters the mask and f is the message of the
text. The margin is proportional to (π₀∘μ)ᵀf. So a head b with

    W b = Dμ on supp q,  D = diag(π₀/q),  supp(π₀∘μ) ⊆ supp q,

scores c(x)·μᵀP(H₀|x) with c(x) > 0. As f = A·(…), it is enough that Aᵀ(diag(q) W b − π₀∘μ) = 0. A prompt in front of
the mask only changes q. Source: Wei, Xie & Ma (2021), Theorem 3.3 (and 3.6 for a given prompt); the weaker forms and
non-stationary models are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ppl_hmm.errors import InvalidInput
from ppl_hmm.exact import chain
from ppl_hmm.exact.algebra import SCALED
from ppl_hmm.inference import Prompt
from ppl_hmm.parameters import HMM, SoftPrompt, prompt_rows
from ppl_hmm.recoverability.certificate import Certificate, Verdict
from ppl_hmm.tasks import PosteriorTask

#: Largest relative residual that counts as solved, by default.
RESIDUAL_TOLERANCE = 1e-9


class _Solution(NamedTuple):
    weights: Tensor  # (C,V)
    residual: float


def entering_law(model: HMM, prompt: Prompt | None = None) -> Tensor:
    """Return q (K,): the law of the mask's state before its text is seen; π₀A without a prompt.

    With L prompt tokens q ∝ π₀A diag(u_1) A ⋯ diag(u_L) A; zeros if the prompt is impossible.
    """
    law = model.initial
    if prompt is not None:
        rows = prompt_rows(prompt, (model.n_states,), nonnegative=True, like=model.emission)
        ids = torch.arange(len(rows), device=rows.device)[None, None]
        for _, filtered, _ in chain.forward(SCALED, law[None], model.transition[None], rows[None], ids):
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
    model._require_single("head_certificate")
    if task.batch_shape or task.n_states != model.n_states:
        raise InvalidInput(
            "task",
            f"one task on {model.n_states} states",
            f"weights {tuple(task.weights.shape)}",
            "use a task of the model's size",
        )
    for name, value in (("support_threshold", support_threshold), ("tolerance", tolerance)):
        if not value >= 0:
            raise InvalidInput(name, "a non-negative number", repr(value), "pass e.g. 0.0")
    law = entering_law(model, prompt)
    # Only differences between classes matter: μ for two, weights about their mean for more.
    contrasts = task.contrast[None] if task.n_classes == 2 else task.weights - task.weights.mean(0)
    targets = model.initial * contrasts.to(model.initial)  # π₀∘μ, (C,K)
    entered = law > support_threshold

    solution, reasons = _solve_on_support(model, law, entered, targets)
    if solution.residual > tolerance and support_threshold == 0:
        weaker = _solve_through_transition(model, law, targets)
        reasons.append(f"residual {weaker.residual:.3g} of Aᵀ(diag(q)Wb − π₀∘μ) = 0")
        solution = min(solution, weaker, key=lambda candidate: candidate.residual)
    verdict: Verdict = "recoverable" if solution.residual <= tolerance else "undecided"
    if support_threshold > 0:
        reasons.append(f"support threshold {support_threshold:g}: sign agreement is measured, not proved")
    weights = solution.weights[0] if task.n_classes == 2 else solution.weights
    record = prompt if isinstance(prompt, SoftPrompt) or prompt is None else SoftPrompt(prompt)  # type: ignore[arg-type]
    return Certificate(
        theorem="Theorem H (3.3)" if prompt is None else "Theorem P (3.6), given prompt",
        weights=weights,
        residual=solution.residual,
        sigma_min=smallest_row_singular_value(model.emission[entered]),
        support_threshold=support_threshold,
        tolerance=tolerance,
        verdict=verdict,
        reasons=tuple(reasons),
        model=model,
        task=task,
        prompt=record,
    )


def smallest_row_singular_value(rows: Tensor) -> float:
    """Return the smallest of the n singular values of n rows (n,V): 0 when n > V, and when n = 0 (nothing enters)."""
    n_rows, n_columns = rows.shape
    return float(torch.linalg.svdvals(rows)[-1]) if 0 < n_rows <= n_columns else 0.0


def _solve_on_support(model: HMM, law: Tensor, entered: Tensor, targets: Tensor) -> tuple[_Solution, list[str]]:
    """Solve W b = π₀∘μ/q on the states entered, none of π₀∘μ being elsewhere."""
    outside = ((targets != 0) & ~entered).any(0)
    scaled = targets[:, entered] / law[entered]
    solution = _least_squares(model.emission[entered], scaled)
    if not outside.any():
        return solution, [f"residual {solution.residual:.3g} of Wb = Dμ on {int(entered.sum())} states"]
    states = ", ".join(map(str, outside.nonzero()[:, 0].tolist()))
    return (_Solution(solution.weights, torch.inf), [f"the task needs states {states}, which cannot be entered"])


def _solve_through_transition(model: HMM, law: Tensor, targets: Tensor) -> _Solution:
    """Solve Aᵀ(diag(q) W b − π₀∘μ) = 0."""
    return _least_squares(model.transition.mT @ (law[:, None] * model.emission), targets @ model.transition)


def _least_squares(matrix: Tensor, targets: Tensor) -> _Solution:
    """Return the solutions (C,V) of least norm of matrix·b_c = target_c, and their largest relative residual."""
    if not len(matrix):
        return _Solution(targets.new_zeros(len(targets), matrix.shape[-1]), 0.0)
    weights = targets @ torch.linalg.pinv(matrix, rtol=torch.finfo(matrix.dtype).eps * max(matrix.shape)).mT
    error = (weights @ matrix.mT - targets).norm(dim=-1)
    size = targets.norm(dim=-1)
    relative = torch.where(size > 0, error / torch.where(size > 0, size, 1), 0.0)
    return _Solution(weights, float(relative.max()))
