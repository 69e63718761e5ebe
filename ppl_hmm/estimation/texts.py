"""Text to fit a model to: checked, equal texts merged, sorted by length into batches."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.randomness import CPU
from ppl_hmm.base.tokens import SPLIT, as_tokens, ends as ends_of
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.models.kinds import Text

#: Positions of a batch, unless one text has more.
_MOST_POSITIONS = 1 << 20
_LARGEST_VOCABULARY = 1 << 31

_log = logging.getLogger("ppl_hmm")


class Batch(NamedTuple):
    """Different texts of about one length."""

    ids: Tensor  # (B,T) row numbers: tokens, and V for masks and past each end
    lengths: Tensor  # (B,)
    weights: Tensor  # (B,): as how many texts each counts
    numbers: Tensor  # (B,): place of each among the texts that were given


@dataclasses.dataclass(frozen=True)
class WeightedTexts:
    """Different texts and their weights, in batches.

    Masks at the end of a text say nothing and are cut off. A text is at least half as long as the longest of its batch.
    """

    batches: tuple[Batch, ...]
    vocabulary_size: int

    @classmethod
    def of(
        cls,
        tokens: Text,
        *,
        lengths: Text | None = None,
        vocabulary_size: int | None = None,
        sample_weight: ArrayLike | Tensor | None = None,
        batch_size: int | None = None,
        stream: torch.Generator | None = None,
    ) -> WeightedTexts:
        """Return texts (B,T), or ragged lists, with weights (B,); with a ``batch_size``, in batches drawn at random.

        A warning is logged where no text has two observed tokens.

        Raises
        ------
        InvalidInput
            Text as :func:`~ppl_hmm.base.tokens.as_tokens` refuses; no observed token, or only one kind of them; a
            negative or non-finite weight, or none above zero.
        """
        known = _LARGEST_VOCABULARY if vocabulary_size is None else at_least("vocabulary_size", vocabulary_size, 1)
        checked = as_tokens(tokens, known, lengths=lengths)
        texts = checked.cpu().numpy()
        weights = _checked_weights(sample_weight, len(texts))
        texts, weights, numbers = _merged(texts, weights)
        seen = np.unique(texts[texts >= 0])
        if len(seen) < 2:
            got = f"only token {seen[0]}" if len(seen) else "masks only"
            raise InvalidInput("tokens", "at least two different tokens", got, "there is nothing to learn from them")
        if (texts >= 0).sum(1).max() < 2:
            _log.warning(
                "no text has two observed tokens: nothing is told of transitions; split a column X of texts one after "
                "another by %s",
                SPLIT,
            )
        if vocabulary_size is None and seen[0] > 0:
            _log.warning(
                "text to fit: tokens count from 0, which never occurs; subtract 1 if yours count from 1, or pass "
                "vocabulary_size=%d",
                int(seen[-1]) + 1,
            )
        n_tokens = int(seen[-1]) + 1 if vocabulary_size is None else known
        ends = ends_of(torch.from_numpy(texts)).numpy()
        parts = _by_length(ends) if batch_size is None else _at_random(len(ends), batch_size, stream)
        batches = (
            _batch(texts[part], ends[part], weights[part], numbers[part], n_tokens, checked.device) for part in parts
        )
        return cls(tuple(batches), n_tokens)

    @property
    def n_observed(self) -> float:
        """Number of observed tokens, by weight."""
        return float(self.token_counts().sum())

    def token_counts(self) -> Tensor:
        """Return how often each token occurs (V,), by weight."""
        total = torch.zeros(self.vocabulary_size + 1, dtype=torch.float64, device=CPU)
        for batch in self.batches:
            each = batch.weights.cpu()[:, None].expand(batch.ids.shape)
            total.index_add_(0, batch.ids.cpu().flatten(), each.flatten())
        return total[:-1]


def _checked_weights(sample_weight: ArrayLike | Tensor | None, n_texts: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n_texts)
    weights = as_tensor(sample_weight, what="sample_weight").cpu().double().numpy()
    if weights.shape != (n_texts,):
        raise InvalidInput("sample_weight", f"shape {(n_texts,)}", f"shape {weights.shape}", "give one for each text")
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        where = int(wrong.argmax())
        raise InvalidInput(
            f"sample_weight[{where}]", "a finite number, zero or more", str(weights[where]), "correct the weight"
        )
    if not weights.any():
        raise InvalidInput("sample_weight", "at least one weight above zero", "zeros", "give the texts weights")
    return weights


def _merged(texts: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return different texts of positive weight, their summed weights, and the place of the first of each."""
    numbers = np.flatnonzero(weights)
    if len(numbers) > 1:
        _, first, group = np.unique(texts[numbers], axis=0, return_index=True, return_inverse=True)
        weights = np.bincount(group.ravel(), weights[numbers])
        numbers = numbers[first]
    else:
        weights = weights[numbers]
    return texts[numbers], weights, numbers


def _by_length(ends: np.ndarray) -> list[np.ndarray]:
    """Return texts in batches, longest first."""
    order, batches, begin = np.argsort(-ends, kind="stable"), [], 0
    while begin < len(order):
        longest = ends[order[begin]]
        long_enough = int(np.searchsorted(-ends[order], -longest / 2, side="right"))
        stop = min(long_enough, begin + max(1, _MOST_POSITIONS // max(1, longest)))
        batches.append(order[begin:stop])
        begin = stop
    return batches


def _at_random(n_texts: int, batch_size: int, stream: torch.Generator | None) -> Sequence[np.ndarray]:
    return [part.numpy() for part in torch.randperm(n_texts, generator=stream, device=CPU).split(batch_size)]


def _batch(
    texts: np.ndarray, ends: np.ndarray, weights: np.ndarray, numbers: np.ndarray, mask: int, device: torch.device
) -> Batch:
    rows = texts[:, : max(1, ends.max())]
    arrays = (np.where(rows < 0, mask, rows), ends, weights, numbers)
    return Batch(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))
