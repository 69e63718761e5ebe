"""The law that enters a head's mask, and what errors of a head's equations cost the margin.

A prompt in front of the mask changes the law q of the mask's state, and nothing else; Theorems H and P are about q.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_hmm.exact.wide import Wide, wide_product
from ppl_hmm.inference.rows import model_prompt
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.tasks import PosteriorTask


def entering_law(model: HMM, prompt: Prompt | None = None) -> Tensor:
    """Return q (K,): the law of the mask's state before its text is seen; π₀A without a prompt.

    With L prompt tokens q ∝ π₀A diag(u_1) A ⋯ diag(u_L) A; zeros if the prompt is impossible. What no float holds is
    zero, too: :func:`states_entered` says which states have a positive probability.
    """
    return wide_law(model, prompt).floats()


def wide_law(model: HMM, prompt: Prompt | None = None) -> Wide:
    """Return q (K,) as :func:`entering_law`, products of tiny probabilities included. Cost O(K²) for each token."""
    law, transition = Wide.of(model.initial), Wide.of(model.transition)
    if prompt is not None:
        for row in model_prompt(model, prompt):
            law = wide_product(law[None], transition)[0] * Wide.of(row)
        total = law.sum(0)
        law = law / total.where(total.positive, 1.0)
    return wide_product(law[None], transition)[0]


def mask_laws(model: HMM, n_masks: int, prompt: Prompt | None = None) -> list[Wide]:
    """Return the laws p_1, …, p_J (K,) that enter the masks of a chain."""
    laws, moves = [wide_law(model, prompt)], Wide.of(model.transition)
    while len(laws) < n_masks:
        laws.append(wide_product(laws[-1][None], moves)[0])
    return laws


def states_entered(model: HMM, prompt: Prompt | None = None, support_threshold: float = 0.0) -> Tensor:
    """Say which states (K,) enter the mask with a probability above a threshold."""
    return states_of(wide_law(model, prompt), support_threshold)


def states_of(law: Wide, support_threshold: float = 0.0) -> Tensor:
    """Say which states (K,) have a probability above a threshold."""
    return law.positive if support_threshold == 0 else law.positive & (law.floats() > support_threshold)


def transparent_prompt(model: HMM, prompt_length: int) -> SoftPrompt:
    """Return the prompt of rows of ones: it only lets L steps pass."""
    return SoftPrompt(model.emission.new_ones(prompt_length, model.n_states))


def prompt_to(weights: Tensor, model: HMM, prompt_length: int) -> SoftPrompt:
    """Return the prompt of L tokens, rows of ones but for the last, whose last state has the law ∝ v (K,).

    That is u_L = v/π₀Aᴸ, its largest entry one. v must be positive on supp π₀Aᴸ only.
    """
    prompt = transparent_prompt(model, prompt_length)
    before = wide_law(model, prompt.rows[1:] if prompt_length > 1 else None)
    row = Wide.of(weights) / before.where(weights > 0, 1.0)
    shares = (row / row.sum(0)).floats()
    prompt.rows[-1] = shares / shares.max()
    return prompt


def margin_error(model: HMM, task: PosteriorTask, laws: Sequence[Wide], weights: Tensor, rounding: float) -> float:
    """Return the most that heads (C,J,V) on J masks, entered by laws (K,), move the margin of any text.

    max_h |Aᵀ(c − π₀∘μ)|_h / (π₀A)_h with c the coefficients of the score, c = q∘Wb for one mask; for more than two
    classes the margin is a difference of scores, so the range of Aᵀ(…) over classes counts. A text whose margin is
    larger in absolute value is classified right, unless its score is within ``rounding`` of zero, as a share of what
    was summed. Where (π₀A)_h = 0 the numerator must vanish up to that: text may come from h almost surely, and still be
    possible.
    """
    return float(margin_errors(model, task, laws, weights, rounding))


def margin_errors(model: HMM, task: PosteriorTask, laws: Sequence[Wide], weights: Tensor, rounding: float) -> Tensor:
    """Return the :func:`margin_error` (…) of each of several proposals (…,C,J,V)."""
    initial, moves, emission = Wide.of(model.initial), Wide.of(model.transition), Wide.of(model.emission)
    wanted = initial * Wide.of(task.contrasts.to(model.initial))
    change = wide_product(_coefficients(laws, weights, moves, emission) - wanted, moves)
    first = wide_product(initial[None], moves)[0]
    lost = torch.tensor(False, device=weights.device)
    if not first.positive.all():
        size = wide_product(_coefficients(laws, weights.abs(), moves, emission) + wanted.abs(), moves)
        excess = change.abs() - size * Wide.of(size.mantissa.new_tensor(rounding))
        lost = (excess.positive & ~first.positive).flatten(-2).any(-1)
        change, first = change.where(first.positive, 0.0), first.where(first.positive, 1.0)
    errors = range_over_classes((change / first).floats().movedim(-2, 0)).amax(-1)
    return torch.where(lost, torch.inf, errors)


def _coefficients(laws: Sequence[Wide], weights: Tensor, moves: Wide, emission: Wide) -> Wide:
    """Return Σ_j (Aᵀ)^{J−j} (p_j ∘ Wb_j) (…,C,K) of heads (…,C,J,V) on masks that the laws enter."""
    first, *others = (
        law * (Wide.of(block)[..., None, :] * emission).sum(-1)
        for law, block in zip(laws, weights.unbind(-2), strict=True)
    )
    coefficients = first
    for read in others:
        coefficients = wide_product(coefficients, moves) + read
    return coefficients


def range_over_classes(errors: Tensor) -> Tensor:
    """Return how far errors (C,…) of scores move a margin (…): (1,…) for two classes, whose score is the margin.

    For more classes the margin is a difference of two scores; where both errors are infinite, so is the margin's.
    """
    if len(errors) == 1:
        return errors[0].abs()
    return (errors.amax(0) - errors.amin(0)).nan_to_num(nan=torch.inf, posinf=torch.inf)


def task_targets(model: HMM, task: PosteriorTask) -> Tensor:
    """Return π₀∘μ (1,K) for two classes, or π₀∘(w_c − w_0) (C,K) for more: only differences between classes matter."""
    return model.initial * task.contrasts.to(model.initial)


def smallest_row_singular_value(rows: Tensor) -> float:
    """Return the smallest of the n singular values of n rows (n,V): 0 when n > V, and when n = 0 (nothing enters)."""
    n_rows, n_columns = rows.shape
    return float(torch.linalg.svdvals(rows)[-1]) if 0 < n_rows <= n_columns else 0.0
