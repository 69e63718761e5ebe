"""What Hamiltonian Monte Carlo learns while tuning: step size, trajectory time, scales. Plain records of tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Draws of the first window, on the way from the start, which teach no scales; each next one is twice as long.
FIRST_WINDOW = 50
#: Draws that the scales before count as.
SHRINKAGE = 5.0
#: Dual averaging (Hoffman & Gelman 2014, §3.2): γ, t₀, κ.
_SHARPNESS, _DELAY, _DECAY = 0.05, 10.0, 0.75
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
        log_step = self.step_centre - n.sqrt() / _SHARPNESS * error
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
    """Return the derivative () by log time of ChEES over the time, times the time; chains weigh by acceptance.

    Positions (C,D) are deviations from each chain's mean; ``velocity`` (C,D) is that at the end. With g = ‖after‖² −
    ‖before‖² of one chain, ChEES is g²/4, and its derivative by log time is time · g · ⟨after, velocity⟩. By unit of
    time, as steps are what draws cost: without it few chains let the time grow where ChEES is flat.
    Source: Hoffman, Radul & Sountsov (2021), §3, equations 10 and 11.
    """
    gain = after.square().sum(-1) - before.square().sum(-1)
    each = time * gain * (after * velocity).sum(-1) - gain.square() / 4
    usable = torch.isfinite(each) & (acceptance > 0)
    weight = torch.where(usable, acceptance, 0)
    return (weight * torch.where(usable, each, 0)).sum() / weight.sum().clamp(min=1e-30)


class Scales(NamedTuple):
    """Deviations of each chain's coordinates, over windows that double in length (Welford's sums)."""

    scale: Tensor  # (C,D): in use
    centre: Tensor  # (C,D): mean of all draws, later ones weighing more
    centre_count: Tensor  # ()
    mean: Tensor  # (C,D): of the window so far
    squares: Tensor  # (C,D): Σ (y − mean)²
    window: Tensor  # (): draws of the window
    window_count: Tensor  # (): so far

    @classmethod
    def starting(cls, points: Tensor) -> Scales:
        """Return what begins at points (C,D), with scales of one: about those of a prior."""
        none, count = torch.zeros_like(points), points.new_zeros(())
        return cls(torch.ones_like(points), points, count, none, none, count + FIRST_WINDOW, count)

    def after(self, points: Tensor) -> tuple[Scales, bool]:
        """Learn from the points (C,D) of a draw; say whether a window ended, and new scales with it."""
        seen, n = self.centre_count + 1, self.window_count + 1
        centre = self.centre.lerp(points, float(2 / (seen + 1)))  # weights in proportion to 1, 2, …
        mean = self.mean + (points - self.mean) / n
        squares = self.squares + (points - self.mean) * (points - mean)
        if n < self.window:
            return Scales(self.scale, centre, seen, mean, squares, self.window, n), False
        first = bool(self.window == FIRST_WINDOW)
        # Shrunk towards the scale before as if that had been seen in a few more draws.
        fitted = ((squares + SHRINKAGE * self.scale.square()) / (n - 1 + SHRINKAGE)).sqrt()
        none = torch.zeros_like(points)
        return Scales(self.scale if first else fitted, centre, seen, none, none, 2 * self.window, n * 0), not first
