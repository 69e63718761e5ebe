"""A task on a memory cell, as a task on the initial state of the flattened model: what Theorem H says of it."""

from __future__ import annotations

import torch

from ppl_hmm.exact.configurations import configurations
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.recoverability.arguments import require_pair
from ppl_hmm.tasks import MemoryTask, PosteriorTask


def flattened_pair(model: MemoryHMM, task: MemoryTask) -> tuple[HMM, PosteriorTask]:
    """Return the flattened model of m^N·K states, and the task that gives every text the same label.

    Its initial state is a pair of a memory and a state; the task weighs it by the value of the target cell. The masked
    conditionals are the same, too, so that a linear head for the one is a linear head for the other.

    Raises
    ------
    InvalidInput
        Batches, a task of another size or kind.

    Notes
    -----
    Cost O((m^N·K)²).
    """
    require_pair("flattened_pair", model, task, MemoryHMM)
    memories = configurations(model.n_cells, model.n_memory_values).to(task.device)
    values = memories[:, int(task.target_cell)]
    weights = torch.repeat_interleave(task.weights[:, values], model.n_states, dim=-1)
    return model.flatten(), PosteriorTask(weights)
