"""Conditionals at several masks from the message behind one: those of text that was encoded with all of them."""

import itertools

import numpy as np
import pytest
from comparisons import assert_equal

from ppl_hmm import HMM, OracleLM, probe_features, random_hmm, random_memory_hmm, sample
from ppl_hmm.language_models.probe import probe_input

TEXTS = np.array(list(itertools.product(range(4), repeat=3)))
MODELS = {
    "one": random_hmm("dirichlet", 3, 4, 0),
    "batch": HMM.stack([random_hmm("dirichlet", 3, 4, seed) for seed in (0, 1)]),
    "memory": random_memory_hmm("dirichlet", 2, 2, 4, seed=0),
    "two cells": random_memory_hmm("dirichlet", 2, 2, 4, seed=0, n_cells=2),
}


def both(model, texts, n_masks):
    lm = OracleLM(model)
    found = lm.encode(probe_input(lm, texts)).at_masks(n_masks)
    return found, probe_features(lm, texts, n_masks=n_masks, impossible="mask")


@pytest.mark.parametrize("n_masks", [1, 2, 4])
@pytest.mark.parametrize("name", MODELS)
def test_they_are_those_of_text_with_all_masks(name, n_masks):
    assert_equal(*both(MODELS[name], TEXTS, n_masks))


def test_nearly_deterministic_models():
    model = random_hmm("wei2021", 30, 10, 0)
    assert_equal(*both(model, sample(model, 200, 80, 0).tokens, 4))


def test_contexts_near_underflow_and_impossible_ones():
    faint = HMM([1.0, 0], [[1e-200, 1 - 1e-200], [0.5, 0.5]], [[1 - 1e-150, 1e-150], [0, 1.0]])
    assert_equal(*both(faint, [[0, 0, 0], [1, 1, 1], [0, 1, 0]], 3))
    absorbing = HMM([0.5, 0.5], [[0, 1], [0, 1]], [[1, 0], [0, 1]])
    found, expected = both(absorbing, [[0, 0, 0], [1, 1, 1]], 2)
    assert_equal(found, expected)
    assert (found[0] == 0).all()
