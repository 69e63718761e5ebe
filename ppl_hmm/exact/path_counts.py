"""Uses of each parameter along drawn paths of hidden states: what a conjugate sampler conditions on.

Given the text x and the laws, draw H₀..H_T from P(· | x), and the memory with it where there is one. Count the start,
each move (the one from the silent H₀ too), each observed token by state and value read, and the value of each cell.
Source: Scott (2002), §2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_hmm.exact import chain as chains, mixture, paths
from ppl_hmm.exact.backends.contract import Lengths
from ppl_hmm.exact.mixture import MemoryText


class PathCounts(NamedTuple):
    """Numbers of uses of each parameter along one path of each text, summed over the texts of each model."""

    memory_prior: Float[Tensor, "P N M"]
    initial: Float[Tensor, "P K"]
    transition: Float[Tensor, "P K K"]
    table: Float[Tensor, "P M R K"]


@torch.no_grad()
def draw_path_counts(
    text: MemoryText, lengths: Lengths, generator: torch.Generator, *, backend: str | None = None
) -> tuple[Float[Tensor, "P B"], PathCounts]:
    """Return log P(x) and the counts of one path drawn for each text; x must be possible. Cost O(C·B·T·K²).

    Texts end at their lengths: rows and moves after the end are not counted.
    """
    if text.n_memories == 1:
        return _of_chains(text, lengths, generator, backend)
    log_evidence = mixture.log_joint_memory(text).logsumexp(-1)
    states, memory = (each[:, :, 0] for each in mixture.sample_paths(text, 1, generator))
    n_models, _, n_values = text.memory_prior.shape
    held = torch.nn.functional.one_hot(memory, n_values).to(text.table).sum(1)
    model = torch.arange(n_models, device=states.device)[:, None, None]
    cell = text.cell_of_state[model, states[..., 1:]]
    value = memory.gather(-1, cell)
    return log_evidence, PathCounts(held, *_counted(text, states, value, lengths))


def _of_chains(
    text: MemoryText, lengths: Lengths, generator: torch.Generator, backend: str | None
) -> tuple[Tensor, PathCounts]:
    """Return what :func:`draw_path_counts` does where the memory is certain."""
    chain = text.only_chain
    states = paths.sample_paths(chain, 1, generator, backend=backend)[:, :, 0]
    log_evidence = chains.evidence_of(chain, backend=backend)
    held = torch.full_like(text.memory_prior, states.shape[1])
    return log_evidence, PathCounts(held, *_counted(text, states, torch.zeros_like(states[..., 1:]), lengths))


def _counted(
    text: MemoryText, states: Int[Tensor, "P B S"], values: Int[Tensor, "P B T"], lengths: Lengths
) -> tuple[Float[Tensor, "P K"], Float[Tensor, "P K K"], Float[Tensor, "P M R K"]]:
    """Return how often paths h₀..h_T start in, move between, and emit each row from, each state."""
    n_models, n_states = text.initial.shape
    model = torch.arange(n_models, device=states.device)[:, None, None].expand_as(values)
    read = torch.arange(values.shape[-1], device=states.device) < lengths[..., None]
    start = model[..., :1] * n_states + states[..., :1]
    moves = (model * n_states + states[..., :-1]) * n_states + states[..., 1:]
    rows = ((model * text.table.shape[1] + values) * text.table.shape[2] + text.ids) * n_states + states[..., 1:]
    shapes = text.initial.shape, text.transition.shape, text.table.shape
    used = start.flatten(), moves[read], rows[read]
    return tuple(  # type: ignore[return-value]
        torch.bincount(each, minlength=shape.numel()).view(shape).to(text.table)
        for each, shape in zip(used, shapes, strict=True)
    )
