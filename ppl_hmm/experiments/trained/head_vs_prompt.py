"""Head tuning against prompt tuning with a trained language model beside the exact one, on the same texts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput
from ppl_hmm.experiments.engine.grid import Cell
from ppl_hmm.experiments.engine.runner import Progress
from ppl_hmm.experiments.figure3.answers import Answer, columns
from ppl_hmm.experiments.figure3.reproduction import reproduce
from ppl_hmm.experiments.figure3.text import draw
from ppl_hmm.experiments.trained.configurations import HeadVsPromptTrained, LanguageModelKind
from ppl_hmm.experiments.trained.tuning import distance, head_tuned, prompt_tuned
from ppl_hmm.language_models.bidirectional import BidirectionalLM
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.training import Training, train
from ppl_hmm.language_models.transformer import TransformerLM
from ppl_hmm.models import HMM
from ppl_hmm.regimes import random_hmm

_UNITS = {
    schema.TOTAL_VARIATION: {"units": "1", "long_name": "of the trained law at the mask, mean over test texts"},
    schema.EXCESS: {"units": "nat", "long_name": "held-out loss over the best, mean over all tokens"},
    schema.EXCESS_AT_READ_POSITION: {"units": "nat", "long_name": "held-out loss over the best, at the mask"},
}


def head_vs_prompt_trained(
    states: Sequence[int],
    seeds: int,
    out: str | Path,
    *,
    workers: int = 2,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **sizes: Any,
) -> xr.DataTree:
    """Compute heads and prompts on trained language models beside exact ones, or continue it.

    At each number of hidden states and each seed: a random ``wei2021`` model and task, a language model trained on it,
    and on the same labelled texts a linear head and a learned prompt with its head, for the exact and the trained
    conditionals.

    Parameters
    ----------
    states, seeds, out, workers, executor, progress
        As of :func:`ppl_hmm.head_vs_prompt`.
    sizes
        Other fields of :class:`ppl_hmm.experiments.trained.configurations.HeadVsPromptTrained`: ``language_model``
        (``'gru'`` or ``'transformer'``), ``objective``, ``budget`` (steps of training), ``length``, ``n_train``, …

    Returns
    -------
    xarray.DataTree
        ``/results`` with ``accuracy(approach, n_states, seed)`` for the approaches ``head``, ``prompt``,
        ``head-trained`` and ``prompt-trained``; ``total_variation(n_states, seed)`` at the mask on test texts;
        ``excess`` and ``excess_at_read_position`` in nats; ``/published``; ``/settings``; ``/timings``.

    Raises
    ------
    InvalidInput, ForeignFile, OtherConfiguration, WorkerLost, NoBalancedTask
        As :func:`ppl_hmm.head_vs_prompt`; a transformer without the extra ``lm``.

    See Also
    --------
    ppl_hmm.head_vs_prompt : The exact language model alone.
    ppl_hmm.train : Trains a language model.

    Examples
    --------
    >>> import tempfile, ppl_hmm
    >>> little = {"length": 8, "n_train": 60, "n_validation": 30, "n_test": 30, "restarts": 1, "prompt_steps": 2}
    >>> tree = ppl_hmm.head_vs_prompt_trained([3], 1, tempfile.mkdtemp(), workers=1, budget=2, **little)
    >>> tree["results/accuracy"].approach.values.tolist()
    ['head', 'prompt', 'head-trained', 'prompt-trained']
    """
    return reproduce(
        HeadVsPromptTrained,
        _compute,
        states,
        seeds,
        out,
        workers=workers,
        executor=executor,
        progress=progress,
        **sizes,
    )


def _compute(settings: HeadVsPromptTrained, cell: Cell) -> xr.Dataset:
    data = draw(settings, cell, random_hmm, "wei2021", cell[schema.N_STATES], settings.vocabulary_size)
    rows: dict[str, list[Any]] = {approach: [] for approach in schema.ON_BOTH_LANGUAGE_MODELS}
    measured: dict[str, list[float]] = {name: [] for name in _UNITS}
    for p, (model, seed) in enumerate(zip(data.models, cell.seeds, strict=True)):
        training = _trained(settings, model, seed)
        exact, own = (head_tuned(lm, data, p) for lm in (OracleLM(model), training.lm))
        rows[schema.HEAD].append(exact)
        rows[schema.HEAD_TRAINED].append(own)
        rows[schema.PROMPT].append(prompt_tuned(OracleLM(model), data, p, settings, seed))
        rows[schema.PROMPT_TRAINED].append(prompt_tuned(training.lm, data, p, settings, seed))
        measured[schema.TOTAL_VARIATION].append(distance(exact, own, data))
        for name in (schema.EXCESS, schema.EXCESS_AT_READ_POSITION):
            measured[name].append(float(training.log[name][-1]))
    answers = [
        Answer(approach, [each.accuracy for each in tuned], [int(each.separable) for each in tuned])
        for approach, tuned in rows.items()
    ]
    found = columns((data, answers))
    return found.assign({name: (schema.SEED, np.array(measured[name]), units) for name, units in _UNITS.items()})


def _trained(
    settings: HeadVsPromptTrained, model: HMM, seed: int
) -> Training[BidirectionalLM | TransformerLM]:
    """Return the language model of a model, trained."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device", "a GPU that PyTorch sees", "none", "leave out device 'cuda'")
    return train(
        _untrained(settings, model, seed).to(settings.device),
        model,
        objective=settings.objective,
        steps=settings.budget,
        batch_size=settings.batch_size,
        length=settings.training_length,
        learning_rate=settings.learning_rate,
        seed=seed,
    )


def _untrained(settings: HeadVsPromptTrained, model: HMM, seed: int) -> BidirectionalLM | TransformerLM:
    sizes = dict(zip(("width", "layers"), settings.network, strict=False))
    if settings.language_model == LanguageModelKind.GRU:
        return BidirectionalLM(model.vocabulary_size, model.n_states, seed=seed, **sizes)
    return TransformerLM(model.vocabulary_size, longest=settings.training_length, seed=seed, **sizes)
