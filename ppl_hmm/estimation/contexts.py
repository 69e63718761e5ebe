"""Starts from k-means of contexts: positions of the text that look alike count as one state."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from ppl_hmm.base.randomness import CPU
from ppl_hmm.estimation.moments import leading, noisy_frequencies, pair_counts, windows
from ppl_hmm.estimation.texts import WeightedTexts
from ppl_hmm.exact.baum_welch import Counts

#: Tokens that are clustered, at most, and those that centres are moved by.
_CLUSTERED, _MOVED_BY = 100_000, 20_000
_LLOYD_STEPS = 20
#: Coordinates of a token, at most.
_COORDINATES = 32
#: Share of the start that is no cluster's: the token frequencies with noise, and uniform moves.
_SMOOTHING = 0.2


def context_start(texts: WeightedTexts, n_states: int, stream: torch.Generator) -> Counts:
    """Return the laws of clusters of positions by their tokens and both neighbours', smoothed.

    Each token has coordinates: its own if there are few, else its leading singular vectors in the normalised table of
    neighbours. Cost O(N·K) for N tokens, at most 100 000 of them.
    """
    blocks = _blocks(texts, stream)
    coordinates = token_coordinates(texts)
    cluster = _clusters([coordinates[block] for block in blocks], n_states, stream)
    mask = texts.vocabulary_size
    emission = torch.zeros(mask + 1, n_states, dtype=torch.float64, device=CPU)
    moves = torch.zeros(n_states, n_states, dtype=torch.float64, device=CPU)
    for block, states in zip(blocks, cluster, strict=True):
        one = torch.ones((), dtype=torch.float64, device=CPU)
        emission.index_put_((block, states), one, accumulate=True)
        moves.index_put_((states[:-1], states[1:]), one, accumulate=True)
    return Counts(
        torch.full((1, n_states), 1 / n_states, dtype=torch.float64, device=CPU),
        _smoothed(moves, torch.full_like(moves, 1 / n_states), -1)[None],
        _smoothed(emission[:-1], noisy_frequencies(texts, n_states, stream), 0)[None],
    )


def _smoothed(counts: Tensor, by: Tensor, dim: int) -> Tensor:
    total = counts.sum(dim, keepdim=True)
    own = torch.where(total > 0, counts / total.clamp(min=1), by)
    return (1 - _SMOOTHING) * own + _SMOOTHING * by


def _blocks(texts: WeightedTexts, stream: torch.Generator) -> list[Tensor]:
    """Return row numbers (T,) of texts drawn by weight, each up to its end; a long one is cut."""
    weights = torch.cat([batch.weights.cpu() for batch in texts.batches])
    rows = [(batch, row) for batch in texts.batches for row in range(len(batch.ids))]
    keys = torch.rand(len(rows), generator=stream, dtype=torch.float64, device=CPU).log() / weights
    blocks, left = [], _CLUSTERED
    for number in keys.argsort(descending=True).tolist():  # draws without replacement by weight
        batch, row = rows[number]
        length = int(batch.lengths[row])
        size = min(length, left)
        begin = int(torch.randint(length - size + 1, (), generator=stream, device=CPU))
        blocks.append(batch.ids[row, begin : begin + size].cpu())
        left -= size
        if left <= 0:
            break
    return [block for block in blocks if len(block)]


def token_coordinates(texts: WeightedTexts) -> Tensor:
    """Return coordinates (V+1,D) of each token, and zeros for the mask: one each, or D leading singular vectors."""
    size = texts.vocabulary_size
    if size <= _COORDINATES:
        own = torch.eye(size, dtype=torch.float64, device=CPU)
    else:
        runs, weights = windows(texts, 2)
        pairs = pair_counts(runs, weights, size)
        after, before = (np.sqrt(np.maximum(pairs.sum(axis), 1.0)) for axis in (1, 0))
        left, values, right = leading(csr_array(pairs / after[:, None] / before[None]), _COORDINATES // 2)
        own = np.concatenate([left * values / after[:, None], right * values / before[:, None]], 1)
        own = torch.from_numpy(own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12))
    return torch.cat([own, torch.zeros(1, own.shape[1], dtype=torch.float64, device=CPU)])


def _clusters(blocks: list[Tensor], n_states: int, stream: torch.Generator) -> list[Tensor]:
    """Return the cluster (T,) of each position of blocks of coordinates (T,D), by k-means of three neighbours."""
    contexts = torch.cat([torch.cat([_shifted(block, 1), block, _shifted(block, -1)], 1) for block in blocks])
    # Noise tells apart what is equal: there may be fewer kinds of contexts than states.
    contexts = contexts + 1e-3 * torch.randn(contexts.shape, generator=stream, dtype=torch.float64, device=CPU)
    moved_by = contexts[torch.randperm(len(contexts), generator=stream, device=CPU)[:_MOVED_BY]]
    centres = _spread(moved_by, n_states, stream)
    for _ in range(_LLOYD_STEPS):
        nearest = torch.cdist(moved_by, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, moved_by)
        sizes = torch.bincount(nearest, minlength=n_states)[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return list(torch.cdist(contexts, centres).argmin(1).split([len(block) for block in blocks]))


def _shifted(block: Tensor, by: int) -> Tensor:
    """Return the coordinates ``by`` positions before; zeros where there are none."""
    shifted = torch.zeros_like(block)
    if by > 0:
        shifted[by:] = block[:-by]
    else:
        shifted[:by] = block[-by:]
    return shifted


def _spread(points: Tensor, n_centres: int, stream: torch.Generator) -> Tensor:
    """Return points far from each other: each drawn by its squared distance to those before (k-means++)."""
    centres = [points[int(torch.randint(len(points), (), generator=stream, device=CPU))]]
    distance = torch.full((len(points),), torch.inf, dtype=torch.float64, device=CPU)
    for _ in range(n_centres - 1):
        distance = torch.minimum(distance, (points - centres[-1]).square().sum(1))
        centres.append(points[int(torch.multinomial(distance.clamp(min=1e-12), 1, generator=stream))])
    return torch.stack(centres)
