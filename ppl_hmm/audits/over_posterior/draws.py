"""Draws of a fit as models that a question is put to: some of each chain, their states in canonical order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.base import foreign
from ppl_hmm.base.spacing import evenly_spaced
from ppl_hmm.errors import InvalidInput
from ppl_hmm.models import HMM
from ppl_hmm.models.canonical import in_canonical_order
from ppl_hmm.tasks import PosteriorTask, TaskOfModel, on_possible_values, require_uncertain


class Draws(NamedTuple):
    """Draws as models, with where they stand in the fit."""

    models: HMM  # (chain·draw,)
    chains: np.ndarray  # (C,), as the fit numbers them
    draws: np.ndarray  # (D,)


class Asked(NamedTuple):
    """Models that have a task, with it, and which of all draws (chain, draw) they are."""

    models: HMM  # (P,)
    tasks: tuple[PosteriorTask, ...]
    answered: np.ndarray  # bool (C,D)
    refusal: InvalidInput | None  # of the first draw that has no such task


def thinned(fit: xr.DataTree, group: str, n_draws: int) -> Draws:
    """Return about ``n_draws`` draws of a fit's group, evenly spaced in each chain; their states in canonical order.

    Raises
    ------
    InvalidInput
        No tree of :func:`~ppl_hmm.fit_bayes`, or one of models with a memory.
    """
    foreign.require(fit, xr.DataTree, "fit", "the tree of fit_bayes")
    if group not in fit.children or not {*HMM.dimensions} <= {*map(str, fit[group].data_vars)}:
        got = ", ".join(f"/{name}" for name in fit.children) or "no groups"
        raise InvalidInput("fit", f"a group /{group} with draws of {', '.join(HMM.dimensions)}", got, "use fit_bayes")
    dataset = fit[group].to_dataset()
    if schema.MEMORY_VALUE in dataset.sizes:
        expected = "draws of models without a memory, whose task is on H₀ and whose heads read masks"
        got = "draws of memory models, whose task is on a cell and is read by attention, which says no half-range"
        raise InvalidInput("fit", expected, got, "take models one by one: audit(model, task)")
    n_chains, n_all = dataset.sizes[schema.CHAIN], dataset.sizes[schema.DRAW]
    kept = evenly_spaced(n_all, -(-n_draws // n_chains))
    chosen = dataset.isel({schema.DRAW: kept})
    fields = {}
    for name, dimensions in HMM.dimensions.items():
        values = chosen[name].transpose(schema.CHAIN, schema.DRAW, *dimensions).to_numpy()
        fields[name] = values.reshape(-1, *values.shape[2:])
    numbers = {each: chosen[each].to_numpy() for each in (schema.CHAIN, schema.DRAW)}
    return Draws(in_canonical_order(HMM(**fields)), *numbers.values())


def text_length(fit: xr.DataTree) -> int:
    """Return the number of positions T of the text of a fit."""
    if schema.OBSERVED_DATA not in fit.children:
        raise InvalidInput("length", "an integer, for a fit without its text", "None", "pass the length of texts")
    return fit[schema.OBSERVED_DATA].sizes[schema.POSITION]


def asked(draws: Draws, task: TaskOfModel) -> Asked:
    """Return the draws that have a task.

    Raises
    ------
    InvalidInput
        No question, or one that returns no task; none of the draws has it (why the first has not); tasks of different
        kinds.
    """
    if not callable(task):
        remedy = "draws do not share their states: pass a function of a model, e.g. next_token_class([0, 1])"
        raise InvalidInput("task for a fit", "a function from a model to its task", foreign.described(task), remedy)
    found: list[PosteriorTask | None] = []
    refusal = None
    for number in range(draws.models.batch_shape[0]):
        try:
            found.append(_task(draws.models[number], task))
        except InvalidInput as error:
            refusal = refusal or error
            found.append(None)
    answered = np.array([each is not None for each in found])
    if not answered.any():
        assert refusal is not None
        raise type(refusal)(*refusal.args) from refusal
    tasks = tuple(each for each in found if each is not None)
    _require_alike(tasks)
    shape = len(draws.chains), len(draws.draws)
    return Asked(draws.models[torch.from_numpy(answered)], tasks, answered.reshape(shape), refusal)


def _task(model: HMM, task: TaskOfModel) -> PosteriorTask:
    found = task(model)
    foreign.require(found, PosteriorTask, "what the question returns", "a PosteriorTask", wanted="task")
    if found.batch_shape or not found.fits(model):
        got = f"weights {tuple(found.weights.shape)}"
        raise InvalidInput("task of a draw", f"weights (C, {model.n_states})", got, "make it from the model")
    require_uncertain("task of a draw", model, found)
    return on_possible_values(model, found.detach().to(model.dtype))


def _require_alike(tasks: Sequence[PosteriorTask]) -> None:
    kinds = {(task.place, task.n_classes) for task in tasks}
    if len(kinds) > 1:
        got = "; ".join(f"{place}, {n_classes} classes" for place, n_classes in sorted(kinds, key=str))
        raise InvalidInput("tasks of the draws", "the same latent and classes", got, "ask one question of all draws")


