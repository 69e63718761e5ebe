"""Kinds of models, text and prompts, and what a prompt's rows look like for each kind of model."""

from __future__ import annotations

from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.models.hmm import HMM
from ppl_hmm.models.memory import MemoryHMM

Model = HMM | MemoryHMM
Text = ArrayLike | Tensor
Prompt = object  # SoftPrompt, or rows as an array-like


def prompt_shape(model: Model) -> tuple[int, ...]:
    """Return the shape of a prompt token's row: (K,), or (m,K) with a memory."""
    return (model.n_states,) if isinstance(model, HMM) else (model.n_memory_values, model.n_states)


def by_memory_value(model: Model, rows: Tensor) -> Tensor:
    """Return rows (…,K,R) of an HMM, or (…,m,K,R) of a memory model, as (…,m,R,K); m = 1 for an HMM."""
    return (rows[..., None, :, :] if isinstance(model, HMM) else rows).mT
