"""Random tasks, as in the paper's experiments."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ppl_hmm.base.positions import Given, Place
from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.rows import require_kind
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Model, Text
from ppl_hmm.tasks import MemoryTask, PosteriorTask, latent_posterior, require_uncertain

# The paper's: six standard-normal weights, and at least 5 % of the labels in the smaller class.
_TASK_WEIGHTS = 6
_SMALLEST_CLASS = 0.05
_TASK_ATTEMPTS = 1000


class NoBalancedTask(InvalidInput):
    """No random task divides the text: on nearly every text the posterior is the same."""


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
        The latent has one possible value only, so that its posterior is the same for every text; a position for a
        memory model, or one that a text does not have.
    NoBalancedTask
        No balanced task in 1000 draws.

    See Also
    --------
    ppl_hmm.random_hmm, ppl_hmm.random_memory_hmm : random models
    ppl_hmm.PosteriorTask, ppl_hmm.MemoryTask : tasks that are chosen

    Examples
    --------
    >>> from ppl_hmm import random_hmm, random_task, sample
    >>> model = random_hmm("dirichlet", 3, 4, seed=0)
    >>> task = random_task(model, 0, sample(model, 100, 10, seed=0).tokens)
    >>> tuple(task.weights.shape)
    (2, 3)
    """
    require_kind("model of random_task", model)
    model.require_single("random_task")
    place, stream = Place(position, given), generator(seed, "task")
    task = _draw_task(model, place, stream)
    require_uncertain("random_task", model, task)
    if tokens is None:
        return task
    laws: dict[str, Tensor] = {}  # of each latent that was asked of: the cells of a memory take turns
    for _ in range(_TASK_ATTEMPTS):
        if task.latent not in laws:
            laws[task.latent] = latent_posterior(model, task, tokens)
        positive = task.labels(laws[task.latent]).double().mean().item()
        if min(positive, 1 - positive) >= _SMALLEST_CLASS:
            return task
        task = _draw_task(model, place, stream)
    raise NoBalancedTask(
        f"random_task: {task.latent}, {task.n_values} values",
        f"a task whose smaller class has {_SMALLEST_CLASS:.0%} of the labels",
        f"none in {_TASK_ATTEMPTS} draws",
        "use more states or values, more text, or another seed",
    )


@functools.singledispatch
def _draw_task(model: Any, place: Place, stream: torch.Generator) -> PosteriorTask | MemoryTask:
    raise NotImplementedError(type(model))


@_draw_task.register
def _(model: HMM, place: Place, stream: torch.Generator) -> PosteriorTask:
    return PosteriorTask(_draw_weights(model.n_states, stream), place.position, place.given)


@_draw_task.register
def _(model: MemoryHMM, place: Place, stream: torch.Generator) -> MemoryTask:
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
