"""The labelled text of a cell: each model has its own, drawn from it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from ppl_hmm.base.randomness import derived_seed
from ppl_hmm.experiments.engine.grid import Cell
from ppl_hmm.experiments.figure3.configurations import Figure3Settings
from ppl_hmm.inference.sampling import sample
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.regimes import random_task
from ppl_hmm.regimes.tasks import NoBalancedTask
from ppl_hmm.tasks import latent_posterior

Kind = TypeVar("Kind", HMM, MemoryHMM)

#: How many models, at most, are drawn in place of one that has no balanced task.
REDRAWS = 10

_log = logging.getLogger("ppl_hmm")


@dataclasses.dataclass(frozen=True)
class LabelledText(Generic[Kind]):
    """Models, tasks and labelled text of a cell; P models, each with its own text."""

    models: list[Kind]
    tasks: list[Any]  # PosteriorTask; MemoryTask for models with a memory
    tokens: Tensor  # (P,B,T): training, then validation, then test text
    labels: Tensor  # (P,B)
    decidable: Tensor  # (P,B)
    redraws: list[int]  # (P,): how many models were drawn before one that has a balanced task
    train: slice
    validation: slice
    test: slice

    @property
    def undecidable(self) -> np.ndarray:
        """Share (P,) of the test texts whose margin is within rounding."""
        return (1 - self.decidable[:, self.test].double().mean(dim=1)).numpy()


def draw(
    settings: Figure3Settings, cell: Cell, random_model: Callable[..., Kind], regime: str, *sizes: int
) -> LabelledText[Kind]:
    """Return the model of each seed, its text, and a random task on it with the labels of its exact posterior.

    The model of a seed is ``random_model(regime, *sizes, seed)``. A model without a balanced task is drawn again with
    its text: redraw r of seed s takes the seed that the stream "redraw r" of s gives, in place of s.

    Raises
    ------
    NoBalancedTask
        None in :data:`REDRAWS` redraws: names the model.
    """
    ends = np.cumsum([settings.n_train, settings.n_validation, settings.n_test]).tolist()
    train, validation, test = slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], ends[2])

    def attempt(seed: int) -> tuple[Kind, Any, Tensor]:
        model = random_model(regime, *sizes, seed)
        text = sample(model, ends[-1], settings.length, seed).tokens
        return model, random_task(model, seed, text[train]), text

    models, tasks, tokens, labels, decidable, redraws = [], [], [], [], [], []
    for seed in cell.seeds:
        n_redraws, (model, task, text) = _with_redraws(attempt, seed, f"regime {regime!r} of sizes {sizes}")
        law = latent_posterior(model, task, text)
        models.append(model)
        tasks.append(task)
        tokens.append(text)
        labels.append(task.labels(law))
        decidable.append(task.decidable(law, task.tolerance_after(settings.length, model.n_states)))
        redraws.append(n_redraws)
    stacked = torch.stack(tokens), torch.stack(labels), torch.stack(decidable)
    return LabelledText(models, tasks, *stacked, redraws, train, validation, test)


def _with_redraws(attempt: Callable[[int], Any], seed: int, what: str) -> tuple[int, Any]:
    """Return how many redraws it took to find a model with a balanced task, and what ``attempt`` gave for it."""
    for redraw in range(1 + REDRAWS):
        try:
            return redraw, attempt(derived_seed(seed, f"redraw {redraw}") if redraw else seed)
        except NoBalancedTask:
            _log.warning("%s, seed %d: no balanced task after %d redraws; drawn again", what, seed, redraw)
    raise NoBalancedTask(
        f"{what}, seed {seed}", "a model with a balanced task", f"none in {REDRAWS} redraws", "use more states or text"
    )
