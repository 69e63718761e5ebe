"""n-gram baselines: laws on tokens, right limits, and the left-out likelihood that their weights maximise."""

import itertools

import numpy as np
import pytest
from comparisons import case, check

from ppl_hmm import HMM, sample
from ppl_hmm.estimation.ngrams import NGramModel

CHAIN = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.2, 0.1, 0], [0, 0.1, 0.2, 0.7]])
TEXTS = sample(CHAIN, 30, 40, seed=0).tokens


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_texts_of_a_length_sum_to_one(order):
    model = NGramModel.fit(TEXTS[:5, :7], order, vocabulary_size=4)
    every = list(itertools.product(range(4), repeat=4))
    assert np.exp(model.log_likelihood(every)).sum() == pytest.approx(1, abs=1e-12)
    assert np.exp(model.log_likelihood([[token] for token in range(4)])).min() > 0


def left_out(texts, order, weights):
    """Return Σ log P of each token when it alone is left out of the counts, written out: one weight for an order."""
    positions = [(b, t) for b in range(len(texts)) for t in range(len(texts[0]))]
    total = 0.0
    for b, t in positions:
        probability = 1 / 4
        for n in range(order):
            if t < n:
                break
            context = tuple(texts[b][t - n : t])
            same = [(c, s) for c, s in positions if s >= n and tuple(texts[c][s - n : s]) == context]
            others = [texts[c][s] for c, s in same if (c, s) != (b, t)]
            if others:
                share = others.count(texts[b][t]) / len(others)
                probability = weights[n] * share + (1 - weights[n]) * probability
        total += np.log(probability)
    return total


def test_weights_maximise_the_likelihood_left_out():
    texts = TEXTS[:3, :15].tolist()
    unigram = NGramModel.fit(texts, 1, vocabulary_size=4)
    (weight,) = {unigram.orders[0].weights[-1]}  # all tokens have one context: one bucket
    values = {shift: left_out(texts, 1, [weight + shift]) for shift in (-0.02, 0, 0.02) if weight + shift < 1}
    assert max(values, key=values.get) == 0


def test_a_higher_order_is_nearer_to_the_source():
    tests = sample(CHAIN, 50, 40, seed=1).tokens
    found = [NGramModel.fit(TEXTS, order, vocabulary_size=4).log_likelihood(tests).sum() for order in (1, 2)]
    assert found[1] > found[0]


def test_masks_and_ends_are_left_out():
    model = NGramModel.fit([[0, 1, 2], [1, 2]], 3, vocabulary_size=4)
    alone, together = model.log_likelihood([[0], [2]]), model.log_likelihood([[0, -1, 2]])
    assert together == pytest.approx(alone.sum())
    assert model.log_likelihood([[0, 1], [0]])[1] == pytest.approx(alone[0])
    assert model.log_likelihood([[-1, -1]]) == 0
    filled = NGramModel.fit([[0, 1, 2, -1], [1, 2, -1, -1]], 3, vocabulary_size=4)
    assert np.array_equal(filled.log_likelihood([[0, 1, 2]]), model.log_likelihood([[0, 1, 2]]))


BAD = [
    case("order", lambda: NGramModel.fit([[0, 1]], 0), "order", "at least 1", "0"),
    case("no text", lambda: NGramModel.fit([[-1, -1]], 2), "tokens of an n-gram model", "one observed", "masks only"),
    case("too many contexts", lambda: NGramModel.fit([[0, 5000]], 6), "order", "V^n", "5001^6"),
    case("token beyond V", lambda: NGramModel.fit([[0, 3]], 2, vocabulary_size=3), "position 1", "0..2", "3"),
]


@pytest.mark.parametrize(("call", "what", "expected", "got", "error"), BAD)
def test_bad_input(call, what, expected, got, error):
    check(call, what, expected, got, error)
