"""What one cell of ``head-vs-prompt`` computes: Figure 3 (left) of Wei, Xie & Ma (2021) for one size, some seeds."""

from __future__ import annotations

import dataclasses
import time
from typing import Literal, cast

import numpy as np
import torch
import xarray as xr
from threadpoolctl import threadpool_limits
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.experiments.grid import Cell, Settings
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.inference import posterior
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.parameters import HMM, SoftPrompt
from ppl_hmm.prompts import fit_prompt
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.recoverability.witness import separability
from ppl_hmm.regimes import random_hmm, random_task
from ppl_hmm.sampling import sample
from ppl_hmm.tasks import PosteriorTask

METHODS = (schema.HEAD, schema.HEAD_LOG, schema.PROMPT)


def compute_cell(settings: Settings, cell: Cell) -> xr.Dataset:
    """Return accuracy, separability, condition and undecidable share of each method, for one cell.

    The same settings and cell give the same numbers in every process: the number of threads is a setting.
    """
    started = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with threadpool_limits(settings.threads):
            results = _results(settings, cell)
    finally:
        torch.set_num_threads(threads)
    seconds = time.perf_counter() - started
    shape = (1, len(cell.seeds))
    results[schema.SECONDS] = (
        (schema.N_STATES, schema.SEED),
        np.full(shape, seconds),
        {"units": "s", "long_name": "wall time of the cell that the seed belongs to"},
    )
    return results


@dataclasses.dataclass(frozen=True)
class _Data:
    """Models, tasks and labelled text of a cell; P models, each with its own text."""

    models: HMM
    tasks: list[PosteriorTask]
    tokens: Tensor  # (P,B,T): training, then validation, then test text
    labels: Tensor  # (P,B)
    decidable: Tensor  # (P,B)
    train: slice
    validation: slice
    test: slice


def _draw(settings: Settings, cell: Cell) -> _Data:
    models = HMM.stack([random_hmm("wei2021", cell.n_states, settings.vocabulary_size, seed) for seed in cell.seeds])
    ends = np.cumsum([settings.n_train, settings.n_validation, settings.n_test]).tolist()
    train, validation, test = slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], ends[2])
    tokens, tasks, labels, decidable = [], [], [], []
    for p, seed in enumerate(cell.seeds):
        text = sample(models[p], ends[-1], settings.length, seed).tokens
        initial = posterior(models[p], text).initial
        task = random_task(models[p], seed, text[train])
        tokens.append(text)
        tasks.append(task)
        labels.append(task.labels(initial))
        decidable.append(task.decidable(initial))
    stacked = torch.stack(tokens), torch.stack(labels), torch.stack(decidable)
    return _Data(models, tasks, *stacked, train, validation, test)


def _results(settings: Settings, cell: Cell) -> xr.Dataset:
    data = _draw(settings, cell)
    lm = OracleLM(data.models)
    n_models = len(cell.seeds)
    fit = fit_prompt(
        lm,
        data.tokens[:, data.train],
        data.labels[:, data.train],
        validation=(data.tokens[:, data.validation], data.labels[:, data.validation]),
        prompt_length=settings.prompt_length,
        restarts=settings.restarts,
        seed=cell.seeds,
    )
    plain, prompted = _features(lm, data, None), _features(lm, data, fit.prompt)
    heads = {
        schema.HEAD: (plain, _select_heads(plain, data, "probability")),
        schema.HEAD_LOG: (plain, _select_heads(plain, data, "log")),
        schema.PROMPT: (prompted, cast(list[LinearHead], fit.head)),
    }
    labels, decidable = data.labels.numpy(), data.decidable.numpy()
    accuracy = [
        [head[p].score(features[p, data.test], labels[p, data.test]) for p in range(n_models)]
        for features, head in heads.values()
    ]
    separable = np.full((len(METHODS), n_models), schema.NOT_ASKED, dtype=np.int8)
    condition = separable.copy()
    for p in range(n_models):
        kept = decidable[p, data.train]
        for method, features in ((schema.HEAD, plain), (schema.PROMPT, prompted)):
            answer = separability(features[p, data.train][kept], labels[p, data.train][kept])
            separable[METHODS.index(method), p] = answer.separable
        condition[METHODS.index(schema.HEAD), p] = head_certificate(data.models[p], data.tasks[p]).recoverable
    by_method = (schema.METHOD, schema.N_STATES, schema.SEED)
    return xr.Dataset(
        {
            schema.ACCURACY: (by_method, np.array(accuracy)[:, None], {"units": "1"}),
            schema.SEPARABLE: (by_method, separable[:, None], schema.FLAGS),
            schema.CONDITION: (by_method, condition[:, None], schema.FLAGS),
            schema.UNDECIDABLE: (by_method[1:], 1 - decidable[:, data.test].mean(axis=1)[None], {"units": "1"}),
        },
        coords={schema.METHOD: list(METHODS), schema.N_STATES: [cell.n_states], schema.SEED: list(cell.seeds)},
    )


def _features(lm: OracleLM, data: _Data, prompt: SoftPrompt | None) -> np.ndarray:
    return probe_features(lm, data.tokens, prompt=prompt, impossible="mask").numpy()


def _select_heads(conditionals: np.ndarray, data: _Data, features: Literal["probability", "log"]) -> list[LinearHead]:
    labels = data.labels.numpy()
    return [
        LinearHead.select(
            conditionals[p, data.train],
            labels[p, data.train],
            conditionals[p, data.validation],
            labels[p, data.validation],
            features=features,
        )
        for p in range(len(conditionals))
    ]
