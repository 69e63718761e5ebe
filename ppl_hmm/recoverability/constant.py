"""Tasks that give every text the same label: a head that reads nothing solves them.

The margin of class c over class k is, up to a positive factor, mᵀf(x) with m = π₀∘(w_c − w_k), and f(x) = A(w_{x_1}∘f')
for the message f' ≥ 0 of what follows x_1. So a form mᵀA diag(w_{x_1}) A ⋯ without negative entries proves the label of
every text that begins with these tokens, however long; a form with entries of both signs is split by the next token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_hmm.parameters import HMM
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE, Certificate, require_pair
from ppl_hmm.recoverability.head import smallest_row_singular_value
from ppl_hmm.tasks import PosteriorTask, decide, require_uncertain

#: Forms that are looked at, at most, at one depth.
FORM_LIMIT = 10_000
_DEPTH = 16
#: Entries of a form this small beside the sizes of what was summed count as zero.
ROUNDING = 1e-14


def constant_certificate(
    model: HMM, task: PosteriorTask, *, tolerance: float = RESIDUAL_TOLERANCE
) -> Certificate | None:
    """Return the certificate of the constant head, None where the task is not proved to have one label for all texts.

    Its residual is float64's rounding: texts whose margin is within 1e-14·‖μ‖_∞ of zero are left out.

    Raises
    ------
    InvalidInput
        Batches, different numbers of states.

    Notes
    -----
    Cost O(V·C·K²) for each beginning of a text that has to be looked at, at most :data:`FORM_LIMIT` at each of 16
    depths; most tasks are settled at the second.
    """
    require_pair("constant_certificate", model, task, HMM)
    require_uncertain("constant_certificate", model, task)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    label = constant_label(model, task)
    if label is None or tolerance < ROUNDING:
        return None
    weights = model.emission.new_zeros(1 if task.n_classes == 2 else task.n_classes, model.vocabulary_size)
    if task.n_classes == 2:
        weights += 1 if label else -1
    else:
        weights[label] = 1
    return Certificate(
        theorem="constant label",
        weights=weights[0] if task.n_classes == 2 else weights,
        residual=ROUNDING,
        margin_error=ROUNDING * float(task.scale),
        sigma_min=smallest_row_singular_value(model.emission),
        support_threshold=0.0,
        tolerance=tolerance,
        verdict="recoverable",
        reasons=(f"every text has class {label}: the head is constant",),
        model=model,
        task=task,
    )


def constant_label(model: HMM, task: PosteriorTask) -> int | None:
    """Return the class that the task gives to every text of positive probability, None where that is not proved."""
    scores = (model.initial * task.weights) @ model.transition  # of a class, as a form in g = w_{x_1}∘f'
    of_tokens = (scores @ model.emission).mT  # texts of one token
    possible = (model.initial @ model.transition @ model.emission) > 0
    found = decide(of_tokens[possible])
    label = int(found[0])
    if (found != label).any():
        return None
    others = [c for c in range(task.n_classes) if c != label]
    forms = (scores[label] - scores[others])[None]  # (n,C−1,K)
    sizes = (scores[label].abs() + scores[others].abs())[None]
    for _ in range(_DEPTH):
        unsettled = (forms < -ROUNDING * sizes).any(-1).any(-1)
        forms, sizes = forms[unsettled], sizes[unsettled]
        if not len(forms):
            return label
        if len(forms) * model.vocabulary_size > FORM_LIMIT:
            return None
        forms, sizes = (_by_next_token(each, model.emission) for each in (forms, sizes))
        if (forms.sum(-1) < -ROUNDING * sizes.sum(-1)).any():  # a text that ends here
            return None
        forms, sizes = forms @ model.transition, sizes @ model.transition
    return None


def _by_next_token(forms: Tensor, emission: Tensor) -> Tensor:
    """Return the forms (n·V,C−1,K) in the message f' of what follows one more token."""
    return (forms[:, None] * emission.mT[:, None]).flatten(0, 1)
