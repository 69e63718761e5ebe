"""Compile every pass of the backend ``numba`` before it is first needed."""

from __future__ import annotations

import torch

from ppl_hmm.base.randomness import CPU
from ppl_hmm.exact.backends import choose
from ppl_hmm.exact.recursion import Chain

_PRECISIONS = (torch.float64, torch.float32)
#: More than the pass over columns is for.
_MANY_STATES = 9


def warm_up() -> None:
    """Run each pass once in each precision, so that its machine code is there, on disk where that can be written.

    Raises
    ------
    InvalidInput
        Numba is not installed, or does not compile.

    Notes
    -----
    Takes about half a minute where nothing was compiled before, a second where everything was.
    """
    for precision in _PRECISIONS:
        made = {"dtype": precision, "device": CPU}
        initial, transition, table = (torch.ones(shape, **made) for shape in ((1, 1), (1, 1, 1), (1, 1, 1)))
        ids, weights = torch.zeros(1, 1, 1, dtype=torch.int64, device=CPU), torch.ones(1, 1, **made)
        chain, backend = Chain(initial, transition, table, ids), choose(transition, "numba")
        backend.evidence(chain)
        backend.smooth(chain, positions=[0], own_token=True)
        backend.filter(chain, positions=[0])
        backend.messages(chain, positions=[0])
        backend.gradient(chain, weights)
        for n_states in (1, _MANY_STATES):  # of many texts together
            row = initial.expand(1, n_states)
            laws = Chain(row, row.expand(1, n_states, n_states), row[None], ids.expand(1, 3, 1))
            backend.gradient(laws, weights.expand(1, 3))
        backend.best_path(chain)
        backend.sample_paths(chain, n_draws=1, generator=torch.Generator())
        backend.path_counts(chain, torch.ones(1, 1, dtype=torch.int64, device=CPU), torch.Generator())
