"""The last layer of a trained causal model: its features f, and the least loss that any features have with it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_hmm.language_models.causal import next_token_features
from ppl_hmm.language_models.causal_gru import CausalGRU
from ppl_hmm.language_models.objectives import cross_entropy
from ppl_hmm.language_models.trained import Link
from ppl_hmm.recoverability.natural_quadratic import quadratic_excess
from ppl_hmm.recoverability.transfer import divergence

_NEWTON_STEPS, _HALVINGS = 200, 60
_FLAT = 1e-12  # the squared Newton decrement that ends the search, in nats
_RIDGE = 1e-12  # on the curvature, for columns of Φ that are dependent


class Measured(NamedTuple):
    """What a causal model has after texts and a template, and how far it is from exact laws; in float64."""

    features: np.ndarray  # f (B,d)
    laws: np.ndarray  # ĝ (B,V)
    layer: np.ndarray  # Φ (d,V)
    link: Link  # of scores and laws
    estimates: np.ndarray  # (B,V) of the laws by the loss: ĝ, or the scores Φᵀf + β where the loss is quadratic
    excess: np.ndarray  # KL(g‖ĝ) (B,) in nats
    excess_for_layer: float  # mean ℓ(f) − inf_θ ℓ(θ) of the test texts, in nats or as squares of probabilities

    @classmethod
    @torch.no_grad()
    def of(cls, lm: CausalGRU, text: Tensor, template: Tensor | None, exact: Tensor, test: slice) -> Measured:
        """Return what a model has after texts (B,T) of one length and a template (S,), beside exact laws (B,V)."""
        followed = text if template is None else torch.cat([text, template.expand(len(text), -1)], dim=1)
        *_, states = lm.activations(followed).values()
        features, layer, offset = states[:, -1].double(), lm.out.weight.double().mT, lm.out.bias.double()
        laws = next_token_features(lm, text, template).double()
        laws = laws / laws.sum(-1, keepdim=True)
        excess = divergence(exact, laws)
        if lm.link is Link.SOFTMAX:
            estimates = laws
            of_layer = excess[test] - least_divergence(exact[test], layer, offset, features[test])
        else:
            estimates = features @ layer + offset
            of_layer = quadratic_excess(exact[test].numpy(), estimates[test].numpy(), layer.numpy())
        return cls(
            features=features.numpy(),
            laws=laws.numpy(),
            layer=layer.numpy(),
            link=lm.link,
            estimates=estimates.numpy(),
            excess=excess.numpy(),
            excess_for_layer=float(of_layer.mean()),
        )

    @property
    def means(self) -> np.ndarray:
        """Φĝ (B,d): the conditional mean of the next word's column."""
        return self.laws @ self.layer.T


def least_divergence(exact: Tensor, layer: Tensor, offset: Tensor, start: Tensor) -> Tensor:
    """Return inf_θ KL(g‖softmax(Φᵀθ + β)) (B,) for laws g (B,V), from features θ (B,d): a convex problem for each.

    Newton steps, each halved until it gains, until none would gain more than rounding. Cost O(steps·B·d²·V).
    """

    def loss(features: Tensor) -> Tensor:
        return -(exact * (features @ layer + offset).log_softmax(-1)).sum(-1)

    ridge = _RIDGE * torch.eye(len(layer), dtype=layer.dtype, device=layer.device)
    features, least = start, loss(start)
    for _ in range(_NEWTON_STEPS):
        laws = (features @ layer + offset).softmax(-1)
        slope, means = (laws - exact) @ layer.mT, laws @ layer.mT
        curvature = (laws[:, None] * layer) @ layer.mT - means[:, :, None] * means[:, None] + ridge
        step = torch.linalg.solve(curvature, slope)
        gain = (step * slope).sum(-1)
        moving = gain > _FLAT
        if not moving.any():
            break
        size = torch.ones_like(gain)
        for _ in range(_HALVINGS):
            worse = moving & (loss(features - size[:, None] * step) > least - 0.25 * size * gain)
            if not worse.any():
                break
            size = torch.where(worse, size / 2, size)
        moved = features - size[:, None] * step
        better = loss(moved) < least
        features = torch.where(better[:, None], moved, features)
        least = torch.where(better, loss(moved), least)
    return least - cross_entropy(exact, exact)
