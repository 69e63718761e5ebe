"""What head tuning and prompt tuning reach on the models of a cell of Figure 3 (left)."""

from __future__ import annotations

from typing import cast

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.experiments.engine.grid import Cell
from ppl_hmm.experiments.figure3.answers import Answer, columns
from ppl_hmm.experiments.figure3.configurations import HeadVsPrompt
from ppl_hmm.experiments.figure3.linear import (
    accuracy,
    encode,
    features_at_mask,
    linear_answer,
    masks_answer,
    select_heads,
    separable,
)
from ppl_hmm.experiments.figure3.text import LabelledText, draw
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.language_models.oracle import OracleLM, OracleText
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.prompts.fitted import fit_prompt
from ppl_hmm.recoverability.prompt import prompt_certificate
from ppl_hmm.regimes import random_hmm


def compute(settings: HeadVsPrompt, cell: Cell) -> xr.Dataset:
    """Return the columns of a cell: models of one size, each with its text and all approaches to its task."""
    data = draw(settings, cell, random_hmm, "wei2021", cell[schema.N_STATES], settings.vocabulary_size)
    lm, encoded = encode(data)
    features = features_at_mask(encoded)
    answers = [
        linear_answer(schema.HEAD, data, features),
        Answer(schema.HEAD_LOG, accuracy(select_heads(features, data, "log"), features, data)),
        _prompt_answer(settings, cell, data, lm, encoded),
        _theorem_answer(schema.PROMPT_THEOREM, 0.0, data, encoded),
        _theorem_answer(schema.PROMPT_THEOREM_THRESHOLD, settings.support_threshold, data, encoded),
        *(masks_answer(approach, data, encoded, n_masks) for n_masks, approach in schema.HEAD_ON_MASKS.items()),
    ]
    return columns((data, answers))


def _prompt_answer(
    settings: HeadVsPrompt, cell: Cell, data: LabelledText[HMM], lm: OracleLM, encoded: OracleText
) -> Answer:
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
    features = features_at_mask(encoded, fit.prompt)
    heads = cast(list[LinearHead], fit.head)
    return Answer(schema.PROMPT, accuracy(heads, features, data), separable(features, data))


def _theorem_answer(approach: str, support_threshold: float, data: LabelledText[HMM], encoded: OracleText) -> Answer:
    """Return the answer of the prompts and heads that Theorem P constructs; no accuracy where its condition fails."""
    certificates = [
        prompt_certificate(model, task, support_threshold=support_threshold)
        for model, task in zip(data.models, data.tasks, strict=True)
    ]
    features = features_at_mask(encoded, SoftPrompt.stack([cast(SoftPrompt, found.prompt) for found in certificates]))
    heads = [LinearHead.from_weights(found.weights.numpy()) for found in certificates]
    holds = np.array([found.recoverable for found in certificates])
    return Answer(approach, np.where(holds, accuracy(heads, features, data), np.nan), condition=holds)
