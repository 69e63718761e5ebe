"""Pyro's no-U-turn sampler on our log posterior: an independent check of draws, one chain after another.

Trees, their turning and their multinomial choice are Pyro's; the potential is
:class:`~ppl_hmm.estimation.bayes.potential.LogPosterior`, whose gradient needs no tape; step size and scales adapt as
in :mod:`ppl_hmm.estimation.bayes.tuning`, each chain for itself, so that all of it is in the state.
Source: Hoffman & Gelman (2014); Betancourt (2017), §A.4; Bingham et al. (2019) for Pyro.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.infer import NUTS
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.randomness import CPU
from ppl_hmm.estimation.bayes.potential import LogPosterior
from ppl_hmm.estimation.bayes.prior import Laws
from ppl_hmm.estimation.bayes.sampler import Block, State
from ppl_hmm.estimation.bayes.target import Target
from ppl_hmm.estimation.bayes.tuning import Scales, Steps

#: Mean acceptance over a tree to aim at (Hoffman & Gelman 2014, §4.2).
ACCEPTANCE = 0.8
_SITE = "coordinates"
_FIRST_STEP = 0.1
#: What of a state is a record, chains first.
_RECORDS = (Scales, Steps)


class NoUTurnSampler:
    """Pyro's NUTS: a :class:`~ppl_hmm.estimation.bayes.sampler.Sampler`."""

    def start(self, target: Target, laws: Laws, stream: torch.Generator) -> State:
        """Return the state of chains that start at laws (C,…)."""
        log_posterior = LogPosterior(target)
        points = log_posterior.coordinates.coordinates(laws)
        seeds = torch.randint(2**62, (len(points),), generator=stream, device=CPU).tolist()
        each = [
            {
                "points": point,
                "stream": torch.Generator(CPU).manual_seed(seed).get_state(),
                **Scales.starting(point)._asdict(),
                **Steps.starting(torch.full_like(point[0], _FIRST_STEP))._asdict(),
            }
            for point, seed in zip(points, seeds, strict=True)
        ]
        return _stacked(each)

    def advance(self, target: Target, state: State, n: int, tuning: bool) -> tuple[State, Block]:
        """Return the state after n draws of each chain, and the draws. Cost O(B·T·K²) a leapfrog step of a chain."""
        log_posterior, after, drawn, said = LogPosterior(target), [], [], []
        for chain in range(len(state["points"])):
            own, points, statistics = _advance_one(log_posterior, {k: v[chain] for k, v in state.items()}, n, tuning)
            after.append(own)
            drawn.append(points)
            said.append(statistics)
        by_draw = [{name: torch.stack([one[d][name] for one in said]) for name in said[0][0]} for d in range(n)]
        return _stacked(after), log_posterior.block(torch.stack(drawn), by_draw)


def _advance_one(
    log_posterior: LogPosterior, state: State, n: int, tuning: bool
) -> tuple[State, Tensor, list[dict[str, Tensor]]]:
    """Return the state of one chain after n draws, the draws (n,D), and what is said of each."""
    scales, steps = (_record(kind, state) for kind in _RECORDS)
    tree, drawn, said = _Tree(log_posterior, state["points"]), [], []
    with _random_state(state["stream"]) as stream:
        for _ in range(n):
            step = (steps.log_step if tuning else steps.log_step_mean).exp()
            point, statistics = tree.draw(scales, step)
            if tuning:
                scales, new = scales.after(point)
                steps = steps.after(statistics[schema.ACCEPTANCE_RATE][None], ACCEPTANCE)
                steps = Steps.starting(steps.log_step.exp()) if new else steps
            drawn.append(point)
            said.append(statistics)
    after = {"points": drawn[-1], "stream": stream[0], **scales._asdict(), **steps._asdict()}
    return after, torch.stack(drawn), said


class _Tree:
    """Pyro's transition from draw to draw, and what it costs."""

    def __init__(self, log_posterior: LogPosterior, point: Tensor) -> None:
        self.log_posterior = log_posterior
        self.n_gradients = 0
        self.kernel = NUTS(potential_fn=self.potential, adapt_step_size=False, adapt_mass_matrix=False)
        self.kernel.initial_params = {_SITE: point}
        self.kernel.setup(warmup_steps=0)

    def potential(self, sites: dict[str, Tensor]) -> Tensor:
        """Return minus the log density of a point, differentiable once."""
        self.n_gradients += 1
        return _Potential.apply(sites[_SITE], self.log_posterior)  # type: ignore[no-any-return]

    def draw(self, scales: Scales, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the next draw (D,), and what is said of it."""
        kernel, before = self.kernel, self.n_gradients
        kernel._adapter.step_size = float(step)
        kernel.mass_matrix_adapter.inverse_mass_matrix = {(_SITE,): scales.scale.square()}
        kernel._t, kernel._mean_accept_prob, kernel._divergences = 0, 0.0, []  # each draw is its own first one
        with pyro.validation_enabled(False):
            point = kernel.sample(None)[_SITE].detach().clone()
        n_steps = self.n_gradients - before
        return point, {
            schema.LP: -kernel._potential_energy_last.detach(),  # type: ignore[attr-defined]
            schema.ACCEPTANCE_RATE: point.new_tensor(kernel._mean_accept_prob),
            schema.DIVERGING: torch.tensor(bool(kernel._divergences), device=CPU),
            schema.N_STEPS: torch.tensor(n_steps, device=CPU),
            schema.TREE_DEPTH: torch.tensor(n_steps.bit_length(), device=CPU),
            schema.STEP_SIZE: step,
        }


class _Potential(torch.autograd.Function):
    """Minus the log density of one point (D,)."""

    @staticmethod
    def forward(ctx: Any, point: Tensor, log_posterior: LogPosterior) -> Tensor:
        """Return the potential; the gradient comes with it."""
        density = log_posterior(point.detach()[None])
        ctx.save_for_backward(density.gradient[0])
        return -density.log_density[0]

    @staticmethod
    def backward(ctx: Any, *by_output: Tensor) -> tuple[Tensor, None]:
        """Return the gradient times the one that comes in."""
        (gradient,) = ctx.saved_tensors
        return -by_output[0] * gradient, None


@contextmanager
def _random_state(saved: Tensor) -> Iterator[list[Tensor]]:
    """Let torch's global generator, which Pyro draws from, go on from a saved state; fill a list with the one after."""
    after: list[Tensor] = []
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(saved.clone())
        yield after
        after.append(torch.get_rng_state())


def _record(kind: type[Any], state: State) -> Any:
    return kind(*(state[name] for name in kind._fields))


def _stacked(states: list[dict[str, Tensor]]) -> State:
    return {name: torch.stack([each[name] for each in states]) for name in states[0]}
