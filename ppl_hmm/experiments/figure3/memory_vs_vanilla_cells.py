"""What heads reach on models with and without a memory, a cell of Figure 3 (right)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.experiments.engine.grid import Cell
from ppl_hmm.experiments.figure3.answers import Answer, columns
from ppl_hmm.experiments.figure3.configurations import MemoryVsVanilla
from ppl_hmm.experiments.figure3.linear import encode, features_at_mask, linear_answer
from ppl_hmm.experiments.figure3.text import LabelledText, draw
from ppl_hmm.heads.attention import AttentionHead
from ppl_hmm.heads.constructed import constructed_attention
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import masked_features
from ppl_hmm.models import MemoryHMM
from ppl_hmm.recoverability.memory import memory_certificate
from ppl_hmm.regimes import random_hmm, random_memory_hmm


def compute(settings: MemoryVsVanilla, cell: Cell) -> xr.Dataset:
    """Return the columns of a cell: models with a memory and without, each with its text and the heads that read it."""
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
