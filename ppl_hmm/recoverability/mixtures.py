"""Reading emission rows off a mixture of them: which rows have a linear form of their own, and the forms.

Let R (n,V) hold the rows that text can meet. Row r is read off a mixture of them iff it is outside the span of all
others; column r of R⁺ is the form that does it, as (RR⁺)_r is the unit vector.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_hmm.exact.support import possible_states
from ppl_hmm.models import MemoryHMM
from ppl_hmm.recoverability.entering import smallest_row_singular_value

# Singular values of R below these shares of the largest count as zero: rows that nearly coincide are taken as equal
# where that reads the others off better.
_RANK_TOLERANCES = (1e-12, 1e-9, 1e-6)
# Relative error of an exact conditional, of text of hundreds of tokens.
_ROUNDING = 1e-14


def rows_met(model: MemoryHMM, cell: int, allowed: Tensor) -> Tensor:
    """Say which rows (m,K) text can meet: the state is reached, and the cell that it reads may hold the value."""
    may_hold = model.memory_prior > 0
    may_hold[cell] &= allowed
    return may_hold[model.cell_of_state].mT & possible_states(model.initial, model.transition)


def best_reading(
    model: MemoryHMM, met: Tensor, cell: int, chosen: list[int] | None, tolerance: float
) -> tuple[list[int], Tensor, float]:
    """Return H*, linear forms (m,K,V) that read rows off mixtures, and the residual of those of H*.

    H* is ``chosen``, or the most states that read the cell and have a residual within the tolerance, and if none has
    the best single one.
    """
    reading = (met.any(0) & (model.cell_of_state == cell)).nonzero()[:, 0].tolist()
    best, best_quality = None, None
    for rank_tolerance in (torch.finfo(model.dtype).eps * max(met.numel(), model.vocabulary_size), *_RANK_TOLERANCES):
        rows = model.emission[met]
        pseudoinverse = torch.linalg.pinv(rows, rtol=rank_tolerance)
        forms = torch.zeros_like(model.emission)
        forms[met] = pseudoinverse.mT
        # What the form of (a,h) makes of each row, less what it should: (n,m,K).
        errors = (torch.einsum("nv,ahv->nah", rows, forms) - _indicators(met)).abs().sum(1)  # (n,K)
        states = chosen if chosen is not None else _largest_set(errors, reading, tolerance)
        residual = float(errors[:, states].sum(1).max()) if states and len(rows) else torch.inf
        quality = (residual <= tolerance, len(states), -residual)
        if best_quality is None or quality > best_quality:
            best, best_quality = (states, forms, residual), quality
    assert best is not None
    return best


def _largest_set(errors: Tensor, reading: list[int], tolerance: float) -> list[int]:
    """Return the states whose errors (n,K) together stay within the tolerance, smallest first; at least one, if any."""
    chosen, total = [], errors.new_zeros(len(errors))
    for state in sorted(reading, key=lambda state: float(errors[:, state].max())):
        total = total + errors[:, state]
        if chosen and total.max() > tolerance:
            break
        chosen.append(state)
    return sorted(chosen)


def _indicators(met: Tensor) -> Tensor:
    """Return for each row that is met (n) the array (n,m,K) with a one at its place."""
    return torch.eye(met.numel(), dtype=torch.float64, device=met.device).view(-1, *met.shape)[met.flatten()]


def own_and_others(model: MemoryHMM, met: Tensor, states: list[int]) -> tuple[Tensor, Tensor]:
    """Return the rows of H* and all others that text can meet."""
    own = torch.zeros_like(met)
    own[:, states] = True
    return model.emission[met & own], model.emission[met & ~own]


def smallest_own_singular_value(model: MemoryHMM, met: Tensor, states: list[int]) -> float:
    """Return σ_min of the rows of H* projected off the span of the others."""
    own, others = own_and_others(model, met, states)
    return smallest_row_singular_value(own - own @ torch.linalg.pinv(others) @ others) if len(own) else 0.0


def form_rounding(weights: Tensor) -> float:
    """Return what rounding of G may add to ‖ΘG‖₁."""
    return _ROUNDING * float(weights.abs().sum((0, 1)).max())
