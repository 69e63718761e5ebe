"""What one cell of ``head-vs-prompt`` computes: Figure 3 (left) of Wei, Xie & Ma (2021) for one size, some seeds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.experiments.grid import Cell, Settings
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.inference import initial_posterior
from ppl_hmm.language_models.oracle import OracleLM, OracleText
from ppl_hmm.language_models.probe import probe_input
from ppl_hmm.parameters import HMM, SoftPrompt
from ppl_hmm.prompts import fit_prompt
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.recoverability.prompt import prompt_certificate
from ppl_hmm.recoverability.witness import separability
from ppl_hmm.regimes import random_hmm, random_task
from ppl_hmm.sampling import sample
from ppl_hmm.tasks import PosteriorTask


def compute_cell(settings: Settings, cell: Cell) -> xr.Dataset:
    """Return accuracy, separability and condition of each method, and the undecidable share, for one cell.

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
        initial = initial_posterior(models[p], text)
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
    encoded = lm.encode(probe_input(lm, data.tokens))
    answers = [*_head_answers(data, encoded), _prompt_answer(settings, cell, data, lm, encoded)]
    for method, threshold in (
        (schema.PROMPT_THEOREM, 0.0),
        (schema.PROMPT_THEOREM_THRESHOLD, settings.support_threshold),
    ):
        answers.append(_theorem_answer(method, threshold, data, encoded))
    by_method = (schema.METHOD, schema.N_STATES, schema.SEED)
    undecidable = 1 - data.decidable[:, data.test].double().mean(dim=1)
    return xr.Dataset(
        {
            schema.ACCURACY: (by_method, _stack(answer.accuracy for answer in answers), {"units": "1"}),
            schema.SEPARABLE: (by_method, _stack(answer.separable for answer in answers), schema.FLAGS),
            schema.CONDITION: (by_method, _stack(answer.condition for answer in answers), schema.FLAGS),
            schema.UNDECIDABLE: (by_method[1:], undecidable.numpy()[None], {"units": "1"}),
        },
        coords={
            schema.METHOD: [answer.method for answer in answers],
            schema.N_STATES: [cell.n_states],
            schema.SEED: list(cell.seeds),
        },
    )


class _Answer(NamedTuple):
    """What one method reaches on each of the P models of a cell."""

    method: str
    accuracy: np.ndarray  # on test text; NaN where the method has nothing to offer
    separable: np.ndarray  # does some linear head separate the decidable training text?
    condition: np.ndarray  # does the theorem's condition hold?


def _head_answers(data: _Data, encoded: OracleText) -> Iterator[_Answer]:
    """Yield the answers of learned heads without a prompt."""
    features = _features(encoded, None)
    condition = [head_certificate(data.models[p], task).recoverable for p, task in enumerate(data.tasks)]
    heads = _select_heads(features, data, "probability")
    yield _Answer(schema.HEAD, _accuracy(heads, features, data), _separable(features, data), _yes_or_no(condition))
    heads = _select_heads(features, data, "log")
    yield _Answer(schema.HEAD_LOG, _accuracy(heads, features, data), _not_asked(data), _not_asked(data))


def _prompt_answer(settings: Settings, cell: Cell, data: _Data, lm: OracleLM, encoded: OracleText) -> _Answer:
    """Return the answer of the learned prompt with its head."""
    fit = fit_prompt(
        lm,
        data.tokens[:, data.train],
        data.labels[:, data.train],
        validation=(data.tokens[:, data.validation], data.labels[:, data.validation]),
        prompt_length=settings.prompt_length,
        restarts=settings.restarts,
        seed=cell.seeds,
    )
    features = _features(encoded, fit.prompt)
    heads = cast(list[LinearHead], fit.head)
    return _Answer(schema.PROMPT, _accuracy(heads, features, data), _separable(features, data), _not_asked(data))


def _theorem_answer(method: str, support_threshold: float, data: _Data, encoded: OracleText) -> _Answer:
    """Return the answer of the prompts and heads that Theorem P constructs; no accuracy where its condition fails."""
    certificates = [
        prompt_certificate(data.models[p], task, support_threshold=support_threshold)
        for p, task in enumerate(data.tasks)
    ]
    features = _features(encoded, SoftPrompt.stack([cast(SoftPrompt, found.prompt) for found in certificates]))
    heads = [LinearHead.from_weights(found.weights.numpy()) for found in certificates]
    holds = np.array([found.recoverable for found in certificates])
    accuracy = np.where(holds, _accuracy(heads, features, data), np.nan)
    return _Answer(method, accuracy, _not_asked(data), _yes_or_no(holds))


def _features(encoded: OracleText, prompt: SoftPrompt | None) -> np.ndarray:
    """Return G (P,B,V) at the mask in front of the text; zeros where the prompt leaves no state possible."""
    return encoded.conditionals(None if prompt is None else prompt.rows, positions=[0])[..., 0, :].numpy()


def _select_heads(features: np.ndarray, data: _Data, scale: Literal["probability", "log"]) -> list[LinearHead]:
    labels = data.labels.numpy()
    train, held_out = data.train, data.validation
    return [
        LinearHead.select(own[train], y[train], own[held_out], y[held_out], features=scale)
        for own, y in zip(features, labels, strict=True)
    ]


def _accuracy(heads: list[LinearHead], features: np.ndarray, data: _Data) -> np.ndarray:
    labels = data.labels.numpy()
    return np.array(
        [head.score(own[data.test], y[data.test]) for head, own, y in zip(heads, features, labels, strict=True)]
    )


def _separable(features: np.ndarray, data: _Data) -> np.ndarray:
    answers = _not_asked(data)
    for p in range(len(features)):
        kept = data.decidable[p, data.train].numpy()
        if kept.any():
            labels = data.labels[p, data.train].numpy()
            answers[p] = separability(features[p, data.train][kept], labels[kept]).separable
    return answers


def _yes_or_no(answers: ArrayLike) -> np.ndarray:
    return np.where(answers, schema.YES, schema.NO).astype(np.int8)


def _not_asked(data: _Data) -> np.ndarray:
    return np.full(len(data.tasks), schema.NOT_ASKED, dtype=np.int8)


def _stack(rows: Iterable[np.ndarray]) -> np.ndarray:
    """Return (method, n_states, seed) for one number of states."""
    return np.array(list(rows))[:, None]
