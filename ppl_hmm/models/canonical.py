"""Models with their states in an order that does not depend on how they were numbered."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.exact.canonical import canonical_order
from ppl_hmm.models.hmm import HMM
from ppl_hmm.models.kinds import Model
from ppl_hmm.models.memory import MemoryHMM

ModelT = TypeVar("ModelT", HMM, MemoryHMM)


def state_order(model: Model) -> Tensor:
    """Return the canonical order (P…,K) of the states of each model of a batch.

    States are ordered by their row of W, then by π₀, then by their moves:
    :func:`ppl_hmm.exact.canonical.canonical_order`.
    """
    features = torch.cat([_emissions(model), model.initial[..., None]], -1)
    rows = features.detach().double().cpu().numpy().reshape(-1, *features.shape[-2:]) + 0.0  # −0 is 0
    moves = model.transition.detach().double().cpu().numpy().reshape(-1, *model.transition.shape[-2:]) + 0.0
    orders = [canonical_order(own, to) for own, to in zip(rows, moves, strict=True)]
    return torch.from_numpy(np.array(orders)).to(model.device).reshape(model.initial.shape)


def in_canonical_order(model: ModelT) -> ModelT:
    """Return a model, or a batch, with the states of each in their canonical order: the same law of text.

    Permuting the states of a model beforehand changes no bit of the result. Names of states are dropped in a batch,
    where they would differ from model to model.
    """
    order = state_order(model)
    fields: dict[str, Tensor] = {}
    for name, dimensions in model.dimensions.items():
        fields[name] = getattr(model, name)
        for axis, dimension in enumerate(dimensions, start=-len(dimensions)):
            if dimension in (schema.STATE, schema.STATE_NEXT):
                fields[name] = _taken(fields[name], order, axis)
    names = {each: own for each, own in model.names.items() if each != schema.STATE}
    if not model.batch_shape and schema.STATE in model.names:
        names[schema.STATE] = tuple(model.names[schema.STATE][state] for state in order.tolist())
    return type(model)(**fields, names=names)


def _taken(values: Tensor, order: Tensor, axis: int) -> Tensor:
    """Return values (P…,…) with entries of one axis in the order (P…,K) of each model."""
    moved = values.movedim(axis, order.ndim - 1)
    index = order.reshape(*order.shape, *(1,) * (moved.ndim - order.ndim)).expand_as(moved)
    return moved.gather(order.ndim - 1, index).movedim(order.ndim - 1, axis)


@functools.singledispatch
def _emissions(model: Any) -> Tensor:
    """Return what each state emits, and what decides it, as rows (P…,K,n)."""
    raise NotImplementedError(type(model))


@_emissions.register
def _(model: HMM) -> Tensor:
    return model.emission


@_emissions.register
def _(model: MemoryHMM) -> Tensor:
    emission = model.emission.movedim(-2, -3).flatten(-2)
    return torch.cat([emission, model.cell_of_state[..., None].to(emission)], -1)
