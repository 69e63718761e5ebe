"""How much a step of the recursion forgets: contraction of messages in Hilbert's projective metric."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def birkhoff_coefficient(transition: Float[Tensor, "K K"]) -> float:
    """Return τ(A): a step brings two messages closer in Hilbert's metric by this factor, at least.

    d(v, w) = log max(v/w) − log min(v/w), and d(A(r∘v), A(r∘w)) ≤ τ·d(v, w) for every likelihood row r ≥ 0 and messages
    with the same zeros: τ = tanh(Δ/4), Δ = max log(A_ik A_jl / A_jk A_il). 1, no contraction, where some state moves to
    a state that another does not move to. Cost O(K³). Source: Birkhoff (1957); Seneta (1981), §3.4.
    """
    logs = transition.log()
    differences = logs[:, None] - logs[None]  # infinite where one of the two moves is impossible, NaN where both are
    differences = torch.where((transition[:, None] > 0) | (transition[None] > 0), differences, torch.nan)
    highest = differences.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).amax(-1)
    lowest = differences.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf).amin(-1)
    return float(((highest - lowest).max() / 4).tanh())
