"""Small models and tasks with a point, those of the tutorials."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU
from ppl_hmm.errors import one_of
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Model
from ppl_hmm.tasks import MemoryTask, PosteriorTask, Task


def example(name: str) -> tuple[Model, Task]:
    """Return a model and a task by name.

    ``'aliased'``: topics sport, music and food, the first two with the same words; is sport likelier than food? No head
    recovers it, a prompt does. ``'degenerate'``: four states whose rows of W have rank two, with moves between all
    of them: no head recovers the task, and no prompt is found.
    ``'memory'``: reviews that remember whether they are good or bad, told by some of their words.

    Raises
    ------
    InvalidInput
        No such example (with the list).

    See Also
    --------
    random_hmm : A random model.
    audit : Every question asked of a model and a task.

    Examples
    --------
    >>> from ppl_hmm import example
    >>> model, task = example("aliased")
    >>> model.n_states, task.n_classes
    (3, 2)
    """
    one_of("example", name, EXAMPLES)
    return EXAMPLES[name]()


def _array(rows: list) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64, device=CPU)


def _aliased() -> tuple[HMM, PosteriorTask]:
    model = HMM(
        initial=_array([1 / 3, 1 / 3, 1 / 3]),
        transition=_array([[0.3, 0.0, 0.7], [0.0, 0.9, 0.1], [0.2, 0.6, 0.2]]),
        emission=_array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6]]),
    )
    return model, PosteriorTask(_array([[0, 0, 1], [1, 0, 0]]))


def _degenerate() -> tuple[HMM, PosteriorTask]:
    model = HMM(
        initial=_array([0.25, 0.25, 0.25, 0.25]),
        transition=_array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.5, 0.3], [0.2, 0.1, 0.2, 0.5]]),
        emission=_array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.59, 0.1, 0.31], [0.31, 0.1, 0.59]]),
    )
    return model, PosteriorTask(_array([[0, 0, 1, 0], [1, 0, 0, 0]]))


def _memory() -> tuple[MemoryHMM, MemoryTask]:
    filler = [0.4, 0.4, 0.2, 0.0, 0.0]
    good, bad = [0.0, 0.0, 0.4, 0.4, 0.2], [0.0, 0.0, 0.4, 0.2, 0.4]
    model = MemoryHMM(
        memory_prior=_array([[0.5, 0.5]]),
        initial=_array([0.7, 0.3]),
        transition=_array([[0.7, 0.3], [0.6, 0.4]]),
        cell_of_state=torch.tensor([0, 0], device=CPU),
        emission=_array([[filler, good], [filler, bad]]),
    )
    return model, MemoryTask(_array([[0, 1], [1, 0]]), torch.tensor(0, device=CPU))


EXAMPLES: dict[str, Callable[[], tuple[Model, Task]]] = {
    "aliased": _aliased,
    "degenerate": _degenerate,
    "memory": _memory,
}
