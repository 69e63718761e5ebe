"""Sets of states whose moves cover what a task needs: the prompts 1_B of Theorem P."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_hmm.recoverability.entering import smallest_row_singular_value

#: Sets of states that the search for covers looks at, at most; it visits all of them in practice (K in the tens).
COVER_LIMIT = 20_000


def best_cover(moves: Tensor, needed: Tensor, emission: Tensor) -> list[int] | None:
    """Return states B whose moves cover the needed ones and whose W[S] is best conditioned; None if there is none.

    ``moves`` (K,K) says where each state can go. S is all that B can move to, and is ranked by the smallest singular
    value of W[S], which must be positive. As that value only falls when rows are added, a set whose value is no better
    than the best cover's is not extended (branch and bound), and some minimal cover is best.
    """
    best_value, best, n_looked_at = 0.0, None, 0

    def extend(chosen: list[int], covered: Tensor) -> None:
        nonlocal best_value, best, n_looked_at
        missing = (needed & ~covered).nonzero()[:, 0]
        if not len(missing) and chosen:
            best_value, best = smallest_row_singular_value(emission[covered]), list(chosen)
            return
        # Branch on the needed state with the fewest ways to enter it (on any state, if none is needed).
        ways = moves[:, missing].sum(0) if len(missing) else None
        candidates = (moves[:, missing[ways.argmin()]] if ways is not None else moves.any(1)).nonzero()[:, 0].tolist()
        unions = [covered | moves[state] for state in candidates]
        values = [smallest_row_singular_value(emission[union]) for union in unions]
        n_looked_at += len(candidates)
        for i in sorted(range(len(candidates)), key=lambda i: -values[i]):
            if values[i] > best_value and n_looked_at <= COVER_LIMIT:
                extend([*chosen, candidates[i]], unions[i])

    extend([], torch.zeros_like(needed))
    return best
