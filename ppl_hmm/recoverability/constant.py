"""Tasks that give every text the same label: a head that reads nothing solves them.

The margin of class c over class k is, up to a positive factor, mᵀf(x) with m = π₀∘(w_c − w_k), and f(x) = A(w_{x_1}∘f')
for the message f' ≥ 0 of what follows x_1. So a form mᵀA diag(w_{x_1}) A ⋯ without negative entries proves the label of
every text that begins with these tokens, however long; a form with entries of both signs is split by the next token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ppl_hmm.exact.rounding import message_rounding
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.arguments import require_pair
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.entering import smallest_row_singular_value
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.schema import Cause
from ppl_hmm.tasks import PosteriorTask, on_possible_values, require_uncertain

#: Forms that are looked at, at most, at one depth.
FORM_LIMIT = 10_000
_DEPTH = 16
#: Entries of a form this small beside the sizes of what was summed count as zero.
ROUNDING = 1e-14


def constant_certificate(
    model: HMM, task: PosteriorTask, *, tolerance: float = RESIDUAL_TOLERANCE
) -> HeadCertificate | None:
    """Return the certificate of the constant head, None where the task is not proved to have one label for all texts.

    Its residual is float64's rounding, about 1e-14: texts whose margin is within it, relative to ‖μ‖_∞, are left out.

    Raises
    ------
    InvalidInput
        Batches, different numbers of states.

    See Also
    --------
    head_certificate : Of a head that reads the text.

    Notes
    -----
    Cost O(V·C·K²) for each beginning of a text that has to be looked at, at most :data:`FORM_LIMIT` at each of 16
    depths; most tasks are settled at the second.

    Examples
    --------
    >>> from ppl_hmm import PosteriorTask, constant_certificate, example
    >>> model, task = example("aliased")
    >>> print(constant_certificate(model, task))
    None
    >>> constant_certificate(model, PosteriorTask([[0, 0, 0], [1, 2, 3]])).reasons
    ('every text has class 1: the head is constant',)
    """
    require_pair("constant_certificate", model, task, HMM)
    require_uncertain("constant_certificate", model, task)
    model, task = model.detach().to(torch.float64), task.detach().to(torch.float64, model.device)
    task = on_possible_values(model, task)
    label, rounding = constant_label(model, task), ROUNDING + message_rounding(_DEPTH, model.n_states)
    if label is None or tolerance < rounding:
        return None
    weights = model.emission.new_zeros(1 if task.n_classes == 2 else task.n_classes, model.vocabulary_size)
    if task.n_classes == 2:
        weights += 1 if label else -1
    else:
        weights[label] = 1
    return HeadCertificate(
        theorem="constant label",
        weights=weights[0] if task.n_classes == 2 else weights,
        residual=rounding,
        margin_error=rounding * float(task.scale),
        sigma_min=smallest_row_singular_value(model.emission),
        support_threshold=0.0,
        tolerance=tolerance,
        cause=Cause.CONSTANT_LABEL,
        reasons=(f"every text has class {label}: the head is constant",),
        model=model,
        task=task,
    )


def constant_label(model: HMM, task: PosteriorTask) -> int | None:
    """Return the class that the task gives to every text of positive probability, None where that is not proved."""
    label = _likely_label(model, task)
    others = [c for c in range(task.n_classes) if c != label]
    forms = _Forms.before_text(model, task.weights[label] - task.weights[others])
    for _ in range(_DEPTH):
        if forms.faint.any():
            return None
        forms = forms.pick(forms.negative.any(-1).any(-1))
        if not len(forms.values):
            return label
        if len(forms.values) * model.vocabulary_size > FORM_LIMIT:
            return None
        forms = forms.weighed(model.emission)
        if (forms.values.sum(-1) < -ROUNDING * forms.sizes.sum(-1)).any():  # a text that ends here
            return None
        forms = forms.moved(model.transition)
    return None


def _likely_label(model: HMM, task: PosteriorTask) -> int:
    """Return the class of the text that is one unobserved token: the only one that can be that of all texts."""
    return int(task.labels(model.initial[None])[0])


class _Forms(NamedTuple):
    """Linear forms in the message of what follows: beginnings of text (n), other classes (C−1), states (K).

    Only a form's sign counts, so that each beginning has a scale of its own.
    """

    values: Tensor
    sizes: Tensor  # the same sums of absolute values: rounding is a share of them
    met: Tensor  # 1 where some term is not zero, be it no float; else 0

    @classmethod
    def before_text(cls, model: HMM, contrasts: Tensor) -> _Forms:
        """Return the forms of differences of weights (C−1,K) in the message of a text."""
        met = ((model.initial > 0) & (contrasts != 0)).to(contrasts)
        return cls(*(each[None] for each in (model.initial * contrasts, model.initial * contrasts.abs(), met))).moved(
            model.transition
        )

    def moved(self, transition: Tensor) -> _Forms:
        """Return the forms one step earlier, each beginning's largest size being one."""
        values, sizes = self.values @ transition, self.sizes @ transition
        scale = sizes.amax((-2, -1), keepdim=True).clamp(min=torch.finfo(sizes.dtype).tiny)
        met = (self.met @ (transition > 0).to(transition) > 0).to(transition)
        return _Forms(values / scale, sizes / scale, met)

    def weighed(self, emission: Tensor) -> _Forms:
        """Return the forms (n·V,C−1,K) in the message of what follows one more token, whichever it is."""
        likelihoods = emission.mT[:, None]
        each = ((self.values, likelihoods), (self.sizes, likelihoods), (self.met, (likelihoods > 0).to(emission)))
        return _Forms(*((form[:, None] * factor).flatten(0, 1) for form, factor in each))

    def pick(self, chosen: Tensor) -> _Forms:
        """Return some beginnings (n,)."""
        return _Forms(*(each[chosen] for each in self))

    @property
    def negative(self) -> Tensor:
        """Which entries are below zero by more than rounding."""
        return self.values < -ROUNDING * self.sizes

    @property
    def faint(self) -> Tensor:
        """Which entries are near underflow, or lost to it: their sign is not known."""
        limits = torch.finfo(self.sizes.dtype)
        return (self.met > 0) & (self.sizes < limits.tiny / limits.eps)
