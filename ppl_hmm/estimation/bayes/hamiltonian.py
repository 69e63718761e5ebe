"""Hamiltonian Monte Carlo, all chains side by side, with trajectories as long as ChEES finds best.

A draw follows leapfrog steps of the Hamiltonian −log p(y) + ½‖momentum‖² in the unbounded coordinates of
:mod:`ppl_hmm.estimation.bayes.simplex`, for a time u·τ with u from Halton's sequence, and is accepted by Metropolis'
rule. A step costs one pass each way through the texts for all chains together: the gradient is expected counts.
While tuning (:mod:`ppl_hmm.estimation.bayes.tuning`),

- the step size follows acceptance, by dual averaging, to a harmonic mean of 0.651 over chains;
- the trajectory time τ climbs the gradient of the *change in the estimator of the expected square* by unit of time,
  E (‖y′ − μ‖² − ‖y − μ‖²)²/4τ, by Adam, where μ is each chain's mean;
- each chain's coordinates are divided by their deviations, over windows that double in length.

Chains keep means and deviations of their own, as their states may be numbered differently.
Source: Hoffman, Radul & Sountsov (2021), AISTATS; windows: Carpenter et al. (2017); dual averaging:
Hoffman & Gelman (2014).
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.randomness import CPU
from ppl_hmm.estimation.bayes.potential import Density, LogPosterior
from ppl_hmm.estimation.bayes.prior import Laws
from ppl_hmm.estimation.bayes.sampler import Block, State, restored_stream, saved_stream
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.bayes.tuning import Scales, Steps, Times, chees_gradient

#: Harmonic mean of acceptance over chains to aim at (Hoffman, Radul & Sountsov 2021, §3).
ACCEPTANCE = 0.651
#: Leapfrog steps of one draw, at most.
MOST_STEPS = 1000
#: A trajectory whose energy grows by more has diverged (nats).
MOST_ENERGY = 1000.0
_FIRST_STEP, _FIRST_TIME = 0.1, 0.5
#: What of a state is a record.
_RECORDS = (Density, Scales, Steps, Times)


class Trajectory(NamedTuple):
    """Where leapfrog steps lead C chains."""

    points: Tensor  # (C,D)
    density: Density
    momentum: Tensor  # (C,D), of scaled coordinates
    diverging: Tensor  # (C,)


class Draw(NamedTuple):
    """One draw of each chain, and what came before Metropolis' rule."""

    points: Tensor  # (C,D)
    density: Density
    proposed: Trajectory
    acceptance: Tensor  # (C,)
    energy: Tensor  # (C,): of the draw, at the start of its trajectory


@dataclasses.dataclass(frozen=True)
class HamiltonianSampler:
    """Batched Hamiltonian Monte Carlo: a :class:`~ppl_hmm.estimation.bayes.sampler.Sampler`."""

    def start(self, target: Target, laws: Laws, stream: torch.Generator) -> State:
        """Return the state of chains that start at laws (C,…)."""
        log_posterior = LogPosterior(target)
        points = log_posterior.coordinates.coordinates(laws)
        return {
            "points": points,
            "number": torch.zeros((), dtype=torch.int64, device=CPU),
            "stream": saved_stream(stream),
            **log_posterior(points)._asdict(),
            **Scales.starting(points)._asdict(),
            **Steps.starting(points.new_tensor(_FIRST_STEP))._asdict(),
            **Times.starting(points.new_tensor(_FIRST_TIME))._asdict(),
        }

    def advance(self, target: Target, state: State, n: int, tuning: bool) -> tuple[State, Block]:
        """Return the state after n draws of each chain, and the draws. Cost O(C·B·T·K²) a leapfrog step."""
        log_posterior, begun = LogPosterior(target), int(state["number"])
        stream = restored_stream(state["stream"])
        points, density, scales, steps, times = state["points"], *(_record(kind, state) for kind in _RECORDS)
        drawn: list[Tensor] = []
        said: list[dict[str, Tensor]] = []
        for number in range(begun + 1, begun + n + 1):
            step = (steps.log_step if tuning else steps.log_step_mean).exp()
            time = halton(number) * (times.log_time if tuning else times.log_time_mean).exp()
            n_steps = int((time / step).ceil().clamp(1, MOST_STEPS))
            draw = _draw(log_posterior, points, density, scales, step, n_steps, stream)
            if tuning:
                scales, steps, times = _tuned(points, draw, n_steps * step, scales, steps, times)
            points, density = draw.points, draw.density
            drawn.append(points)
            said.append(_statistics(draw, step, n_steps))
        after = {
            "points": points,
            "number": torch.tensor(begun + n, device=CPU),
            "stream": saved_stream(stream),
        }
        for record in (density, scales, steps, times):
            after |= record._asdict()
        return after, log_posterior.block(torch.stack(drawn, 1), said)


def _draw(
    log_posterior: LogPosterior,
    points: Tensor,
    density: Density,
    scales: Scales,
    step: Tensor,
    n_steps: int,
    stream: torch.Generator,
) -> Draw:
    """Return one draw of each chain, by n leapfrog steps and Metropolis' rule."""
    momentum = torch.randn(points.shape, generator=stream, dtype=points.dtype, device=CPU)
    uniform = torch.rand(len(points), generator=stream, dtype=points.dtype, device=CPU)
    energy = _energy(density, momentum)
    proposed = _trajectory(log_posterior, points, density, momentum, scales, step, n_steps)
    gain = torch.where(proposed.diverging, -torch.inf, energy - _energy(proposed.density, proposed.momentum))
    acceptance = gain.exp().clamp(max=1)
    accepted = uniform < acceptance
    moved = Density(
        torch.where(accepted, proposed.density.log_density, density.log_density),
        torch.where(accepted[:, None], proposed.density.gradient, density.gradient),
    )
    return Draw(torch.where(accepted[:, None], proposed.points, points), moved, proposed, acceptance, energy)


def _trajectory(
    log_posterior: LogPosterior,
    points: Tensor,
    density: Density,
    momentum: Tensor,
    scales: Scales,
    step: Tensor,
    n_steps: int,
) -> Trajectory:
    """Follow n leapfrog steps; a chain that diverges stays where it was before."""
    most = _energy(density, momentum) + MOST_ENERGY
    diverging = torch.zeros_like(most, dtype=torch.bool)
    move = step * scales.scale
    half = 0.5 * move
    for _ in range(n_steps):
        momentum = torch.addcmul(momentum, half, density.gradient)
        points = torch.addcmul(points, move, momentum)
        density = log_posterior(points)
        momentum = torch.addcmul(momentum, half, density.gradient)
        within = _energy(density, momentum) < most
        if not within.all():
            diverging = diverging | ~within
            move = torch.where(diverging[:, None], 0, move)
            if diverging.all():
                break
    return Trajectory(points, density, momentum, diverging)


def _energy(density: Density, momentum: Tensor) -> Tensor:
    return 0.5 * momentum.square().sum(-1) - density.log_density


def _tuned(
    before: Tensor, draw: Draw, time: Tensor, scales: Scales, steps: Steps, times: Times
) -> tuple[Scales, Steps, Times]:
    """Learn from one draw, whose trajectories took this time."""
    from_mean, to_mean = ((at - scales.centre) / scales.scale for at in (before, draw.proposed.points))
    gradient = chees_gradient(from_mean, to_mean, draw.proposed.momentum, time, draw.acceptance)
    steps, times = steps.after(draw.acceptance, ACCEPTANCE), times.after(gradient)
    scales, new = scales.after(draw.points)
    return scales, Steps.starting(steps.log_step.exp()) if new else steps, times


def _statistics(draw: Draw, step: Tensor, n_steps: int) -> dict[str, Tensor]:
    """Return what is said of one draw, each (C,)."""
    like = draw.acceptance
    return {
        schema.LP: draw.density.log_density,
        schema.ACCEPTANCE_RATE: like,
        schema.DIVERGING: draw.proposed.diverging,
        schema.ENERGY: draw.energy,
        schema.N_STEPS: torch.full_like(like, n_steps, dtype=torch.int64),
        schema.STEP_SIZE: step.expand(like.shape),
    }


def halton(number: int) -> float:
    """Return term ``number`` ≥ 1 of Halton's sequence in base 2: its binary digits after the point, reversed."""
    return int(f"{number:b}"[::-1], 2) / (1 << number.bit_length())


def _record(kind: type[Any], state: State) -> Any:
    return kind(*(state[name] for name in kind._fields))
