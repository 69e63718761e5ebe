"""Where an attention head looks: its attention, the features it pools, and how its scores are learned.

For given attention the values are a logistic regression on Σ_i α_i e_{x_i} ⊗ G_i, convex in (V+1)·V weights. So they
are not trained beside the scores but solved for: one Newton step for each gradient step on the scores, as for prompts
(docs/decisions/0004-prompts-by-variable-projection.md). Scores start at zero: uniform attention, no randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ppl_hmm.heads.adam import Adam
from ppl_hmm.heads.logistic import logistic_loss, newton
from ppl_hmm.language_models.probe import MaskedFeatures
from ppl_hmm.recoverability.attention import hard_attention, observed, of_token, read, soft_attention

_STEPS = 80
_LEARNING_RATE = 0.3
_WARM_UP = 5  # Newton steps before the first gradient
# Few weights place the attention; the values are fitted to all texts afterwards.
_TRAINING_TEXTS = 1000
_SHARPEST = 30.0  # hard attention is trained as a softmax that sharpens up to this factor
_TEXTS_AT_ONCE = 1024  # pooled features are ten times the size of G


class ScoreWeights(NamedTuple):
    """What decides the attention: scores Q[x_i]ᵀG_i + bias_i."""

    weights: Tensor  # Q (V+1,V)
    bias: Tensor | None = None  # (T,), of the positions

    def attention(self, X: MaskedFeatures, *, divided: bool, hard_within: float | None) -> Tensor:
        """Return α (B,T) at Q[x_i]ᵀG_i, divided by G_i[x_i] or not; hard: equal on scores within this of the best."""
        conditionals, present = X.conditionals.detach().double().cpu(), X.present.cpu()
        rows = observed(X.tokens.cpu(), conditionals.shape[-1])
        scores = read(self.weights, conditionals, rows)
        if divided:
            scores = scores / of_token(conditionals, rows).clamp(min=torch.finfo(scores.dtype).tiny)
        if self.bias is not None:
            scores = scores + self.bias
        return soft_attention(scores, present) if hard_within is None else hard_attention(scores, present, hard_within)


def learn_scores(X: MaskedFeatures, sign: Tensor, *, by_token: bool, positional: bool, hard: bool) -> ScoreWeights:
    """Learn scores on the first 1000 texts by Adam, with values solved for at every step.

    Parameters
    ----------
    X, sign
        Features of B texts, and ±1 (C,B) for each class that has a value of its own.
    by_token
        Whether each token has a row of Q of its own.
    positional
        Whether each position has a bias.
    hard
        Whether only the best positions will be attended to.
    """
    X, sign = X[:_TRAINING_TEXTS], sign[:, :_TRAINING_TEXTS]
    conditionals = X.conditionals.detach().double().cpu()
    n_tokens, present = conditionals.shape[-1], X.present.cpu()
    rows = observed(X.tokens.cpu(), n_tokens)
    own_token = _indicators(rows, n_tokens)
    weights = conditionals.new_zeros(n_tokens + 1 if by_token else 1, n_tokens, requires_grad=True)
    bias = conditionals.new_zeros(conditionals.shape[1], requires_grad=positional)
    learned = [weights, bias] if positional else [weights]
    optimiser = Adam(learned, _LEARNING_RATE)
    values = conditionals.new_zeros(len(sign), (n_tokens + 1) * n_tokens)
    best, best_loss = [part.detach().clone() for part in learned], torch.inf
    for step in range(_STEPS):
        # A softmax that sharpens ends near the hard attention that it stands for.
        sharpness = _SHARPEST ** (step / _STEPS) if hard else 1.0
        scores = conditionals @ weights.mT  # (B,T,1), or (B,T,V+1)
        scores = scores.gather(-1, rows[..., None])[..., 0] if by_token else scores[..., 0]
        attention = soft_attention(sharpness * (scores + bias), present)
        with torch.no_grad():
            features = _pool(attention, conditionals, own_token)
            values = newton(features.expand(len(sign), -1, -1), sign, values, steps=1 if step else _WARM_UP)
            given = read(values.unflatten(1, (n_tokens + 1, n_tokens)), conditionals, rows)  # (C,B,T)
        decision = (attention * given).sum(-1)
        loss = logistic_loss(decision[..., None], sign, decision.new_ones(len(sign), 1)).sum()
        if loss.item() < best_loss or hard:
            best, best_loss = [part.detach().clone() for part in learned], loss.item()
        optimiser.step(torch.autograd.grad(loss, learned))
    return ScoreWeights(best[0].expand(n_tokens + 1, -1).contiguous(), *best[1:])


def pooled(X: MaskedFeatures, attention: Callable[[MaskedFeatures], Tensor]) -> Tensor:
    """Return Σ_i α_i e_{x_i} ⊗ G_i (B,(V+1)·V)."""
    parts = []
    for start in range(0, len(X), _TEXTS_AT_ONCE):
        part = X[start : start + _TEXTS_AT_ONCE]
        conditionals = part.conditionals.detach().double().cpu()
        own_token = _indicators(observed(part.tokens.cpu(), conditionals.shape[-1]), conditionals.shape[-1])
        parts.append(_pool(attention(part), conditionals, own_token))
    return torch.cat(parts)


def _indicators(rows: Tensor, n_tokens: int) -> Tensor:
    """Return e_{x_i} (B,T,V+1)."""
    return one_hot(rows, n_tokens + 1).double()


def _pool(attention: Tensor, conditionals: Tensor, own_token: Tensor) -> Tensor:
    """Return Σ_i α_i e_{x_i} ⊗ G_i (B,(V+1)·V)."""
    return ((own_token * attention[..., None]).mT @ conditionals).flatten(1)
