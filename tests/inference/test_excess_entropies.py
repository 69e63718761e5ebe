"""Bounds of the excess entropy become narrow, too, where those of the rate are so at once."""

import math

import numpy as np
import pytest

from ppl_hmm import HMM, entropies, process, random_hmm


def binary(p):
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


INDEPENDENT = {
    "mess3": process("mess3", alpha=1 / 3),
    "one law in every state": HMM([0.2, 0.8], [[0.6, 0.4], [0.3, 0.7]], [[0.1, 0.9], [0.1, 0.9]]),
    "a state that forgets": HMM([0.2, 0.8], [[0.6, 0.4], [0.6, 0.4]], [[0.1, 0.9], [0.5, 0.5]]),
}


@pytest.mark.parametrize("model", INDEPENDENT.values(), ids=INDEPENDENT)
def test_independent_tokens_tell_nothing_of_each_other(model):
    lower, upper = entropies(model, 2).excess_entropy.values
    assert lower == 0
    assert upper < 1e-6


@pytest.mark.parametrize("seed", [0, 1, 2])  # models that mix before there are many texts
def test_bounds_are_narrow_where_the_rate_is_known(seed):
    model = random_hmm("dirichlet", 3, 2, seed=seed)
    wide, fine = entropies(model, 2), entropies(model, 2, precision=1e-9)
    for found, width in ((wide, 1e-6), (fine, 1e-8)):
        lower, upper = found.excess_entropy.values
        assert 0 <= lower <= upper <= lower + width
    assert wide.excess_entropy[0] <= fine.excess_entropy[1]
    assert fine.excess_entropy[0] <= wide.excess_entropy[1]


def test_a_markov_chain_tells_of_one_token():
    """Its state is seen: E = H(X_1) − h."""
    stay = 0.999
    model = HMM([0.5, 0.5], [[stay, 1 - stay], [1 - stay, stay]], [[1, 0], [0, 1]])
    np.testing.assert_allclose(entropies(model, 2).excess_entropy, math.log(2) - binary(stay), rtol=0, atol=1e-9)


def test_what_no_text_ever_shows_stays_between_bounds():
    """Text of a hidden clock is independent, but its parity would never be known from S_0 alone."""
    found = entropies(HMM([0.5, 0.5], [[0, 1], [1, 0]], [[0.3, 0.7], [0.3, 0.7]]), 2)
    assert found.excess_entropy.values.tolist() == pytest.approx([0, math.log(2)], abs=1e-9)
    assert found.attrs["rate_length"] == 1000
