"""What a head and a prompt reach with one masked language model, exact or trained: the same code for both."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import torch

from ppl_hmm.experiments.figure3.text import LabelledText
from ppl_hmm.experiments.trained.configurations import HeadVsPromptTrained
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.language_models.protocol import MaskedLM
from ppl_hmm.models import HMM
from ppl_hmm.prompts.fitted import fit_prompt
from ppl_hmm.recoverability.witness import separability


class Tuned(NamedTuple):
    """What is read of a mask in front of the text, and how far heads on it get."""

    features: np.ndarray  # (B,V)
    accuracy: float  # on test text
    separable: bool  # the decidable training text, by a linear head


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
    return Tuned(features, float(head.score(features[data.test], labels[data.test])), bool(separable))


def distance(exact: Tuned, trained: Tuned, data: LabelledText[HMM]) -> float:
    """Return the mean total variation of what both language models say at the mask of test text."""
    difference = torch.from_numpy(exact.features[data.test] - trained.features[data.test])
    return 0.5 * difference.abs().sum(-1).mean().item()
