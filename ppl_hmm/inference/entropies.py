"""Entropies of the text of a model: what is lost at least by whoever predicts it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.randomness import CPU
from ppl_hmm.errors import InvalidInput, at_least, within
from ppl_hmm.exact.entropy import Bounds, Walk
from ppl_hmm.exact.stationary import long_run_law
from ppl_hmm.inference.mixed_states import SMALLEST_TOLERANCE
from ppl_hmm.models import HMM, MealyHMM
from ppl_hmm.models.mealy import as_machine

#: Numbers that are computed for the next tokens of all beliefs, over all lengths, at most: seconds, and 512 MiB.
LARGEST_WALK = 1 << 24
#: Tokens of the longest text that is looked at for the entropy rate.
LONGEST = 1000


@torch.no_grad()
def entropies(
    model: HMM | MealyHMM, length: int = 10, *, precision: float = 5e-7, tolerance: float = SMALLEST_TOLERANCE
) -> xr.Dataset:
    """Return entropies of a model's text in nats, each between rigorous bounds.

    Parameters
    ----------
    length
        T ≥ 1: tokens of the longest text for block and myopic entropies.
    precision
        The bounds of rate and excess entropy come from longer and longer texts until those of the rate are no farther
        apart, or no farther than merging blurs them, and those of the excess entropy no farther than this and those of
        rate and block entropies imply; or texts have :data:`LONGEST` tokens; or beliefs take :data:`LARGEST_WALK`
        numbers. Bounds stay wide where text of that length does not make up for a state that is unknown at its start.
    tolerance
        Beliefs in one cell of this width are merged. Bounds account for it: a larger tolerance is faster, and reaches
        longer texts, with wider bounds.

    Returns
    -------
    xarray.Dataset
        With a dimension ``bound``: lower, upper. ``block_entropy`` (length, bound): H(X_1..X_t), t = 0..T.
        ``myopic_entropy`` (length, bound): H(X_{t+1} | X_1..X_t), the expected loss of a perfect prediction from t
        tokens. ``mean_loss`` (bound): its mean over predictions from 1..T tokens. ``entropy_rate`` (bound): its limit.
        ``excess_entropy`` (bound): what the past of stationary text tells of its future. Attribute ``rate_length``:
        tokens of the texts behind the last two.

    Raises
    ------
    InvalidInput
        More beliefs after ``length`` tokens than there is room for; arguments out of range; a batch of models, or one
        with a memory.

    See Also
    --------
    process : Processes with known entropy rates.
    mixed_states : Distinct beliefs.

    Notes
    -----
    Rate and excess entropy are those of the stationary process in which the chain settles. With its state S_t,
    H(X_{t+1} | x_1..x_t, S_0) ≤ h ≤ H(X_{t+1} | x_1..x_t) (Cover & Thomas 2006, Theorem 4.5.1), and
    H(X_1..X_t) − t·h ≤ E ≤ H(X_1..X_t) − t·h + H(S_t | x_1..x_t) − H(S_t | x_1..x_t, S_0), as the past tells of what
    follows x_1..x_t no more than S_0 tells of S_t. Rounding is added to all bounds. Cost O(N·V·S²) for N beliefs.

    Examples
    --------
    >>> from ppl_hmm import entropies, process
    >>> found = entropies(process("mess3"))
    >>> found.entropy_rate.values.round(6).tolist(), found.mean_loss.values.round(6).tolist()
    ([0.793458, 0.793458], [0.802512, 0.802512])
    >>> found.myopic_entropy.sel(bound="upper").values[:3].round(4).tolist()
    [1.0986, 0.8577, 0.8134]
    """
    machine, length = as_machine(model, "entropies"), at_least("length", length, 1)
    tolerance = within("tolerance", tolerance, SMALLEST_TOLERANCE, 1)
    precision = within("precision", precision, 0, math.inf)
    own = Walk(machine.initial[None], machine.initial.new_ones(1))
    longer = itertools.islice(_longer([own], machine.matrices, tolerance), length + 1)
    myopic = np.array([walk.next_token(machine.matrices) for (walk,) in longer])
    if len(myopic) <= length:
        expected = f"next tokens of all beliefs in at most {LARGEST_WALK} numbers"
        got = f"more after {len(myopic)} tokens"
        raise InvalidInput("entropies", expected, got, "pass a smaller length, or a larger tolerance")
    rate, excess, n_tokens = _of_stationary(machine, precision, tolerance)
    block = np.concatenate([np.zeros((1, 2)), myopic.cumsum(0)])[:-1]
    by_length, bound = (schema.LENGTH, schema.BOUND), (schema.BOUND,)
    return xr.Dataset(
        {
            schema.BLOCK_ENTROPY: (by_length, block),
            schema.MYOPIC_ENTROPY: (by_length, myopic),
            schema.MEAN_LOSS: (bound, myopic[1:].mean(0)),
            schema.ENTROPY_RATE: (bound, np.array(rate)),
            schema.EXCESS_ENTROPY: (bound, np.array(excess)),
        },
        coords={schema.BOUND: [schema.LOWER, schema.UPPER]},
        attrs={"rate_length": n_tokens, "tolerance": tolerance, "units": "nats"},
    )


def _longer(walks: list[Walk], matrices: Tensor, tolerance: float) -> Iterator[list[Walk]]:
    """Yield walks of 0, 1, … tokens as long as there is room for the next."""
    n_numbers = 0
    while n_numbers <= LARGEST_WALK:
        yield walks
        walks = [walk.step(matrices, tolerance) for walk in walks]
        n_numbers += sum(len(walk.beliefs) for walk in walks) * matrices[:, 0].numel()


def _of_stationary(machine: MealyHMM, precision: float, tolerance: float) -> tuple[Bounds, Bounds, int]:
    """Return entropy rate, excess entropy, and the length of the texts that they come from."""
    matrices = machine.matrices
    settled = long_run_law(machine.initial, matrices.sum(0))
    start = [Walk(settled[None], settled.new_ones(1)), Walk(torch.eye(len(settled), device=CPU).to(settled), settled)]
    rate, block = Bounds(0.0, math.log(machine.vocabulary_size)), Bounds(0.0, 0.0)
    excess, n_tokens = Bounds(0.0, math.inf), 0
    for walk, from_state in itertools.islice(_longer(start, matrices, tolerance), LONGEST + 1):
        myopic, n_tokens = walk.next_token(matrices), walk.length
        rate = Bounds(max(rate.lower, from_state.next_token(matrices).lower), min(rate.upper, myopic.upper))
        known = Bounds(block.lower - n_tokens * rate.upper, block.upper - n_tokens * rate.lower)
        told = walk.state(matrices).upper - from_state.state(matrices).lower
        excess = Bounds(max(excess.lower, known.lower), min(excess.upper, known.upper + told))
        finest = max(precision, from_state.merged)  # merging only widens from there
        if rate.upper - rate.lower <= finest and told <= max(finest, known.upper - known.lower):
            break
        block = Bounds(block.lower + myopic.lower, block.upper + myopic.upper)
    return rate, excess, n_tokens
