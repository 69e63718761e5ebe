"""Models, and texts drawn from them."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from benchmarks.records import Shape
from ppl_hmm import HMM, MemoryHMM, random_hmm, random_memory_hmm, sample


def as_id(value: object) -> str:
    """Return a value as the terminal can show it in the name of a test."""
    return str(value).replace("×", "x")


def chain(shape: Shape, dtype: torch.dtype) -> tuple[HMM, Tensor]:
    """Return a random model and texts from it."""
    model = random_hmm("dirichlet", shape.states, shape.vocabulary, seed=0)
    return model.to(dtype), sample(model, shape.texts, shape.length, seed=0).tokens


def in_pieces(shape: Shape, dtype: torch.dtype) -> tuple[HMM, Tensor]:
    """Return a model and texts; a long one is made of many, as drawing it takes a step a token."""
    pieces = max(1, shape.length // 1000)
    model, text = chain(dataclasses.replace(shape, texts=shape.texts * pieces, length=shape.length // pieces), dtype)
    return model, text.reshape(shape.texts, shape.length)


def with_memory(shape: Shape, dtype: torch.dtype) -> tuple[MemoryHMM, Tensor]:
    """Return a random model with two cells of three values, and texts from it."""
    model = random_memory_hmm("dirichlet", shape.states, 3, shape.vocabulary, seed=0, n_cells=2)
    return model.to(dtype), sample(model, shape.texts, shape.length, seed=0).tokens


def large_chain(shape: Shape, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return float32 arrays as the kernels take them: initial law, transition, likelihood table, ids.

    With thousands of states a model's validation and sampling would take longer than its benchmark. The texts are not
    drawn from the model, which changes no time.
    """
    stream = torch.Generator(device).manual_seed(0)

    def positive(*size):
        return torch.rand(1, *size, generator=stream, device=device).add_(0.01)

    initial, transition = positive(shape.states), positive(shape.states, shape.states)
    initial /= initial.sum()
    transition /= transition.sum(-1, keepdim=True)
    table = positive(shape.vocabulary, shape.states)
    table /= table.sum(1, keepdim=True)
    size = (1, shape.texts, shape.length)
    return initial, transition, table, torch.randint(shape.vocabulary, size, generator=stream, device=device)
