"""The labelled text of a cell: each model has its own, drawn from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from ppl_hmm.experiments.engine.grid import Cell, Settings
from ppl_hmm.inference.sampling import sample
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.regimes import random_task
from ppl_hmm.tasks import latent_posterior

Kind = TypeVar("Kind", HMM, MemoryHMM)


@dataclasses.dataclass(frozen=True)
class LabelledText(Generic[Kind]):
    """Models, tasks and labelled text of a cell; P models, each with its own text."""

    models: list[Kind]
    tasks: list[Any]  # PosteriorTask; MemoryTask for models with a memory
    tokens: Tensor  # (P,B,T): training, then validation, then test text
    labels: Tensor  # (P,B)
    decidable: Tensor  # (P,B)
    train: slice
    validation: slice
    test: slice

    @property
    def undecidable(self) -> np.ndarray:
        """Share (P,) of the test texts whose margin is within rounding."""
        return (1 - self.decidable[:, self.test].double().mean(dim=1)).numpy()


def draw(settings: Settings, cell: Cell, random_model: Callable[[int], Kind]) -> LabelledText[Kind]:
    """Return the model of each seed, its text, and a random task on it with the labels of its exact posterior."""
    ends = np.cumsum([settings.n_train, settings.n_validation, settings.n_test]).tolist()
    train, validation, test = slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], ends[2])
    models, tasks, tokens, labels, decidable = [], [], [], [], []
    for seed in cell.seeds:
        model = random_model(seed)
        text = sample(model, ends[-1], settings.length, seed).tokens
        task = random_task(model, seed, text[train])
        law = latent_posterior(model, task, text)
        models.append(model)
        tasks.append(task)
        tokens.append(text)
        labels.append(task.labels(law))
        decidable.append(task.decidable(law, task.tolerance_after(settings.length, model.n_states)))
    stacked = torch.stack(tokens), torch.stack(labels), torch.stack(decidable)
    return LabelledText(models, tasks, *stacked, train, validation, test)
