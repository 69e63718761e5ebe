"""Moments of text: how often tokens stand beside each other, and the moves that explain it."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds
from torch import Tensor

from ppl_hmm.base.randomness import CPU
from ppl_hmm.errors import InvalidInput
from ppl_hmm.estimation.texts import WeightedTexts
from ppl_hmm.exact.baum_welch import Counts

#: Larger matrices keep their zeros out of memory.
_DENSE = 512
#: Share of a start that is no moment's: the token frequencies with noise, so that states differ, and uniform moves.
_SMOOTHING = 0.1


def noise(stream: torch.Generator, *shape: int) -> Tensor:
    """Return positive numbers of an exponential law: normalised, they are uniform on the simplex."""
    uniform = torch.rand(*shape, generator=stream, dtype=torch.float64, device=CPU)
    return -torch.log1p(-uniform) + torch.finfo(torch.float64).eps


def noisy_frequencies(texts: WeightedTexts, n_states: int, stream: torch.Generator) -> Tensor:
    """Return for each state the token frequencies times noise, as laws (V,K)."""
    frequencies = texts.token_counts() + 1 / texts.vocabulary_size
    rows = frequencies[:, None] * noise(stream, len(frequencies), n_states)
    return rows / rows.sum(0)


def windows(texts: WeightedTexts, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all runs (n,size) of observed tokens, and their weights (n,)."""
    found, weights = [], []
    for batch in texts.batches:
        ids, length = batch.ids.cpu().numpy(), batch.ids.shape[1]
        runs = np.stack([ids[:, i : length - size + 1 + i].ravel() for i in range(size)], 1) if length >= size else None
        if runs is not None:
            observed = (runs < texts.vocabulary_size).all(1)
            found.append(runs[observed])
            weights.append(np.repeat(batch.weights.cpu().numpy(), length - size + 1)[observed])
    if not found:
        return np.zeros((0, size), np.int64), np.zeros(0)
    return np.concatenate(found), np.concatenate(weights)


def pair_counts(pairs: np.ndarray, weights: np.ndarray, size: int) -> csr_array:
    """Return how often each pair (n,2) of tokens occurs (V,V), by weight."""
    return csr_array((weights, (pairs[:, 0], pairs[:, 1])), shape=(size, size))


def leading(matrix: csr_array, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the leading singular vectors and values: (V,k), (k,), (V,k)."""
    size = len(matrix.indptr) - 1
    if size <= max(_DENSE, rank):
        left, values, right = np.linalg.svd(matrix.toarray())
    else:
        left, values, right = map(np.asarray, svds(matrix, k=rank, v0=np.ones(size)))
    return left[:, :rank], values[:rank], right[:rank].T


def require_kinds(texts: WeightedTexts, n_states: int, kind: str) -> None:
    """Raise for more states than kinds of tokens, which moments of tokens cannot tell apart."""
    n_kinds = int((texts.token_counts() > 0).sum())
    if n_states > n_kinds:
        raise InvalidInput(
            f"states of a start of kind {kind!r}",
            f"at most {n_kinds}, the kinds of tokens in the text",
            str(n_states),
            "start 'mixed', 'random' or from 'contexts'",
        )


def laws_of(texts: WeightedTexts, emission: np.ndarray, pairs: csr_array, stream: torch.Generator) -> Counts:
    """Return a start from weights (K,V) of an emission, and the moves that explain the pairs beside it.

    Pairs of neighbours have the counts Wᵀ diag(n) A W, n the uses of the states: A is read off by W's pseudoinverse.
    """
    n_states = len(emission)
    emission = _smoothed(emission, noisy_frequencies(texts, n_states, stream).numpy().T)
    inverse = np.linalg.pinv(emission)  # (V,K)
    moves = _smoothed(inverse.T @ (pairs @ inverse), np.full(n_states, 1 / n_states))
    initial = np.full(n_states, 1 / n_states)
    return Counts(*(torch.from_numpy(np.ascontiguousarray(law))[None] for law in (initial, moves, emission.T)))


def _smoothed(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return the rows without negative entries, normalised, with some of another law."""
    rows = np.maximum(np.nan_to_num(rows), 0)
    total = rows.sum(-1, keepdims=True)
    own = np.where(total > 0, rows / np.where(total > 0, total, 1), by)
    return (1 - _SMOOTHING) * own + _SMOOTHING * by
