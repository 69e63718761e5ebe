"""Gradient descent on prompts, from several starts side by side, the head solved for at every step.

A restart whose loss no longer moves has settled, and is trained no further, unless it leads: the best one may wait on a
plateau. Where many prompts solve the task, most restarts settle early.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ppl_hmm.heads.adam import Adam
from ppl_hmm.heads.labelled import LabelledText
from ppl_hmm.language_models.protocol import MaskedLM

_WARM_UP = 5  # Newton steps before the first gradient
# A restart has settled once its loss moved within so many steps by no more than a share of it, and this in nats.
_PATIENCE, _SETTLED_SHARE, _SETTLED = 20, 1e-3, 1e-4
_STEPS_BETWEEN_CHECKS = 10


def to_rows(free: Tensor, lm: MaskedLM) -> Tensor:
    """Return prompt rows (R,P,L,*prompt_shape): as they are, or positive and summing to one (scale does not matter)."""
    return free if lm.prompt_constraint == "real" else free.flatten(3).softmax(-1).view_as(free)


def train_prompts(
    lm: MaskedLM, text: LabelledText, classes: np.ndarray, free_rows: Tensor, steps: int, rate: float
) -> tuple[Tensor, Tensor]:
    """Return the best rows met (R,P,L,*prompt_shape), unconstrained, and the loss (steps,R,P) in nats."""
    problem = text.problem(classes, free_rows)
    free_rows = free_rows.requires_grad_()
    optimiser, restarts = Adam([free_rows], rate), _Restarts(free_rows)
    weights: Tensor | None = None
    while len(restarts.history) < steps:
        training = restarts.to_train()
        if not len(training[0]):  # all have settled
            restarts.history += restarts.history[-1:] * (steps - len(restarts.history))
            break
        features = text.features(to_rows(free_rows[training], lm))
        given = features.detach()
        if weights is None:
            weights = problem.improve(given, problem.start(given), steps=_WARM_UP)
        else:
            weights[training] = problem.improve(given, weights[training], steps=1)
        loss = problem.loss(features, weights[training])
        restarts.record(training, loss.detach(), free_rows.detach())
        # Not backward(): a model whose parameters require gradients must not collect any here.
        optimiser.step(torch.autograd.grad(loss.sum(), [free_rows]))
    return restarts.best_rows, torch.stack(restarts.history)


class _Restarts:
    """How far each of R restarts of P prompts has come."""

    def __init__(self, free_rows: Tensor) -> None:
        n_restarts, n_models = free_rows.shape[:2]
        self.best_rows = free_rows.detach().clone()
        self.history: list[Tensor] = []  # losses (R,P), step by step; a settled restart keeps its last
        self._least = free_rows.new_full((n_restarts, n_models), torch.inf).detach()  # losses of the best rows
        self._goes_on = torch.ones(n_restarts, n_models, dtype=torch.bool, device=free_rows.device)
        self._models = torch.arange(n_models, device=free_rows.device)

    def to_train(self) -> tuple[Tensor, Tensor]:
        """Return the restarts (n,P) to train next, of models (P,): some have settled where others have more left."""
        n_steps = len(self.history)
        if n_steps >= _PATIENCE and n_steps % _STEPS_BETWEEN_CHECKS == 0:
            losses = torch.stack(self.history[-_PATIENCE:])
            moves = losses.amax(0) > (1 + _SETTLED_SHARE) * losses.amin(0) + _SETTLED
            leads = (self._least == self._least.amin(0)) & (self._least > _SETTLED)
            self._goes_on &= moves | leads
        n_training = int(self._goes_on.sum(0).max())
        first = self._goes_on.long().argsort(dim=0, descending=True, stable=True)[:n_training]
        return first, self._models

    def record(self, training: tuple[Tensor, Tensor], loss: Tensor, free_rows: Tensor) -> None:
        """Note the losses (n,P) of restarts that were trained, at rows (R,P,L,*prompt_shape); settled ones are left."""
        reached = self._least.index_put(training, loss)
        latest = torch.where(self._goes_on, reached, self.history[-1] if self.history else reached)
        better = latest < self._least
        self.best_rows[better] = free_rows[better]
        self._least = torch.minimum(latest, self._least)
        self.history.append(latest)
