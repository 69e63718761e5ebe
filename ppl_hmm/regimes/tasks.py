"""Random tasks, as in the paper's experiments."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference import initial_posterior, memory_posterior
from ppl_hmm.parameters import HMM
from ppl_hmm.randomness import CPU, Seed, generator
from ppl_hmm.rows import Model, Text, require_kind
from ppl_hmm.tasks import MemoryTask, PosteriorTask

# The paper's: six standard-normal weights, and at least 5 % of the labels in the smaller class.
_TASK_WEIGHTS = 6
_SMALLEST_CLASS = 0.05
_TASK_ATTEMPTS = 1000


def random_task(model: Model, seed: Seed, tokens: Text | None = None) -> PosteriorTask | MemoryTask:
    """Return a random binary task on the model's initial state, or on one cell of its memory.

    As in Wei, Xie & Ma (2021), §5: the weights, 2×K or 2×m, are zero but for six standard normal entries at indices
    drawn with replacement. The cell is drawn uniformly. With ``tokens`` the task is redrawn until the smaller class has
    at least 5 % of their labels.

    Raises
    ------
    InvalidInput
        No balanced task in 1000 draws (always so for K = 1, or m = 1: the posterior is constant).
    """
    require_kind("model of random_task", model)
    model.require_single("random_task")
    stream = generator(seed, "task")
    if tokens is None:
        return _draw_task(model, stream)
    law = initial_posterior(model, tokens) if isinstance(model, HMM) else memory_posterior(model, tokens)
    for _ in range(_TASK_ATTEMPTS):
        task = _draw_task(model, stream)
        labels = task.labels(law[:, task.target_cell] if isinstance(task, MemoryTask) else law)
        positive = labels.double().mean().item()
        if min(positive, 1 - positive) >= _SMALLEST_CLASS:
            return task
    size = f"{model.n_states} states" if isinstance(model, HMM) else f"{model.n_memory_values} memory values"
    raise InvalidInput(
        f"random_task with {size}",
        f"a task whose smaller class has {_SMALLEST_CLASS:.0%} of the labels",
        f"none in {_TASK_ATTEMPTS} draws",
        "use more states or values, more text, or another seed",
    )


def _draw_task(model: Model, stream: torch.Generator) -> PosteriorTask | MemoryTask:
    if isinstance(model, HMM):
        return PosteriorTask(_draw_weights(model.n_states, stream))
    weights = _draw_weights(model.n_memory_values, stream)
    return MemoryTask(weights, torch.randint(model.n_cells, (), generator=stream, device=CPU))


def _draw_weights(n_values: int, stream: torch.Generator) -> Tensor:
    weights = torch.zeros(2, n_values, dtype=torch.float64, device=CPU)
    classes = torch.randint(2, (_TASK_WEIGHTS,), generator=stream, device=CPU)
    values = torch.randint(n_values, (_TASK_WEIGHTS,), generator=stream, device=CPU)
    drawn = torch.randn(_TASK_WEIGHTS, generator=stream, dtype=torch.float64, device=CPU)
    for index in zip(classes, values, drawn, strict=True):
        weights[index[0], index[1]] = index[2]  # a later draw of the same entry replaces it
    return weights
