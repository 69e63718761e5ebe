"""Linear heads on the conditionals of a mask in front of raw text, which both experiments have."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ppl_hmm import schema
from ppl_hmm.experiments.figure3.answers import Answer
from ppl_hmm.experiments.figure3.text import LabelledText
from ppl_hmm.heads.linear import LinearHead, best_on_path
from ppl_hmm.language_models.oracle import OracleLM, OracleText
from ppl_hmm.language_models.probe import probe_input
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.recoverability.masks import chain_certificate
from ppl_hmm.recoverability.witness import separability


def encode(data: LabelledText[HMM]) -> tuple[OracleLM, OracleText]:
    """Return the exact masked LM of all models of a cell, and the text encoded by it, with a mask in front."""
    lm = OracleLM(HMM.stack(data.models))
    return lm, lm.encode(probe_input(lm, data.tokens))


def features_at_mask(encoded: OracleText, prompt: SoftPrompt | None = None) -> np.ndarray:
    """Return G (P,B,V) at the mask in front of the text; zeros where the prompt leaves no state possible."""
    return encoded.conditionals(None if prompt is None else prompt.rows, positions=[0])[..., 0, :].numpy()


def linear_answer(approach: str, data: LabelledText[HMM], features: np.ndarray) -> Answer:
    """Return the answer of learned heads on probabilities without a prompt; the condition is that of Theorem H."""
    condition = [head_certificate(model, task).recoverable for model, task in zip(data.models, data.tasks, strict=True)]
    heads = select_heads(features, data, "probability")
    return Answer(approach, accuracy(heads, features, data), separable(features, data), condition)


def select_heads(
    features: np.ndarray, data: LabelledText[HMM], scale: Literal["probability", "log"]
) -> list[LinearHead]:
    """Return a head for each model, with the penalty that does best on its validation text."""
    labels = data.labels.numpy()
    train, held_out = data.train, data.validation
    return [
        LinearHead.select(own[train], y[train], own[held_out], y[held_out], features=scale)
        for own, y in zip(features, labels, strict=True)
    ]


def masks_answer(approach: str, data: LabelledText[HMM], encoded: OracleText, n_masks: int) -> Answer:
    """Return the answer of learned heads on J masks in front of the text; the condition is that of Theorem C.

    Penalties are chosen as in :func:`select_heads`, from heads on one path.
    """
    features = encoded.at_masks(n_masks).flatten(-2).numpy()
    condition = [
        chain_certificate(model, task, n_masks).recoverable for model, task in zip(data.models, data.tasks, strict=True)
    ]
    train, held_out = data.train, data.validation
    heads = [
        best_on_path(own[train], y[train], own[held_out], y[held_out])
        for own, y in zip(features, data.labels.numpy(), strict=True)
    ]
    return Answer(approach, accuracy(heads, features, data), condition=condition)


def accuracy(heads: list[LinearHead], features: np.ndarray, data: LabelledText[HMM]) -> np.ndarray:
    """Return the accuracy (P,) of each model's head on its test text."""
    labels = data.labels.numpy()
    return np.array(
        [head.score(own[data.test], y[data.test]) for head, own, y in zip(heads, features, labels, strict=True)]
    )


def separable(features: np.ndarray, data: LabelledText[HMM]) -> np.ndarray:
    """Say for each model (P,) whether a linear head separates its decidable training text; not asked without any."""
    answers = np.full(len(features), schema.NOT_ASKED, dtype=np.int8)
    for p in range(len(features)):
        kept = data.decidable[p, data.train].numpy()
        if kept.any():
            labels = data.labels[p, data.train].numpy()
            answers[p] = separability(features[p, data.train][kept], labels[kept]).separable
    return answers
