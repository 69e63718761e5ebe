"""The configurations of a memory: the values of its N cells, each one of m."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_hmm.base.randomness import CPU


def configurations(
    n_cells: int, n_values: int, chosen: range | Int[Tensor, " C"] | None = None
) -> Int[Tensor, "C N"]:
    """Return values of all cells (C,N), last cell fastest: all m^N memories, or the chosen ones by number."""
    numbers = range(n_values**n_cells) if chosen is None else chosen
    if isinstance(numbers, range):
        numbers = torch.arange(numbers.start, numbers.stop, device=CPU)
    powers = n_values ** torch.arange(n_cells - 1, -1, -1, device=numbers.device)
    return numbers[:, None] // powers % n_values


def prior_of_cells(memory_prior: Float[Tensor, "*P N m"], memories: Int[Tensor, "C N"]) -> Float[Tensor, "*P C N"]:
    """Return P(M_j) (P…,C,N) of memories (C,N), whose product P(M) may be smaller than any float."""
    cells = torch.arange(memories.shape[-1], device=memory_prior.device)
    return memory_prior[..., cells, memories.to(memory_prior.device)]


def select_rows(
    rows: Float[Tensor, "*P m K R"], cell_of_state: Int[Tensor, "*Q K"], memories: Int[Tensor, "C N"]
) -> Float[Tensor, "*S C K R"]:
    """Return rows (…,P…,C,K,R) that the states read under memories (C,N), from all rows (…,P…,m,K,R)."""
    values = memories.to(rows.device).T[cell_of_state].movedim(-1, -2)[..., None]  # (P…,C,K,1): what h reads
    return torch.take_along_dim(rows, values.expand(*rows.shape[: rows.ndim - values.ndim], *values.shape), dim=-3)
