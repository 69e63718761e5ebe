"""What rounding takes from the scores of linear heads: which of them float64 tells from zero."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_hmm.exact.rounding import message_rounding
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.models.kinds import Model

#: Rounding of bᵀG in float64, relative to ‖b‖₁: scores within it have no sign.
SCORE_ROUNDING = 4e-16


def reading_rounding(model: Model) -> float:
    """Return what rounding adds to a sum over states and tokens, as a share of what is summed."""
    return torch.finfo(torch.float64).eps * (model.n_states + model.vocabulary_size + 3)


def law_rounding(model: HMM, prompt: SoftPrompt | None = None, n_masks: int = 1) -> float:
    """Return what rounding adds to sums of q∘Wb over masks, as a share of what is summed."""
    n_prompt = 0 if prompt is None else len(prompt.rows)
    return message_rounding(n_prompt + n_masks - 1, model.n_states) + n_masks * reading_rounding(model)


def surely_scored(features: Tensor, weights: Tensor, model: Model, n_tokens: int, score_error: float = 0.0) -> Tensor:
    """Say which scores of heads b (V,) or (C,V) on G (B,V) of T tokens differ by more than rounding and an error.

    Each entry of G has a relative rounding error, so a score bᵀG is off by at most that share of |b|ᵀG. The bound is
    doubled, as solving for the weights b can add an error of the same size.
    """
    heads = weights.reshape(-1, weights.shape[-1])
    scores, sizes = features @ heads.mT, (features @ heads.abs().mT).amax(-1)
    if len(heads) == 1:
        certainty = scores[:, 0].abs()
    else:
        top = scores.topk(2, dim=-1).values
        certainty, sizes = top[:, 0] - top[:, 1], 2 * sizes
    share = 2 * (message_rounding(n_tokens + 1, model.n_states) + 2 * reading_rounding(model))
    return certainty > (share * sizes).clamp(min=score_error)
