"""One half of a conjugate sampler: draw the hidden paths of texts given the laws, and count what the paths use.

The other half draws the laws given the counts. Where there is a memory, its values are drawn and counted with the path.
Source: Tanner & Wong (1987); Scott (2002), §2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_hmm.exact import mixture
from ppl_hmm.exact.backends import choose
from ppl_hmm.exact.backends.contract import Lengths
from ppl_hmm.exact.baum_welch import MemoryCounts
from ppl_hmm.exact.chain import RESCUE, few_at_a_time
from ppl_hmm.exact.mixture import MemoryText
from ppl_hmm.exact.path_counts import PathCounts, count_uses
from ppl_hmm.exact.recursion import Chain


@torch.no_grad()
def draw_path_counts(
    chain: Chain, lengths: Lengths, generator: torch.Generator, *, backend: str | None = None
) -> tuple[Float[Tensor, "P B"], PathCounts]:
    """Return log P(x), and the counts of one path drawn for each text; x must be possible. Cost O(B·T·K²).

    Texts end at their lengths, and have the mask's row from there on: neither rows nor moves after the end are counted.
    """
    log_evidence, counts, lost = choose(chain.transition, backend).path_counts(chain, lengths, generator)
    for few, picked in few_at_a_time(lost, chain):
        states, _ = RESCUE.sample_paths(picked, 1, generator)
        log_evidence[few] = RESCUE.evidence(picked)[0][:, 0]
        model = few.nonzero()[:, 0]
        own = chain.ids[few][:, None]
        each = count_uses(states[:, :, 0], own, lengths[few][:, None], chain.table[model])
        for whole, part in zip(counts, each, strict=True):
            whole.index_add_(0, model, part)
    return log_evidence, counts


@torch.no_grad()
def draw_memory_counts(
    text: MemoryText, lengths: Lengths, generator: torch.Generator
) -> tuple[Float[Tensor, "P B"], MemoryCounts]:
    """Return log P(x), and the counts of one memory and path drawn for each text. Cost O(m^N·B·T·K²)."""
    if text.n_memories == 1:
        log_evidence, (initial, transition, table) = draw_path_counts(text.only_chain, lengths, generator)
        held = torch.full_like(text.memory_prior, text.ids.shape[1])
        return log_evidence, MemoryCounts(held, initial, transition, table[:, None])
    log_evidence = mixture.log_joint_memory(text).logsumexp(-1)
    states, memory = (each[:, :, 0] for each in mixture.sample_paths(text, 1, generator))
    n_values, n_rows = text.table.shape[1:3]
    held = torch.nn.functional.one_hot(memory, n_values).to(text.table).sum(1)
    read = _values_read(text, states[..., 1:], memory)
    counts = count_uses(states, read * n_rows + text.ids, lengths, text.table.flatten(1, 2))
    return log_evidence, MemoryCounts(held, counts.initial, counts.transition, counts.table.view(text.table.shape))


def _values_read(
    text: MemoryText, states: Int[Tensor, "P B T"], memory: Int[Tensor, "P B N"]
) -> Int[Tensor, "P B T"]:
    """Return the value that each state of a path reads."""
    model = torch.arange(len(states), device=states.device)[:, None, None]
    return memory.gather(-1, text.cell_of_state[model, states])
