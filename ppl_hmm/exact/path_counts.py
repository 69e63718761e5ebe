"""Uses of each parameter along paths of hidden states: the start, each move (the one from the silent H₀ too), each row.

What expected counts are expectations of.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class PathCounts(NamedTuple):
    """Numbers of uses of each parameter along one path of each text, summed over the texts of each model."""

    initial: Float[Tensor, "P K"]
    transition: Float[Tensor, "P K K"]
    table: Float[Tensor, "P R K"]


def count_uses(
    states: Int[Tensor, "P B S"],
    ids: Int[Tensor, "P B T"],
    lengths: Int[Tensor, "P B"],
    table: Float[Tensor, "P R K"],
) -> PathCounts:
    """Return the counts of paths h₀..h_T over texts that end at their lengths, shaped as the table. Cost O(B·T).

    A length of −1 leaves out the start, too.
    """
    (n_models, n_rows, n_states), length = table.shape, ids.shape[-1]
    model = torch.arange(n_models, device=states.device)[:, None, None].expand_as(ids)
    read = torch.arange(length, device=states.device) < lengths[..., None]
    start = (model[..., 0] * n_states + states[..., 0])[lengths >= 0]
    moves = (model * n_states + states[..., :-1]) * n_states + states[..., 1:]
    rows = (model * n_rows + ids) * n_states + states[..., 1:]
    shapes = (n_models, n_states), (n_models, n_states, n_states), (n_models, n_rows, n_states)
    return PathCounts(
        *(
            torch.bincount(used, minlength=torch.Size(shape).numel()).view(shape).to(table.dtype)
            for used, shape in zip((start, moves[read], rows[read]), shapes, strict=True)
        )
    )
