"""What Hamiltonian Monte Carlo learns while tuning: step size, trajectory time, scales. Plain records of tensors."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

#: Draws of the first window, on the way from the start, which teach no scales; each next one is twice as long.
FIRST_WINDOW = 50
#: Coordinates whose covariances are learned; of more, variances alone.
MOST_DENSE = 128
#: Dual averaging (Hoffman & Gelman 2014, §3.2): γ, t₀, κ.
_SHRINKAGE, _DELAY, _DECAY = 0.05, 10.0, 0.75
#: Adam without momentum, in the logarithm of the trajectory time.
_RATE, _FORGET = 0.025, 0.95


class Steps(NamedTuple):
    """Dual averaging of the logarithm of the step size."""

    log_step: Tensor  # (): that of tuning draws
    log_step_mean: Tensor  # (): that of draws after tuning
    step_centre: Tensor
    step_error: Tensor
    step_count: Tensor

    @classmethod
    def starting(cls, step: Tensor) -> Steps:
        """Return what begins at a step size."""
        zero, log = torch.zeros_like(step), step.log()
        return cls(log, log, log, zero, zero)

    def after(self, acceptance: Tensor, aim: float) -> Steps:
        """Learn from the acceptance rates (C,) of a draw, whose harmonic mean is to be ``aim``."""
        n = self.step_count + 1
        harmonic = 1 / (1 / acceptance.clamp(min=1e-10)).mean()
        error = self.step_error + (aim - harmonic - self.step_error) / (n + _DELAY)
        log_step = self.step_centre - n.sqrt() / _SHRINKAGE * error
        mean = self.log_step_mean + n**-_DECAY * (log_step - self.log_step_mean)
        return Steps(log_step, mean, self.step_centre, error, n)


class Times(NamedTuple):
    """Adam on the logarithm of the trajectory time, up the gradient of ChEES."""

    log_time: Tensor  # ()
    log_time_mean: Tensor  # ()
    time_square: Tensor
    time_count: Tensor

    @classmethod
    def starting(cls, time: Tensor) -> Times:
        """Return what begins at a trajectory time."""
        zero, log = torch.zeros_like(time), time.log()
        return cls(log, log, zero, zero)

    def after(self, gradient: Tensor) -> Times:
        """Climb by one gradient ()."""
        n = self.time_count + 1
        square = self.time_square.lerp(gradient.square(), 1 - _FORGET)
        size = (square / (1 - _FORGET**n)).sqrt()
        log_time = self.log_time + _RATE * gradient / size.clamp(min=1e-30)
        mean = self.log_time_mean + n**-_DECAY * (log_time - self.log_time_mean)
        return Times(log_time, mean, square, n)


def chees_gradient(before: Tensor, after: Tensor, velocity: Tensor, time: Tensor, acceptance: Tensor) -> Tensor:
    """Return the derivative () of ChEES by the logarithm of the time, averaged over chains by acceptance.

    Positions (C,D) are deviations from each chain's mean; ``velocity`` (C,D) is that at the end.
    Source: Hoffman, Radul & Sountsov (2021), equation 11.
    """
    gain = after.square().sum(-1) - before.square().sum(-1)
    each = time * gain * (after * velocity).sum(-1)
    usable = torch.isfinite(each) & (acceptance > 0)
    weight = torch.where(usable, acceptance, 0)
    return (weight * torch.where(usable, each, 0)).sum() / weight.sum().clamp(min=1e-30)


class Scales(NamedTuple):
    """Linear maps that make each chain's coordinates as wide as each other, from windows that double in length.

    A map L with L Lᵀ = Σ, where Σ Cov(gradient) Σ = Cov(coordinates): for a normal law exactly its covariance, from as
    few draws as there are coordinates, wherever they are. Maps and sums are (C,D,D); (C,D), diagonals, of more than
    :data:`MOST_DENSE` coordinates. Source: Seyboldt, Carlson & Carpenter (2026), preconditioning by the Fisher
    divergence.
    """

    scale: Tensor  # L, in use
    deviation: Tensor  # (C,D): scales at the start, towards which others are shrunk
    centre: Tensor  # (C,D): mean of all draws, later ones weighing more
    centre_count: Tensor  # ()
    mean: Tensor  # (C,D): of the window so far
    slope: Tensor  # (C,D): mean gradient of the window so far
    squares: Tensor  # Σ (y − mean)(y − mean)ᵀ
    slope_squares: Tensor  # of gradients
    window: Tensor  # (): draws of the window
    window_count: Tensor  # (): so far

    @classmethod
    def starting(cls, points: Tensor, deviation: Tensor) -> Scales:
        """Return what begins at points (C,D) with diagonal scales."""
        n_coordinates, zero = points.shape[-1], torch.zeros_like(points)
        scale = deviation if n_coordinates > MOST_DENSE else torch.diag_embed(deviation)
        sums, count = torch.zeros_like(scale), points.new_zeros(())
        return cls(scale, deviation, points, count, zero, zero, sums, sums, count + FIRST_WINDOW, count)

    def after(self, points: Tensor, gradients: Tensor) -> tuple[Scales, bool]:
        """Learn from the points (C,D) of a draw and gradients there; say whether a window ended, and scales with it."""
        seen, n = self.centre_count + 1, self.window_count + 1
        centre = self.centre.lerp(points, float(2 / (seen + 1)))  # weights in proportion to 1, 2, …
        mean, slope = self.mean + (points - self.mean) / n, self.slope + (gradients - self.slope) / n
        squares = self.squares + self._outer(points - self.mean, points - mean)
        slope_squares = self.slope_squares + self._outer(gradients - self.slope, gradients - slope)
        if n < self.window:
            sums = mean, slope, squares, slope_squares, self.window, n
            return self._replace(centre=centre, centre_count=seen)._replace(**dict(zip(_SUMS, sums, strict=True))), False
        first = bool(self.window == FIRST_WINDOW)
        scale = self.scale if first else _fitted(squares, slope_squares, self.deviation, float(n))
        begun = Scales.starting(points, self.deviation)
        return begun._replace(scale=scale, centre=centre, centre_count=seen, window=2 * self.window), True

    def _outer(self, one: Tensor, other: Tensor) -> Tensor:
        return one[..., None] * other[..., None, :] if self.dense else one * other

    @property
    def dense(self) -> bool:
        """Whether maps are matrices."""
        return self.scale.ndim > self.deviation.ndim

    def widened(self, vectors: Tensor) -> Tensor:
        """Return L v (C,D)."""
        return (self.scale @ vectors[..., None])[..., 0] if self.dense else self.scale * vectors

    def turned(self, gradients: Tensor) -> Tensor:
        """Return Lᵀ g (C,D)."""
        return (self.scale.mT @ gradients[..., None])[..., 0] if self.dense else self.scale * gradients

    def narrowed(self, vectors: Tensor) -> Tensor:
        """Return L⁻¹ v (C,D)."""
        if not self.dense:
            return vectors / self.scale
        return torch.linalg.solve_triangular(self.scale, vectors[..., None], upper=False)[..., 0]


_SUMS = ("mean", "slope", "squares", "slope_squares", "window", "window_count")


def _fitted(squares: Tensor, slope_squares: Tensor, deviation: Tensor, n: float) -> Tensor:
    """Return L from sums over n draws, both shrunk as if by one more draw of a normal law with the deviations."""
    if squares.ndim == deviation.ndim:
        ratio = (squares / deviation.square() + 1) / (slope_squares * deviation.square() + 1)
        return deviation * ratio**0.25
    units, one = deviation[..., None] * deviation[..., None, :], torch.eye(deviation.shape[-1], dtype=squares.dtype)
    of_points, of_slopes = (squares / units + one) / n, (slope_squares * units + one) / n
    root, inverse = _power(of_slopes, 0.5), _power(of_slopes, -0.5)
    covariance = inverse @ _power(root @ of_points @ root, 0.5) @ inverse
    return deviation[..., None] * torch.linalg.cholesky(covariance)


def _power(matrices: Tensor, exponent: float) -> Tensor:
    """Return powers of symmetric positive matrices."""
    values, vectors = torch.linalg.eigh((matrices + matrices.mT) / 2)
    least = values[..., -1:] * torch.finfo(values.dtype).eps
    return (vectors * values.clamp(min=least)[..., None, :] ** exponent) @ vectors.mT
