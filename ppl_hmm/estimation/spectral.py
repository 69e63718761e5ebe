"""Starts from moments of triples of tokens."""

from __future__ import annotations

import numpy as np
import torch

from ppl_hmm.base.randomness import CPU
from ppl_hmm.estimation.moments import laws_of, leading, pair_counts, require_kinds, windows
from ppl_hmm.estimation.texts import WeightedTexts
from ppl_hmm.exact.baum_welch import Counts


def spectral_start(texts: WeightedTexts, n_states: int, stream: torch.Generator) -> Counts:
    """Return the laws whose triples of neighbours have the moments of the text, along one random direction.

    Let P₃₁ be the law of a token and the second one before it, with leading singular vectors U₃, S, U₁, and P₃₁(η) the
    same weighed by η of the token between. Then U₃ᵀ P₃₁(η) U₁ S⁻¹ = R diag(W η) R⁻¹ for every η: its eigenvectors R,
    for a random η, diagonalise the matrix of each token v, whose eigenvalues are W[:,v]. Parts that are complex or
    negative are cut off. Cost O(N·K + K³) for N tokens, and the singular vectors.

    Source: Hsu, Kakade & Zhang (2012); the recovery of W is that of Anandkumar, Hsu & Kakade (2012), §4.
    """
    require_kinds(texts, n_states, "spectral")
    size = texts.vocabulary_size
    triples, weights = windows(texts, 3)
    first, middle, last = triples.T
    left, values, right = leading(pair_counts(triples[:, [2, 0]], weights, size), n_states)
    largest = values.max(initial=0)
    inverse = np.where(values > 1e-12 * largest, 1 / np.where(values > 0, values, 1), 0)
    direction = torch.randn(size, generator=stream, dtype=torch.float64, device=CPU).numpy()
    of_last, of_first = left[last], (right * inverse)[first]
    _, vectors = np.linalg.eig((of_last * (weights * direction[middle])[:, None]).T @ of_first)
    products = (of_last @ np.linalg.pinv(vectors).T) * (of_first @ vectors)
    emission = np.zeros((size, n_states))
    np.add.at(emission, middle, (weights[:, None] * products).real)
    pairs, of_pairs = windows(texts, 2)
    return laws_of(texts, emission.T, pair_counts(pairs, of_pairs, size), stream)
