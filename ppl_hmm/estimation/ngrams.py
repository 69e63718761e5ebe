"""Interpolated n-gram models: what a fitted model is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.errors import InvalidInput, at_least
from ppl_hmm.models.kinds import Text

_ITERATIONS = 100
_LARGEST_KEY = 1 << 62


class _Order(NamedTuple):
    """Counts of n tokens in a row, and how far their shares are trusted."""

    grams: np.ndarray  # (n,) sorted numbers of what was seen
    counts: np.ndarray
    contexts: np.ndarray  # sorted numbers of the n−1 tokens before
    context_counts: np.ndarray
    weights: np.ndarray  # (buckets,): λ by the size of the context's count


@dataclasses.dataclass(frozen=True, eq=False)
class NGramModel:
    """Shares of n tokens in a row, interpolated with those of fewer.

    P_n(x | h) = λ c(hx)/c(h) + (1−λ) P_{n−1}(x | h'), h' the context h without its first token, and P_0 = 1/V. The
    weight λ depends on the order and on ⌊log₂ c(h)⌋. It maximises the likelihood of each training token when that token
    alone is left out of the counts. A token in front of which fewer are observed is predicted from those.

    Attributes
    ----------
    orders
        Counts and weights of 1, 2, …, n tokens.
    vocabulary_size
        V.

    Notes
    -----
    Source: Jelinek & Mercer (1980); buckets as in Chen & Goodman (1999), §2.3.

    Examples
    --------
    >>> from ppl_hmm.estimation.ngrams import NGramModel
    >>> bigram = NGramModel.fit([[0, 1, 0, 1, 0, 1, 0, 1, 2]], 2)
    >>> bigram.log_likelihood([[0, 1, 0]]).round(2)
    array([-1.64])
    """

    orders: tuple[_Order, ...]
    vocabulary_size: int

    @classmethod
    def fit(
        cls, tokens: Text, order: int, *, vocabulary_size: int | None = None, lengths: Text | None = None
    ) -> NGramModel:
        """Return the model of an order n ≥ 1 for texts (B,T), or ragged lists. Cost O(n·B·T·log(B·T)).

        Raises
        ------
        InvalidInput
            Bad text; nothing observed; an order below one, or more contexts than integers.
        """
        at_least("order", order, 1)
        texts = as_tokens(tokens, vocabulary_size or _LARGEST_KEY, lengths=lengths).cpu().numpy()
        size = int(texts.max()) + 1 if vocabulary_size is None else vocabulary_size
        if (texts < 0).all():
            raise InvalidInput("tokens of an n-gram model", "at least one observed", "masks only", "pass text")
        if size**order > _LARGEST_KEY:
            raise InvalidInput("order", f"V^n of at most {_LARGEST_KEY}", f"{size}^{order}", "choose a lower order")
        lower, orders = np.full(texts.size, 1 / size), []
        for grams, contexts, there in _windows(texts, size, order):
            found = _Order(*_counted(grams[there]), *_counted(contexts[there]), weights=np.empty(0))
            # Without the token itself: both counts are one less.
            counts, of_context = (_count(*part) - 1 for part in _lookups(found, grams[there], contexts[there]))
            shares = counts / np.maximum(of_context, 1)
            weights = _most_likely_weights(shares, lower[there], _bucket(of_context))
            orders.append(found._replace(weights=weights))
            lower[there] = _mixed(weights, shares, lower[there], of_context)
        return cls(tuple(orders), size)

    def log_likelihood(self, tokens: Text, *, lengths: Text | None = None) -> np.ndarray:
        """Return log P(x) (B,) in nats of texts (B,T); masks are left out."""
        texts = as_tokens(tokens, self.vocabulary_size, lengths=lengths).cpu().numpy()
        probability = np.full(texts.size, 1 / self.vocabulary_size)
        windows = _windows(texts, self.vocabulary_size, len(self.orders))
        for order, (grams, contexts, there) in zip(self.orders, windows, strict=True):
            counts, of_context = (_count(*part) for part in _lookups(order, grams[there], contexts[there]))
            shares = counts / np.maximum(of_context, 1)
            probability[there] = _mixed(order.weights, shares, probability[there], of_context)
        return np.where(texts >= 0, np.log(probability).reshape(texts.shape), 0).sum(1)


def _windows(texts: np.ndarray, size: int, order: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield for n = 1, 2, … numbers of n tokens and of the n−1 before the last, and where all of them are observed."""
    grams, there = np.where(texts < 0, 0, texts), texts >= 0
    contexts = np.zeros_like(grams)
    for n in range(order):
        if n:
            before = np.zeros_like(grams)
            before[:, n:] = np.where(texts[:, :-n] < 0, 0, texts[:, :-n])
            seen = np.zeros_like(there)
            seen[:, n:] = texts[:, :-n] >= 0
            there, grams = there & seen, grams + before * size**n
            contexts = contexts + before * size ** (n - 1)
        yield grams.ravel(), contexts.ravel(), there.ravel()


def _counted(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(numbers, return_counts=True)


def _lookups(order: _Order, grams: np.ndarray, contexts: np.ndarray) -> tuple[tuple[np.ndarray, ...], ...]:
    return (order.grams, order.counts, grams), (order.contexts, order.context_counts, contexts)


def _count(known: np.ndarray, counts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return how often each was counted."""
    if not len(known):
        return np.zeros(len(numbers), dtype=int)
    places = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    return np.where(known[places] == numbers, counts[places], 0)


def _bucket(counts: np.ndarray) -> np.ndarray:
    """Return ⌊log₂ count⌋, 0 also of none."""
    return np.log2(np.maximum(counts, 1)).astype(int)


def _most_likely_weights(shares: np.ndarray, lower: np.ndarray, buckets: np.ndarray) -> np.ndarray:
    """Return the λ of each bucket that maximises Σ log(λ·share + (1−λ)·lower), by EM; buckets above have the last."""
    n_buckets = int(buckets.max(initial=0)) + 1
    sizes = np.bincount(buckets, minlength=n_buckets)
    weights = np.full(n_buckets, 0.5)
    for _ in range(_ITERATIONS):
        own = weights[buckets] * shares
        responsible = own / (own + (1 - weights[buckets]) * lower)
        weights = np.where(
            sizes > 0, np.bincount(buckets, responsible, minlength=n_buckets) / np.maximum(sizes, 1), weights
        )
    return np.minimum(weights, 1 - 1 / (2 + sizes))  # no token is impossible


def _mixed(weights: np.ndarray, shares: np.ndarray, lower: np.ndarray, of_context: np.ndarray) -> np.ndarray:
    """Return λ·share + (1−λ)·lower, and the lower one after contexts that were never seen."""
    trusted = np.where(of_context > 0, weights[np.minimum(_bucket(of_context), len(weights) - 1)], 0)
    return trusted * shares + (1 - trusted) * lower
