"""The latent that a task asks of: its law before and after text, and the values that it can have."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.base import foreign
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.tasks.base import Task

TaskT = TypeVar("TaskT", bound=Task)


def require_task(task: object) -> None:
    """Raise :class:`InvalidInput`, naming what to pass, unless this is a task of ours."""
    foreign.require(task, Task, "task", "a PosteriorTask or MemoryTask", wanted="task")


def latent_prior(model: HMM | MemoryHMM, task: Task, tokens: ArrayLike | Tensor | None = None) -> Tensor:
    """Return the law (n,) of what the task asks of, before any text: π₀, π₀A^{t+1}, or P(M_{j*}) of its cell.

    Where the position is counted from the end, the law (B,n) depends on the length of each text in ``tokens`` (B,T).
    """
    return task.prior(model, tokens)


def latent_posterior(
    model: HMM | MemoryHMM, task: Task, tokens: ArrayLike | Tensor, *, lengths: ArrayLike | Tensor | None = None
) -> Tensor:
    """Return what the task asks of text (B,T): P(H₀|x), P(H_t|·), or P(M_{j*}|x) of its cell, (B,n).

    For one model and one task of the same kind; errors and cost as :func:`~ppl_hmm.posterior` and
    :func:`~ppl_hmm.memory_posterior`.

    Raises
    ------
    InvalidInput, ImpossibleText
        As those functions; a text that has no such position.

    See Also
    --------
    PosteriorTask.labels : The label of each text, from what this returns.
    posterior : The laws of all states at once.

    Examples
    --------
    >>> from ppl_hmm import HMM, PosteriorTask, latent_posterior
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.1, 0.9]])
    >>> latent_posterior(model, PosteriorTask([[1, 0], [0, 1]]), [[0, 0], [1, 1]]).numpy().round(3).tolist()
    [[0.798, 0.202], [0.134, 0.866]]
    """
    require_task(task)
    return task.posterior(model, tokens, lengths)


def require_uncertain(function: str, model: HMM | MemoryHMM, task: Task) -> None:
    """Raise :class:`InvalidInput` where the latent has one possible value: its posterior is then constant."""
    values = task.possible(model).nonzero()[:, 0].tolist()
    if len(values) > 1:
        return
    raise InvalidInput(
        f"{function}: {task.latent}",
        f"more than one possible {task.value}",
        f"{task.value} {values[0]} only, so that its posterior is the same for every text",
        task.if_certain,
    )


def on_possible_values(model: HMM | MemoryHMM, task: TaskT) -> TaskT:
    """Return the task with zero weights on values that the latent cannot have.

    Their posterior is zero, so that margins stay the same; ‖μ‖_∞, and all that is relative to it, is that of margins.
    """
    possible = task.possible(model).to(task.device)
    if possible.all():
        return task
    return dataclasses.replace(task, weights=task.weights.where(possible, 0.0))
