"""Draws of text from chains whose states read a memory: the recursion forth, with a draw in place of each sum."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_hmm.base.randomness import Laws


def draw_memories(
    memory_prior: Float[Tensor, "P N M"], n_sequences: int, generator: torch.Generator
) -> Int[Tensor, "P B N"]:
    """Draw the value of each cell for each text. Cost O(B·N·log m)."""
    n_models, n_cells, _ = memory_prior.shape
    number = torch.arange(n_models * n_cells, device=memory_prior.device).view(n_models, 1, n_cells)
    return Laws.of(memory_prior.flatten(0, 1)).draw(number.expand(-1, n_sequences, -1), generator)


def draw_texts(
    initial: Float[Tensor, "P K"],
    transition: Float[Tensor, "P K K"],
    emission: Float[Tensor, "P M K V"],
    cell_of_state: Int[Tensor, "P K"],
    memory: Int[Tensor, "P B N"],
    length: int,
    generator: torch.Generator,
) -> tuple[Int[Tensor, "P B"], Int[Tensor, "P B T"], Int[Tensor, "P B T"]]:
    """Draw the initial state h₀, states h₁..h_T, and tokens by the values that they read. Cost O(B·T·log(K·V))."""
    of_start, of_moves, of_tokens = (Laws.of(part.flatten(0, -2)) for part in (initial, transition, emission))
    (n_models, n_values, n_states, _), device = emission.shape, emission.device
    each_model = torch.arange(n_models, device=device)[:, None].expand(-1, memory.shape[1])
    start = state = of_start.draw(each_model, generator)
    states, tokens = [], []
    for _ in range(length):
        state = of_moves.draw(each_model * n_states + state, generator)
        states.append(state)
        value = memory.gather(-1, cell_of_state.gather(-1, state)[..., None])[..., 0]
        tokens.append(of_tokens.draw((each_model * n_values + value) * n_states + state, generator))
    return start, torch.stack(states, -1), torch.stack(tokens, -1)
