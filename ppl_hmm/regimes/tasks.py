"""Random tasks, as in the paper's experiments."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_hmm.base.positions import Given, Place
from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.queries import memory_posterior
from ppl_hmm.inference.rows import require_kind
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Model, Text
from ppl_hmm.tasks import MemoryTask, PosteriorTask, latent_posterior, require_uncertain

# The paper's: six standard-normal weights, and at least 5 % of the labels in the smaller class.
_TASK_WEIGHTS = 6
_SMALLEST_CLASS = 0.05
_TASK_ATTEMPTS = 1000


def random_task(
    model: Model,
    seed: Seed,
    tokens: Text | None = None,
    *,
    position: int | None = None,
    given: Given = "text",
) -> PosteriorTask | MemoryTask:
    """Return a random binary task on a state of the model, or on one cell of its memory.

    As in Wei, Xie & Ma (2021), §5: the weights, 2×K or 2×m, are zero but for six standard normal entries at indices
    drawn with replacement. The cell is drawn uniformly from those that have more than one possible value. With
    ``tokens`` the task is redrawn until the smaller class has at least 5 % of their labels.

    Parameters
    ----------
    model, seed
        One model; the seed of the weights.
    tokens
        Text (B,T) that the task must divide.
    position, given
        As of :class:`~ppl_hmm.PosteriorTask`: by default the task is on the initial state.

    Raises
    ------
    InvalidInput
        The latent has one possible value only, so that its posterior is the same for every text; no balanced task in
        1000 draws; a position for a memory model, or one that a text does not have.
    """
    require_kind("model of random_task", model)
    model.require_single("random_task")
    place, stream = Place(position, given), generator(seed, "task")
    task = _draw_task(model, place, stream)
    require_uncertain("random_task", model, task)
    if tokens is None:
        return task
    law = latent_posterior(model, task, tokens) if isinstance(model, HMM) else memory_posterior(model, tokens)
    for _ in range(_TASK_ATTEMPTS):
        labels = task.labels(law[:, task.target_cell] if isinstance(task, MemoryTask) else law)
        positive = labels.double().mean().item()
        if min(positive, 1 - positive) >= _SMALLEST_CLASS:
            return task
        task = _draw_task(model, place, stream)
    size = f"{model.n_states} states" if isinstance(model, HMM) else f"{model.n_memory_values} memory values"
    raise InvalidInput(
        f"random_task with {size}",
        f"a task whose smaller class has {_SMALLEST_CLASS:.0%} of the labels",
        f"none in {_TASK_ATTEMPTS} draws",
        "use more states or values, more text, or another seed",
    )


def _draw_task(model: Model, place: Place, stream: torch.Generator) -> PosteriorTask | MemoryTask:
    if isinstance(model, HMM):
        return PosteriorTask(_draw_weights(model.n_states, stream), place.position, place.given)
    if place.position is not None:
        raise InvalidInput(
            "random_task on a position", "an HMM", type(model).__name__, "leave position out: the task is on a cell"
        )
    weights = _draw_weights(model.n_memory_values, stream)
    uncertain = ((model.memory_prior > 0).sum(-1) > 1).nonzero()[:, 0].cpu()
    cells = uncertain if len(uncertain) else torch.arange(model.n_cells, device=CPU)
    return MemoryTask(weights, cells[torch.randint(len(cells), (), generator=stream, device=CPU)])


def _draw_weights(n_values: int, stream: torch.Generator) -> Tensor:
    weights = torch.zeros(2, n_values, dtype=torch.float64, device=CPU)
    classes = torch.randint(2, (_TASK_WEIGHTS,), generator=stream, device=CPU)
    values = torch.randint(n_values, (_TASK_WEIGHTS,), generator=stream, device=CPU)
    drawn = torch.randn(_TASK_WEIGHTS, generator=stream, dtype=torch.float64, device=CPU)
    for index in zip(classes, values, drawn, strict=True):
        weights[index[0], index[1]] = index[2]  # a later draw of the same entry replaces it
    return weights
