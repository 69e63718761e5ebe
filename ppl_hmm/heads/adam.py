"""Adam in its plain form: the optimiser of torch loads a compiler at its first use, seconds of each process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_MEAN_DECAY, _SQUARE_DECAY, _SMALLEST_SCALE = 0.9, 0.999, 1e-8


class Adam:
    """Moves parameters in place, step by step: Kingma & Ba (2015), algorithm 1, with its default constants."""

    def __init__(self, parameters: Sequence[Tensor], learning_rate: float) -> None:
        self._parameters, self._learning_rate, self._n_steps = list(parameters), learning_rate, 0
        self._means = [torch.zeros_like(parameter, requires_grad=False) for parameter in parameters]
        self._squares = [torch.zeros_like(parameter, requires_grad=False) for parameter in parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move each parameter against its gradient."""
        self._n_steps += 1
        size = self._learning_rate / (1 - _MEAN_DECAY**self._n_steps)
        bias = (1 - _SQUARE_DECAY**self._n_steps) ** 0.5
        for parameter, gradient, mean, square in zip(
            self._parameters, gradients, self._means, self._squares, strict=True
        ):
            mean.lerp_(gradient, 1 - _MEAN_DECAY)
            square.mul_(_SQUARE_DECAY).addcmul_(gradient, gradient, value=1 - _SQUARE_DECAY)
            scale = (square.sqrt() / bias).add_(_SMALLEST_SCALE)
            parameter.addcdiv_(mean, scale, value=-size)
