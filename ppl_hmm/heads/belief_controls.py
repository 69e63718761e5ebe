"""What explains beliefs without any network: features to compare a probe with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from ppl_hmm.exact.futures import future_laws
from ppl_hmm.heads.prefix_rows import PrefixRows
from ppl_hmm.models import HMM
from ppl_hmm.schema import Control

#: Most contexts, or continuations, that a control tells apart: longer ones are shortened until there are no more.
LARGEST = 1000
#: Smallest probability that a logarithm tells from zero.
FLOOR = 1e-6
_BEFORE = -2  # what stands in front of a text


class ControlFeatures(NamedTuple):
    """Features (N,D) of prefixes, and how many tokens of the past, or of the future, they tell of."""

    features: np.ndarray
    reach: int


def belief_controls(
    rows: PrefixRows, model: HMM, exact: Tensor, *, n_raw: int, order: int, n_future: int
) -> dict[Control, ControlFeatures]:
    """Return features of the prefixes that need no network.

    Parameters
    ----------
    exact
        (B,T+1,K): the model's beliefs of these texts.
    n_raw
        Tokens of the past, one-hot each.
    order
        Tokens of a context of the Markov model, whose contexts of 1..order tokens are one-hot: longer ones that were
        never seen in training are read as shorter ones.
    n_future
        Tokens of the future whose joint law is a feature. Like ``order`` it is lowered until there are at most
        :data:`LARGEST` of them.

    Notes
    -----
    Cost O(N·(V·n_raw + V^order + K·V^n_future)).
    """
    order, n_future = (_affordable(wanted, model.vocabulary_size) for wanted in (order, n_future))
    belief = exact[rows.sequence, rows.position]
    arrays = belief, model.transition.detach(), model.emission.detach()
    next_token = future_laws(*arrays, 1).cpu().double().numpy()
    future = future_laws(*arrays, n_future).cpu().double().numpy()
    return {
        Control.RAW_TOKENS: ControlFeatures(last_tokens(rows, n_raw, model.vocabulary_size), n_raw),
        Control.MARKOV: ControlFeatures(last_contexts(rows, order, model.vocabulary_size), order),
        Control.NEXT_TOKEN: ControlFeatures(next_token, 1),
        Control.LOG_NEXT_TOKEN: ControlFeatures(np.log(next_token.clip(FLOOR)), 1),
        Control.FUTURE: ControlFeatures(future, n_future),
    }


def prefix_numbers(tokens: np.ndarray) -> np.ndarray:
    """Return a number for each prefix of texts (B,T), equal for equal prefixes: (B,T+1). Cost O(B·log(B)·T)."""
    n_texts, length = tokens.shape
    numbers = np.zeros((n_texts, length + 1), dtype=int)
    base = tokens.max(initial=0) + 2  # MASK is −1
    for t in range(length):
        longer = np.unique(numbers[:, t] * base + tokens[:, t] + 1, return_inverse=True)[1]
        numbers[:, t + 1] = numbers[:, t].max() + 1 + longer
    return numbers


def last_tokens(rows: PrefixRows, n_tokens: int, vocabulary_size: int) -> np.ndarray:
    """Return the last tokens one-hot (N,n·V), the latest first; zeros for masks and in front of the text."""
    window = _window(rows, n_tokens)
    return (window[:, :, None] == np.arange(vocabulary_size)).reshape(len(window), -1).astype(float)


def last_contexts(rows: PrefixRows, order: int, vocabulary_size: int) -> np.ndarray:
    """Return which the last 1, …, ``order`` tokens are, one-hot each: a column for every context that occurs."""
    window, base = _window(rows, order) - _BEFORE, vocabulary_size - _BEFORE
    columns, context = [], np.zeros(len(window), dtype=int)
    for latest in window.T:
        context = context * base + latest
        columns.append(context[:, None] == np.unique(context))
    return np.concatenate(columns, axis=1).astype(float)


def _window(rows: PrefixRows, n_tokens: int) -> np.ndarray:
    """Return the last tokens of each prefix (N,n), the latest first."""
    padded = np.pad(rows.tokens, ((0, 0), (n_tokens, 0)), constant_values=_BEFORE)
    return padded[rows.sequence[:, None], rows.position[:, None] + np.arange(n_tokens)[::-1]]


def _affordable(wanted: int, vocabulary_size: int) -> int:
    """Return the largest number of tokens, from one to as many as are wanted, that are enough to tell apart."""
    return max([n for n in range(1, wanted + 1) if vocabulary_size**n <= LARGEST], default=1)
