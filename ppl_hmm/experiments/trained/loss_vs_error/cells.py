"""What the experiment computes for one model, its networks along training, and its tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.randomness import CPU, generator
from ppl_hmm.experiments.engine.grid import Cell
from ppl_hmm.experiments.trained.loss_vs_error.bounds import natural, natural_of_layer, transferred
from ppl_hmm.experiments.trained.loss_vs_error.configuration import LossVsError
from ppl_hmm.experiments.trained.loss_vs_error.heads import head_error
from ppl_hmm.experiments.trained.loss_vs_error.last_layer import Measured
from ppl_hmm.experiments.trained.loss_vs_error.questions import Asked, Question
from ppl_hmm.language_models.causal_gru import CausalGRU
from ppl_hmm.language_models.causal_oracle import CausalOracleLM
from ppl_hmm.language_models.corpora import Corpus
from ppl_hmm.language_models.objectives import Objective
from ppl_hmm.language_models.run import Plan, Run
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.natural import natural_head
from ppl_hmm.recoverability.transfer import divergence
from ppl_hmm.regimes import random_hmm

#: Sizes ‖v‖_∞ at which τ of the exact laws is shown.
SIZES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


def compute(settings: LossVsError, cell: Cell) -> xr.Dataset:
    """Return the columns of models of one size and networks of one objective."""
    return _along(schema.SEED, list(cell.seeds), [_of_seed(settings, cell, seed) for seed in cell.seeds])


def _along(dimension: str, labels: list, datasets: list[xr.Dataset]) -> xr.Dataset:
    return xr.concat(datasets, xr.DataArray(labels, dims=dimension, name=dimension))


def _of_seed(settings: LossVsError, cell: Cell, seed: int) -> xr.Dataset:
    options = {"concentration": settings.concentration}
    model = random_hmm("dirichlet", cell[schema.N_STATES], settings.vocabulary_size, seed, **options)
    asked = Asked.draw(model, settings, seed)
    exact = CausalOracleLM(model).next_token_laws(asked.text[asked.parts.test])
    projection = _projection(settings, seed)
    at_steps = [
        _of_network(asked, lm, projection).merge(_losses(asked, exact, lm))
        for lm in networks(settings, model, cell[schema.OBJECTIVE], seed)
    ]
    found = _along(schema.STEP, list(settings.checkpoints), at_steps)
    return found.merge(_of_questions(asked, lambda question: _of_exact_laws(asked, question)))


def networks(settings: LossVsError, model: HMM, objective: str, seed: int) -> Iterator[CausalGRU]:
    """Yield the network at each checkpoint of its training."""
    length = settings.length + 2  # a template, and the word that is read after it
    plan = Plan(Objective(objective), settings.steps, settings.batch_size, length, settings.learning_rate, seed)
    lm = CausalGRU(settings.vocabulary_size, settings.width, seed=seed)
    run = Run(lm, Corpus.of(model, settings.vocabulary_size, plan.batch_size, length, seed), plan)
    for step in settings.checkpoints:
        while run.step < step:
            run.advance()
        yield cast(CausalGRU, run.lm)


def _projection(settings: LossVsError, seed: int) -> np.ndarray:
    """Return a random projection (d,V) with orthonormal rows."""
    shape = settings.vocabulary_size, settings.width
    normal = torch.randn(shape, generator=generator(seed, "projection"), dtype=torch.float64, device=CPU)
    return torch.linalg.qr(normal).Q.mT.numpy()


def _of_questions(asked: Asked, columns: Callable[[Question], xr.Dataset]) -> xr.Dataset:
    """Return the columns of all questions, over tasks and templates."""
    found = {(each.task, each.template): columns(each) for each in asked.questions}
    tasks, templates = (list(dict.fromkeys(names)) for names in zip(*found, strict=True))
    by_task = [_along(schema.TEMPLATE, templates, [found[task, template] for template in templates]) for task in tasks]
    return _along(schema.TASK, tasks, by_task)


def _of_exact_laws(asked: Asked, question: Question) -> xr.Dataset:
    """Return the errors of a head on the exact laws and of a guess, and the τ of the laws by size."""
    (train, _, test), labels, laws = asked.parts, question.labels, question.exact
    losses = [natural_head(laws[test], labels[test], largest=size).loss for size in SIZES]
    share = labels[test].mean()
    return xr.Dataset(
        {
            schema.EXACT_ERROR: head_error(laws[train], labels[train], laws[test], labels[test]),
            schema.GUESS_ERROR: min(share, 1 - share),
            schema.EXACT_TAU: (schema.SIZE, losses),
        },
        {schema.SIZE: list(SIZES)},
    )


def _losses(asked: Asked, exact: Tensor, lm: CausalGRU) -> xr.Dataset:
    """Return the excess loss over all prefixes of test texts: expected, and of the tokens themselves with its error."""
    text = asked.text[asked.parts.test]
    laws = lm.next_token_laws(text).double()
    own, best = (each[:, :-1].gather(-1, text[..., None]).log()[..., 0] for each in (laws, exact))
    sampled = (best - own).mean(-1)
    return xr.Dataset(
        {
            schema.EXCESS: divergence(exact.flatten(0, 1), laws.flatten(0, 1)).mean().item(),
            schema.EXCESS_SAMPLED: sampled.mean().item(),
            schema.EXCESS_SAMPLED_ERROR: sampled.std().item() / len(sampled) ** 0.5,
        }
    )


def _of_network(asked: Asked, lm: CausalGRU, projection: np.ndarray) -> xr.Dataset:
    """Return what a network's laws are off where heads read, and what heads do on it."""
    test = asked.parts.test
    measured = {
        name: Measured.of(lm, asked.text, each.tokens, torch.from_numpy(each.exact), test)
        for name, each in {question.template: question for question in asked.questions}.items()
    }
    found = _of_questions(asked, lambda each: _of_heads(asked, each, measured[each.template], projection))
    return found.assign(
        {
            schema.EXCESS_AT_READ_POSITION: (schema.TEMPLATE, [each.excess[test].mean() for each in measured.values()]),
            schema.EXCESS_FOR_LAYER: (schema.TEMPLATE, [each.excess_for_layer for each in measured.values()]),
        }
    )


def _of_heads(asked: Asked, question: Question, measured: Measured, projection: np.ndarray) -> xr.Dataset:
    """Return the errors of heads on what a network has, and the bounds."""
    (train, _, test), labels = asked.parts, question.labels
    read = measured.features, measured.means, measured.laws, measured.laws @ projection.T
    errors = [head_error(each[train], labels[train], each[test], labels[test]) for each in read]
    heads = np.transpose([bound(question, measured, asked.parts) for bound in (natural, natural_of_layer)])
    return xr.Dataset(
        {
            schema.ERROR: (schema.FEATURES, errors),
            **{name: (schema.HEADS_OF, column) for name, column in zip(schema.NATURAL, heads, strict=True)},
            **transferred(question, measured, asked.parts),
        },
        {schema.FEATURES: list(schema.READ), schema.HEADS_OF: [schema.ANY_HEAD, schema.HEAD_OF_LAYER]},
    )
