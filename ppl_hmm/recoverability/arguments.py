"""Checks of what the functions of recoverability are given."""

from __future__ import annotations

from numbers import Real

from ppl_hmm.base import foreign
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Model
from ppl_hmm.tasks import MemoryTask, PosteriorTask, Task


def require_model(function: str, model: object, model_type: type[HMM] | type[MemoryHMM]) -> None:
    """Raise :class:`InvalidInput` unless the model is a single one of the right type."""
    if not isinstance(model, model_type):
        otherwise = "flatten() a memory model, or use the function for its kind of model"
        raise InvalidInput(
            function,
            f"a single {model_type.__name__}",
            foreign.described(model),
            otherwise if isinstance(model, HMM | MemoryHMM) else foreign.remedy(model, "model", otherwise),
        )
    model.require_single(function)


def require_pair(
    function: str, model: Model, task: Task, model_type: type[HMM] | type[MemoryHMM], *, any_position: bool = False
) -> None:
    """Raise :class:`InvalidInput` unless model and task are single ones of the right types and of the same size.

    Tasks on another state than H₀ are refused, too, unless ``any_position``.
    """
    require_model(function, model, model_type)
    task_type = _task_of(model_type)
    if not isinstance(task, task_type) or task.batch_shape or not task.fits(model):
        got = type(task).__name__
        if isinstance(task, Task):
            got += f" with weights {tuple(task.weights.shape)}"
        if isinstance(task, MemoryTask):
            got += f" of cell {task.target_cell.tolist()}"
        expected = f"one {task_type.__name__} on {task_type.sizes_of(model)}"
        raise InvalidInput("task", expected, got, "use a task of the model's kind and size")
    if task.aligned_to(model) is not task:
        latent = task.latent_dimension
        raise InvalidInput(
            f"names of dimension {latent!r} of the task",
            f"the model's order, {', '.join(map(str, model.names[latent]))}",
            ", ".join(map(str, task.names[latent])),
            "pass task.aligned_to(model)",
        )
    if not any_position and task.place.position is not None:
        raise InvalidInput(
            function, "a task on the silent H₀", f"one on {task.place}", "use position_certificate, or audit"
        )


def _task_of(model_type: type[HMM] | type[MemoryHMM]) -> type[Task]:
    return next(kind for kind in (PosteriorTask, MemoryTask) if kind.model_type is model_type)


def require_thresholds(support_threshold: float, tolerance: float) -> None:
    """Raise :class:`InvalidInput` unless both are non-negative numbers."""
    require_numbers(support_threshold=support_threshold, tolerance=tolerance)


def require_numbers(**values: float) -> None:
    """Raise :class:`InvalidInput` unless all are non-negative numbers."""
    for name, value in values.items():
        if not isinstance(value, Real) or not value >= 0:
            raise InvalidInput(name, "a non-negative number", repr(value), "pass e.g. 0.0")
