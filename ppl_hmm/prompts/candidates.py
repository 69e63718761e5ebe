"""Prompts with their heads, compared on labelled text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ppl_hmm.heads.labelled import LabelledText
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.language_models.protocol import MaskedLM
from ppl_hmm.models import MemoryPrompt, SoftPrompt


class Candidate(NamedTuple):
    """A prompt for each of P models, its heads, and what they get wrong."""

    rows: Tensor  # (P,L,*prompt_shape)
    heads: list[LinearHead]  # P
    errors: np.ndarray  # (2,P): how many training texts, how many validation texts
    accuracy: np.ndarray  # (P,): on validation text

    @classmethod
    def of(
        cls,
        lm: MaskedLM,
        rows: Tensor,
        train: LabelledText,
        held_out: LabelledText,
        heads: Sequence[LinearHead] | None = None,
    ) -> Candidate:
        """Return prompts with given heads, or with those of logistic regression on all training text."""
        kind = MemoryPrompt if len(lm.prompt_shape) == 2 else SoftPrompt
        prompt = kind(rows.reshape(*lm.batch_shape, *rows.shape[1:]))
        features, new_features = (
            probe_features(lm, text.tokens, prompt=prompt, impossible="mask")
            .reshape(len(rows), -1, lm.vocabulary_size)
            .detach()
            .cpu()
            .numpy()
            for text in (train, held_out)
        )
        texts = list(zip(features, train.labels, new_features, held_out.labels, strict=True))
        heads = [LinearHead.select(*each) for each in texts] if heads is None else list(heads)
        errors = np.array([_errors(head, x, y) for head, (x, y, *_) in zip(heads, texts, strict=True)])
        new_errors = np.array([_errors(head, x, y) for head, (*_, x, y) in zip(heads, texts, strict=True)])
        accuracy = np.array([head.score(x, y) for head, (*_, x, y) in zip(heads, texts, strict=True)])
        return cls(rows, heads, np.stack([errors, new_errors]), accuracy)


def best_of(candidates: Sequence[Candidate]) -> np.ndarray:
    """Return the best candidate of each model (P,), the first on ties.

    Those without an error on training text come before all others; among either, fewest errors on all text win.
    """
    errors = np.stack([candidate.errors for candidate in candidates])  # (C,2,P)
    return np.lexsort((errors.sum(1), errors[:, 0] > 0), axis=0)[0]


def _errors(head: LinearHead, features: np.ndarray, labels: np.ndarray) -> int:
    """Return how many texts a head gets wrong."""
    return int((head.predict(features) != labels).sum())
