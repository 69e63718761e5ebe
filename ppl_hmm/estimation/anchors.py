"""Starts from anchor tokens: those that a single state emits, whose contexts are that state's."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import nnls
from scipy.sparse import csr_array, hstack

from ppl_hmm.base.randomness import CPU
from ppl_hmm.estimation.moments import laws_of, pair_counts, require_kinds, windows
from ppl_hmm.estimation.texts import WeightedTexts
from ppl_hmm.exact.baum_welch import Counts

#: Coordinates of a context for each state.
_COORDINATES = 2
#: Weight of the condition that shares sum to one.
_SUM_TO_ONE = 10.0


def anchor_start(texts: WeightedTexts, n_states: int, stream: torch.Generator) -> Counts:
    """Return the laws in which K tokens of extreme contexts belong to one state each.

    The law of a token's neighbours is the average over the states that emit it, so that anchors are the corners of all
    tokens' laws: found one by one as the farthest from the span of those before, among the more frequent half, in
    random coordinates. Each other token's law as an average of the anchors' gives P(state | token) ∝ W. Cost O(V·K³).

    Source: Arora et al. (2013), for topics; Stratos, Collins & Hsu (2016), for hidden Markov models.
    """
    require_kinds(texts, n_states, "anchors")
    size, counts = texts.vocabulary_size, texts.token_counts().numpy()
    runs, weights = windows(texts, 2)
    pairs = pair_counts(runs, weights, size)
    neighbours = csr_array(hstack([pairs, pairs.T]))
    laws = neighbours / np.maximum(neighbours.sum(1), 1e-300)[:, None]
    shape = (2 * size, max(10, _COORDINATES * n_states))
    contexts = laws @ torch.randn(*shape, generator=stream, dtype=torch.float64, device=CPU).numpy()
    order = np.argsort(-counts, kind="stable")[: (counts > 0).sum()]
    anchors = _corners(contexts, order[: max(n_states, len(order) // 2)], n_states)
    corners = np.vstack([contexts[anchors].T, np.full(n_states, _SUM_TO_ONE)])
    shares = np.zeros((size, n_states))
    for token in order:
        shares[token], _ = nnls(corners, np.append(contexts[token], _SUM_TO_ONE))
    return laws_of(texts, (shares * counts[:, None]).T, pairs, stream)


def _corners(points: np.ndarray, candidates: np.ndarray, n_corners: int) -> np.ndarray:
    """Return candidates far from the span of each other: the first from the mean, the others from those before."""
    left = points[candidates] - points[candidates].mean(0)
    chosen = [int(np.square(left).sum(1).argmax())]
    left = points[candidates] - points[candidates[chosen[0]]]
    for _ in range(n_corners - 1):
        lengths = np.square(left).sum(1)
        lengths[chosen] = -1
        chosen.append(int(lengths.argmax()))
        axis = left[chosen[-1]] / max(np.sqrt(max(lengths[chosen[-1]], 0)), 1e-300)
        left = left - np.outer(left @ axis, axis)
    return candidates[chosen]
