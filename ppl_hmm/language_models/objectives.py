"""What training makes small: cross-entropy against tokens or exact laws, or Saunshi's quadratic loss."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ppl_hmm.language_models.trained import Link


class Objective(StrEnum):
    """What a language model is trained on."""

    TOKENS = "tokens"  # cross-entropy of the tokens themselves
    EXACT = "exact"  # cross-entropy against the exact laws of a model: distillation
    QUAD = "quad"  # Saunshi, Malladi & Arora (2021), §5: scores estimate probabilities by least squares

    @property
    def link(self) -> Link:
        """How laws follow from scores that were trained by it."""
        return Link.CLIPPED if self is Objective.QUAD else Link.SOFTMAX

    def loss(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of scores (N,V) for target laws (N,V), zero without any."""
        if self is Objective.QUAD:
            each = (0.5 * scores.square() - scores * target).sum(-1)
        else:
            each = -(target * scores.log_softmax(-1)).sum(-1)
        return each.mean() if len(each) else each.sum()


def token_laws(tokens: Tensor, vocabulary_size: int) -> Tensor:
    """Return the laws (…,V) that are certain of each token; zeros for ``MASK``."""
    known = one_hot(tokens.clamp(min=0), vocabulary_size)
    return (known * (tokens >= 0)[..., None]).to(torch.float32)


def cross_entropy(laws: Tensor, target: Tensor) -> Tensor:
    """Return −Σ_v target_v log law_v (…), in nats; a law in float32 is at least its smallest normal number."""
    return -(target * laws.clamp(min=torch.finfo(laws.dtype).tiny).log()).sum(-1)
