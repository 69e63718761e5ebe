"""The three tokens of a triple as views of its middle state, and Kruskal's condition on them."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from math import comb

import torch
from torch import Tensor

from ppl_hmm.models import HMM
from ppl_hmm.recoverability.arguments import require_model, require_thresholds
from ppl_hmm.recoverability.entering import smallest_row_singular_value
from ppl_hmm.recoverability.token_laws import RANK_TOLERANCE, arrays_of

#: Sets of rows that a k-rank looks at, at most.
SUBSET_LIMIT = 1 << 14


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class TripleViews:
    """The three tokens of a triple as views of its middle state, in the order previous, own, next.

    Attributes
    ----------
    sigma_min
        The K-th singular values of P(X_1|H_2), W = P(X_2|H_2) and AW = P(X_3|H_2); 0 when K > V.
    k_ranks
        The largest k such that any k rows of a view, each divided by its norm, are independent: their smallest
        singular value exceeds ``tolerance``. A lower bound where :data:`SUBSET_LIMIT` sets of rows do not settle it.
    tolerance
        See there.

    See Also
    --------
    triple_views : Of a model.

    Examples
    --------
    >>> from ppl_hmm import HMM, triple_views
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> views = triple_views(model)
    >>> views.k_ranks, views.identifies
    ((2, 2, 2), True)
    """

    sigma_min: tuple[float, float, float]
    k_ranks: tuple[int, int, int]
    n_states: int
    tolerance: float

    @property
    def identifies(self) -> bool:
        """Whether the triple's law determines p, A and W up to the names of the states.

        By Kruskal's theorem it determines p and the views if their k-ranks sum to 2K + 2 or more; A is read off AW if
        the rows of W are independent too. π₀ follows where A is invertible. Sufficient, not necessary.
        """
        enough = self.n_states == 1 or sum(self.k_ranks) >= 2 * self.n_states + 2
        return enough and self.k_ranks[1] == self.n_states


def triple_views(model: HMM, *, tolerance: float = RANK_TOLERANCE) -> TripleViews:
    """Return how well three consecutive tokens see the state of the middle one.

    P(X_1|H_2), W and AW (K,V). A state that H_2 never visits has a row of zeros in the first: nothing sees it.

    Raises
    ------
    InvalidInput
        A batch of models, a memory model, a negative tolerance.

    See Also
    --------
    triple_spectrum : The same question to first order.

    Notes
    -----
    Where the rows of a view are dependent, the cost is that of at most :data:`SUBSET_LIMIT` small decompositions.

    Examples
    --------
    >>> from ppl_hmm import HMM, triple_views
    >>> model = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    >>> triple_views(model).identifies
    True
    """
    require_model("triple_views", model, HMM)
    require_thresholds(0.0, tolerance)
    initial, transition, emission = arrays_of(model)
    first = initial @ transition
    middle = first @ transition
    previous = (first[:, None] * transition).mT @ emission / torch.where(middle > 0, middle, 1)[:, None]
    views = (previous, emission, transition @ emission)
    sigmas = [smallest_row_singular_value(view) for view in views]
    ranks = [_k_rank(view, tolerance) for view in views]
    return TripleViews(
        sigma_min=(sigmas[0], sigmas[1], sigmas[2]),
        k_ranks=(ranks[0], ranks[1], ranks[2]),
        n_states=model.n_states,
        tolerance=tolerance,
    )


def _k_rank(rows: Tensor, tolerance: float) -> int:
    """Return the largest k such that any k of the rows (n,V), scaled to norm one, are independent."""
    norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    if (norms == 0).any():
        return 0
    rows = rows / norms
    if smallest_row_singular_value(rows) > tolerance:
        return len(rows)
    looks = 0
    for size in range(2, min(rows.shape) + 1):
        looks += comb(len(rows), size)
        if looks > SUBSET_LIMIT:
            return size - 1
        subsets = rows[torch.tensor(list(combinations(range(len(rows)), size)), device=rows.device)]
        if torch.linalg.svdvals(subsets)[:, -1].min() <= tolerance:
            return size - 1
    return min(rows.shape)
