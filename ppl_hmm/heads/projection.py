"""Heads that are solved for while something else is trained: logistic regression on many data sets at once.

A problem holds the labels; its heads follow features that change. Two classes have weights b (…,n) and P(1|G) = σ(bᵀG);
C > 2 classes have weights W (…,C,n) and the multinomial P(c|G) ∝ exp(w_cᵀG). No intercept: conditionals sum to one.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot

from ppl_hmm.heads.logistic import PENALTY, damped, logistic_loss, newton, scores


class HeadProblem(Protocol):
    """Labels (P,B), and heads for features (…,P,B,n)."""

    def start(self, features: Tensor) -> Tensor:
        """Return heads of zeros."""
        ...

    def improve(self, features: Tensor, weights: Tensor, steps: int) -> Tensor:
        """Return heads after damped Newton steps on the penalised loss."""
        ...

    def loss(self, features: Tensor, weights: Tensor) -> Tensor:
        """Return the mean loss in nats (…,P), without the penalty; differentiable in the features."""
        ...

    def predict(self, features: Tensor, weights: Tensor) -> Tensor:
        """Return classes (…,P,B) of any features; ties go to the higher class."""
        ...


def head_problem(labels: Tensor, n_classes: int) -> HeadProblem:
    """Return the problem of labels (P,B) in 0..C−1."""
    return _TwoClasses(2.0 * labels - 1.0) if n_classes == 2 else _Multinomial(labels, n_classes)


@dataclasses.dataclass(frozen=True, eq=False)
class _TwoClasses:
    sign: Tensor

    def start(self, features: Tensor) -> Tensor:
        return features.new_zeros(*features.shape[:-2], features.shape[-1])

    def improve(self, features: Tensor, weights: Tensor, steps: int) -> Tensor:
        return newton(features, self.sign, weights, steps)

    def loss(self, features: Tensor, weights: Tensor) -> Tensor:
        return logistic_loss(features, self.sign, weights)

    def predict(self, features: Tensor, weights: Tensor) -> Tensor:
        return (scores(features, weights) >= 0).long()


@dataclasses.dataclass(frozen=True, eq=False)
class _Multinomial:
    labels: Tensor
    n_classes: int

    def start(self, features: Tensor) -> Tensor:
        return features.new_zeros(*features.shape[:-2], self.n_classes, features.shape[-1])

    def improve(self, features: Tensor, weights: Tensor, steps: int) -> Tensor:
        """Return heads after damped Newton steps; each solves systems of C·n equations."""
        n_texts, shape = features.shape[-2], weights.shape[-2:]
        right = one_hot(self.labels, self.n_classes).to(features)

        def objective(heads: Tensor) -> Tensor:
            return self.loss(features, heads.unflatten(-1, shape)) + PENALTY / 2 * heads.square().sum(-1)

        heads = weights.flatten(-2)
        ridge = PENALTY * torch.eye(heads.shape[-1], dtype=features.dtype, device=features.device)
        for _ in range(steps):
            law = (features @ heads.unflatten(-1, shape).mT).softmax(-1)  # (…,B,C)
            gradient = PENALTY * heads + ((law - right).mT @ features).flatten(-2) / n_texts
            # Σ_b (diag(p) − ppᵀ) ⊗ GGᵀ: the first term for each class, the second of all pairs of classes.
            each = (law.mT[..., None] * features[..., None, :, :]).mT @ features[..., None, :, :]  # (…,C,n,n)
            pairs = (law[..., None] * features[..., None, :]).flatten(-2)  # (…,B,C·n)
            curvature = (_block_diagonal(each) - pairs.mT @ pairs) / n_texts + ridge
            heads = damped(objective, heads, torch.linalg.solve(curvature, gradient))
        return heads.unflatten(-1, shape)

    def loss(self, features: Tensor, weights: Tensor) -> Tensor:
        logs = (features @ weights.mT).log_softmax(-1)
        labels = self.labels.expand(logs.shape[:-1])
        return nll_loss(logs.flatten(0, -2), labels.flatten(), reduction="none").view(labels.shape).mean(-1)

    def predict(self, features: Tensor, weights: Tensor) -> Tensor:
        return self.n_classes - 1 - (features @ weights.mT).flip(-1).argmax(-1)


def _block_diagonal(blocks: Tensor) -> Tensor:
    """Return matrices (…,C·n,C·n) of blocks (…,C,n,n)."""
    return torch.diag_embed(blocks.movedim(-3, -1), dim1=-4, dim2=-2).flatten(-2).flatten(-3, -2)
