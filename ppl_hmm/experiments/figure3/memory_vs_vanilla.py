"""Attention with a memory against a linear head without one: Figure 3 (right) of Wei, Xie & Ma (2021)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.experiments.engine.grid import Cell
from ppl_hmm.experiments.engine.runner import Progress
from ppl_hmm.experiments.figure3.answers import Answer, columns
from ppl_hmm.experiments.figure3.configurations import MemoryVsVanilla
from ppl_hmm.experiments.figure3.linear import encode, features_at_mask, linear_answer
from ppl_hmm.experiments.figure3.reproduction import reproduce
from ppl_hmm.experiments.figure3.text import LabelledText, draw
from ppl_hmm.heads.attention import AttentionHead
from ppl_hmm.heads.constructed import constructed_attention
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import masked_features
from ppl_hmm.models import MemoryHMM
from ppl_hmm.recoverability.memory import memory_certificate
from ppl_hmm.regimes import random_hmm, random_memory_hmm


def memory_vs_vanilla(
    states: Sequence[int],
    seeds: int,
    out: str | Path,
    *,
    workers: int = 2,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **sizes: Any,
) -> xr.DataTree:
    """Compute the experiment, or continue it, and return its tree.

    At each size S and each seed, two arms. A random ``wei2021-memory`` model of 4 states whose one cell has S/4 values,
    a task on its memory, exact conditionals at every position of raw text, and attention heads on them: learned, by
    softmax and hard, and the one that Theorem M constructs, where its condition holds. And a random ``wei2021`` model
    of S states without a memory, with a task and a linear head as in :func:`ppl_hmm.head_vs_prompt`.

    Parameters
    ----------
    states
        Sizes S: multiples of 4, at least 8.
    seeds, out, workers, executor, progress
        As in :func:`ppl_hmm.head_vs_prompt`.
    sizes
        Other fields of :class:`ppl_hmm.experiments.figure3.configurations.MemoryVsVanilla`: ``length``, ``n_train``, …

    Returns
    -------
    xarray.DataTree
        As from :func:`ppl_hmm.head_vs_prompt`. ``undecidable(n_states, seed)`` is that of the memory arm; ``condition``
        is Theorem M's for ``attention-theorem``, Theorem H's for ``vanilla-linear``.

    Raises
    ------
    InvalidInput, ForeignFile, OtherConfiguration, WorkerLost
        Sizes that are not allowed; an ``out`` that cannot be used; a worker that died.
    NoBalancedTask
        As from :func:`ppl_hmm.head_vs_prompt`.

    See Also
    --------
    ppl_hmm.head_vs_prompt : the left panel
    ppl_hmm.memory_vs_vanilla_trained : with trained language models as well
    ppl_hmm.open_results : read a finished or running experiment
    ppl_hmm.experiments.run_experiment : an experiment of one's own

    Examples
    --------
    >>> import tempfile, ppl_hmm
    >>> little = {"length": 8, "n_train": 60, "n_validation": 30, "n_test": 50}
    >>> tree = ppl_hmm.memory_vs_vanilla([8], 1, tempfile.mkdtemp(), workers=1, **little)
    >>> tree["results/condition"].sel(approach="attention-theorem", n_states=8).values.tolist()
    [1]
    """
    return reproduce(
        MemoryVsVanilla, _compute, states, seeds, out, workers=workers, executor=executor, progress=progress, **sizes
    )


def _compute(settings: MemoryVsVanilla, cell: Cell) -> xr.Dataset:
    size, n_states, n_tokens = cell[schema.N_STATES], settings.states_per_value, settings.vocabulary_size
    with_memory = draw(settings, cell, random_memory_hmm, "wei2021-memory", n_states, size // n_states, n_tokens)
    vanilla = draw(settings, cell, random_hmm, "wei2021", size, n_tokens)
    linear = linear_answer(schema.VANILLA_LINEAR, vanilla, features_at_mask(encode(vanilla)[1]))
    results = columns((with_memory, _attention_answers(with_memory)), (vanilla, [linear]))
    results[schema.UNDECIDABLE].attrs["long_name"] = (
        "share of the memory arm's test texts with a margin within rounding"
    )
    return results


def _attention_answers(data: LabelledText[MemoryHMM]) -> Iterator[Answer]:
    """Yield the answers of attention heads, learned and constructed."""
    accuracies = np.array([_attention_accuracies(data, p) for p in range(len(data.models))])
    yield Answer(schema.ATTENTION_SOFTMAX, accuracies[:, 0])
    yield Answer(schema.ATTENTION_HARD, accuracies[:, 1])
    yield Answer(schema.ATTENTION_THEOREM, accuracies[:, 2], condition=~np.isnan(accuracies[:, 2]))


def _attention_accuracies(data: LabelledText[MemoryHMM], p: int) -> tuple[float, float, float]:
    """Return the test accuracy of softmax, hard and constructed attention on model p; NaN where none is constructed.

    Model by model: conditionals at every position of all models at once would take P times the memory.
    """
    model, task, labels = data.models[p], data.tasks[p], data.labels[p].numpy()
    features = masked_features(OracleLM(model), data.tokens[p])
    text = [(features[part], labels[part]) for part in (data.train, data.validation)]
    softmax, hard = (AttentionHead.select(*text[0], *text[1], attention=attention) for attention in ("softmax", "hard"))
    test, answers = features[data.test], labels[data.test]
    holds = memory_certificate(model, task).recoverable
    built = constructed_attention(model, task).score(test, answers) if holds else np.nan
    return softmax.score(test, answers), hard.score(test, answers), built
