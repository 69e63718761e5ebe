"""Mixed states: the beliefs that texts leave, and where each token leads from them."""

from __future__ import annotations

import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput, at_least, within
from ppl_hmm.exact import mixed_states as exact
from ppl_hmm.models import HMM, MealyHMM
from ppl_hmm.models.mealy import as_machine

#: Beliefs that are told apart, at most.
MOST_BELIEFS = 1 << 20
#: The finest grid: float64 has sixteen digits, and beliefs lose some.
SMALLEST_TOLERANCE = 1e-12


@torch.no_grad()
def mixed_states(model: HMM | MealyHMM, depth: int, tolerance: float = 1e-10) -> xr.Dataset:
    """Return the distinct beliefs after texts of up to ``depth`` tokens, with their transitions.

    Parameters
    ----------
    depth
        Tokens of the longest text.
    tolerance
        Width of the cells in which beliefs count as one; the first that is found stands for them. Beliefs of a chain
        that forgets draw together as texts grow, so that with many tokens it merges some that are distinct.

    Returns
    -------
    xarray.Dataset
        ``belief`` (mixed_state, state), the first one before any text; of a :class:`~ppl_hmm.MealyHMM` over its own
        states. ``next_token`` (mixed_state, token): law of the token to come. ``successor`` (mixed_state, token): the
        mixed state to which the token leads, −1 where it is impossible, or not followed as the belief is reached only
        after ``depth`` tokens. ``depth`` (mixed_state): tokens of the shortest text that leads there. ``n_beliefs``
        (length): how many beliefs texts of exactly 0..depth tokens leave. Attribute ``complete``: 1 if all beliefs
        were found and followed that differ by more than the tolerance.

    Raises
    ------
    InvalidInput
        More than :data:`MOST_BELIEFS` beliefs; a tolerance outside 1e-12..1; a batch of models, or one with a memory.

    See Also
    --------
    prefixes : Every text with its belief.
    process : Processes whose mixed states are known.

    Notes
    -----
    The mixed-state presentation of computational mechanics (Crutchfield & Young 1989). Cost O(M·V·S²) for M beliefs
    and a sort of them at each depth.

    Examples
    --------
    >>> from ppl_hmm import mixed_states, process
    >>> found = mixed_states(process("rrxor"), depth=7)
    >>> found.sizes["mixed_state"], found.n_beliefs.values.tolist()
    (36, [1, 2, 4, 8, 12, 17, 17, 17])
    >>> found.attrs["complete"]
    1
    """
    machine, depth = as_machine(model, "mixed states"), at_least("depth", depth, 0)
    tolerance = within("tolerance", tolerance, SMALLEST_TOLERANCE, 1)
    found = exact.start(machine.initial, machine.matrices)
    while not found.followed.all() and int(found.depth.max()) < depth:
        found = exact.followed(found, machine.matrices, tolerance)
        if len(found.beliefs) > MOST_BELIEFS:
            got = f"{len(found.beliefs)} after {int(found.depth.max())} tokens"
            remedy = "pass a smaller depth, or a larger tolerance"
            raise InvalidInput("mixed states", f"at most {MOST_BELIEFS} beliefs", got, remedy)
    mixed, state, token = schema.MIXED_STATE, schema.STATE, schema.TOKEN
    return xr.Dataset(
        {
            schema.BELIEF: ((mixed, state), found.beliefs.cpu().numpy()),
            schema.NEXT_TOKEN: ((mixed, token), found.next_token.cpu().numpy()),
            schema.SUCCESSOR: ((mixed, token), found.successor.cpu().numpy()),
            schema.DEPTH: ((mixed,), found.depth.cpu().numpy()),
            schema.N_BELIEFS: ((schema.LENGTH,), exact.counts(found, depth).cpu().numpy()),
        },
        coords={name: list(names) for name, names in machine.names.items()},
        attrs={"complete": int(found.followed.all()), "tolerance": tolerance},
    )
