"""One iteration of expectation-maximisation of all parameters, beside peers; and whether iterations stay as fast."""

from __future__ import annotations

import logging
import time

import numpy as np
import pytest
import torch

from benchmarks import peers, problems
from benchmarks.records import OWN, Shape
from ppl_hmm import fit_em, log_likelihood, random_hmm
from ppl_hmm.estimation.climb import Objective
from ppl_hmm.estimation.texts import WeightedTexts
from ppl_hmm.exact.baum_welch import Counts

# Peers may warn of what they import.
pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

#: Texts a user has: a few, the words of a book, the letters of one.
SHAPES = [Shape(10, 1000, 10, 30), Shape(200, 1000, 30, 5000), Shape(1, 300_000, 2, 30)]
AIM_OF_HMMLEARN = {10: 3, 30: 8, 2: 3}
#: Iterations in a row: a fit takes hundreds, and the first one after other work finds another machine.
IN_A_ROW = 5


@pytest.mark.parametrize("shape", SHAPES, ids=problems.as_id)
def test_iteration(shape, compare):
    logging.getLogger("hmmlearn").setLevel(logging.ERROR)  # that one iteration has not converged
    model, text = problem(shape)
    functions = {
        OWN: own_iteration(model, text),
        "hmmlearn, scaling": peers.hmmlearn_iteration(model, text, "scaling"),
        "hmmlearn, log": peers.hmmlearn_iteration(model, text, "log"),
        "dynamax": peers.dynamax_iteration(model, text),
    }
    evidence, laws = functions[OWN]()
    assert float(evidence) == pytest.approx(float(log_likelihood(model, text).sum()))
    np.testing.assert_allclose(laws.emission[0].T, functions["hmmlearn, scaling"]().emissionprob_, atol=1e-3)
    of_dynamax = functions["dynamax"]()
    assert float(of_dynamax[0]) == pytest.approx(float(evidence), rel=1e-3)
    np.testing.assert_allclose(of_dynamax[2], laws.transition[0], atol=2e-2)
    aims = {"hmmlearn, scaling": AIM_OF_HMMLEARN[shape.states], "hmmlearn, log": None, "dynamax": None}
    in_a_row = {name: repeated(function) for name, function in functions.items()}
    compare("quantities", f"{IN_A_ROW} EM iterations", model.dtype, shape, in_a_row, faster=aims)


def repeated(function):
    return lambda: [function() for _ in range(IN_A_ROW)][-1]


def problem(shape):
    """Return a start, and text from another model; a long text is made of many."""
    pieces = max(1, shape.length // 1000)
    _, text = problems.chain(Shape(shape.texts * pieces, shape.length // pieces, *shape_of_model(shape)), torch.float64)
    return random_hmm("dirichlet", *shape_of_model(shape), seed=1), text.reshape(shape.texts, shape.length)


def shape_of_model(shape):
    return shape.states, shape.vocabulary


def own_iteration(model, text):
    texts = WeightedTexts.of(text, vocabulary_size=model.vocabulary_size)
    objective = Objective(texts, prior=None, fixed=frozenset(), backend=None)
    laws = Counts(model.initial[None], model.transition[None], model.emission.T[None].contiguous())

    def iteration():
        evidence, counts = objective.counts(laws, texts.batches)
        return evidence, objective.maximise(counts, laws)

    return iteration


def test_no_iteration_takes_twice_the_first():
    """Entries go to zero on the way: none may drag a pass into logarithms."""
    text = problem(Shape(10, 1000, 10, 30))[1]
    starts = [fit_em(text, 10, start="random", restarts=1, max_iterations=n, seed=0).model for n in (1, 20, 100, 400)]
    iterations = [own_iteration(model, text) for model in starts]
    for iteration in iterations:
        iteration()
    taken = np.array([[timed(iteration) for iteration in iterations] for _ in range(21)])
    first, *later = taken.min(0)
    assert max(later) < 2 * first


def timed(function):
    began = time.process_time()
    function()
    return time.process_time() - began
