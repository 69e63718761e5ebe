"""Kinds of models, text and prompts, and all that exact inference needs to know of the kind of a model.

A plain HMM is the memory-augmented one whose single cell can hold one value. Another kind of model registers here.
"""

from __future__ import annotations

import functools

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.models.hmm import HMM
from ppl_hmm.models.memory import MemoryHMM

Model = HMM | MemoryHMM
Text = ArrayLike | Tensor
Prompt = object  # SoftPrompt, or rows as an array-like


@functools.singledispatch
def prompt_shape(model: Model) -> tuple[int, ...]:
    """Return the shape of a prompt token's row: (K,), or (m,K) with a memory."""
    raise NotImplementedError(type(model))


@functools.singledispatch
def by_memory_value(model: Model, rows: Tensor) -> Tensor:
    """Return rows (…,K,R) of an HMM, or (…,m,K,R) of a memory model, as (…,m,R,K); m = 1 for an HMM."""
    raise NotImplementedError(type(model))


@functools.singledispatch
def memory_of(model: Model) -> tuple[Tensor, Tensor]:
    """Return the memory's prior (P…,N,m) and the cell of each state (P…,K)."""
    raise NotImplementedError(type(model))


def n_memories(model: Model) -> int:
    """Return m^N, over how many memories exact inference sums: one for an HMM."""
    prior, _ = memory_of(model)
    return prior.shape[-1] ** prior.shape[-2]


@prompt_shape.register
def _(model: HMM) -> tuple[int, ...]:
    return (model.n_states,)


@by_memory_value.register
def _(model: HMM, rows: Tensor) -> Tensor:  # noqa: ARG001 (one cell, one value)
    return rows[..., None, :, :].mT


@memory_of.register
def _(model: HMM) -> tuple[Tensor, Tensor]:
    one = model.initial.new_ones(*model.batch_shape, 1, 1)
    return one, torch.zeros(*model.batch_shape, model.n_states, dtype=torch.int64, device=model.device)


@prompt_shape.register
def _(model: MemoryHMM) -> tuple[int, ...]:
    return (model.n_memory_values, model.n_states)


@by_memory_value.register
def _(model: MemoryHMM, rows: Tensor) -> Tensor:  # noqa: ARG001 (rows have the axis of values)
    return rows.mT


@memory_of.register
def _(model: MemoryHMM) -> tuple[Tensor, Tensor]:
    return model.memory_prior, model.cell_of_state
