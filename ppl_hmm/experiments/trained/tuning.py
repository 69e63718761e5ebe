"""What a head and a prompt reach with one masked language model, exact or trained: the same code for both."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch

from ppl_hmm import schema
from ppl_hmm.experiments.figure3.text import LabelledText
from ppl_hmm.experiments.trained.configurations import HeadVsPromptTrained
from ppl_hmm.heads.attention import AttentionHead
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.language_models.probe import masked_features, probe_features
from ppl_hmm.language_models.protocol import MaskedLM
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.prompts.fitted import fit_prompt
from ppl_hmm.recoverability.witness import separability


class Tuned(NamedTuple):
    """What is read of text, and how far heads on it get."""

    features: np.ndarray  # (B,V) of a mask in front of the text, or (B,T,V) of all positions
    accuracy: float  # on test text
    separable: int = schema.NOT_ASKED  # the decidable training text, by a linear head


def attention_tuned(lm: MaskedLM, data: LabelledText[MemoryHMM], p: int) -> Tuned:
    """Return what softmax attention reaches on all positions of the text of model ``p``."""
    features, labels = masked_features(lm, data.tokens[p]), data.labels[p].numpy()
    text = [(features[part], labels[part]) for part in (data.train, data.validation, data.test)]
    head = AttentionHead.select(*text[0], *text[1], attention="softmax")
    return Tuned(features.conditionals.double().cpu().numpy(), float(head.score(*text[2])))


def head_tuned(lm: MaskedLM, data: LabelledText[HMM], p: int) -> Tuned:
    """Return what a linear head reaches on the text of model ``p``."""
    features = probe_features(lm, data.tokens[p], impossible="mask").double().cpu().numpy()
    labels, train, held_out = data.labels[p].numpy(), data.train, data.validation
    head = LinearHead.select(
        features[train], labels[train], features[held_out], labels[held_out], features="probability"
    )
    return _tuned(head, features, data, p)


def prompt_tuned(lm: MaskedLM, data: LabelledText[HMM], p: int, settings: HeadVsPromptTrained, seed: int) -> Tuned:
    """Return what a learned prompt with its head reaches on the text of model ``p``."""
    tokens, labels = data.tokens[p], data.labels[p]
    fit = fit_prompt(
        lm,
        tokens[data.train],
        labels[data.train],
        validation=(tokens[data.validation], labels[data.validation]),
        prompt_length=settings.prompt_length,
        restarts=settings.restarts,
        steps=settings.prompt_steps,
        training_texts=settings.prompt_texts,
        learning_rate=settings.prompt_rate,
        seed=seed,
    )
    features = probe_features(lm, tokens, prompt=fit.prompt, impossible="mask").double().cpu().numpy()
    return _tuned(cast(LinearHead, fit.head), features, data, p)


def _tuned(head: LinearHead, features: np.ndarray, data: LabelledText[HMM], p: int) -> Tuned:
    labels, kept = data.labels[p].numpy(), data.decidable[p, data.train].numpy()
    separable = separability(features[data.train][kept], labels[data.train][kept]).separable
    return Tuned(features, float(head.score(features[data.test], labels[data.test])), int(separable))


def distance(exact: Tuned, trained: Tuned, data: LabelledText[Any]) -> float:
    """Return the mean total variation of what both language models say where heads read test text."""
    difference = torch.from_numpy(exact.features[data.test] - trained.features[data.test])
    return 0.5 * difference.abs().sum(-1).mean().item()
