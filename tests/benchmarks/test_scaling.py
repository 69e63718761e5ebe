"""Time by number of texts, length and states, beside the peers and the roofline; and thousands of states."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks import peers, problems
from benchmarks.records import OWN, Shape
from ppl_hmm import posterior
from ppl_hmm.exact import chain

# Peers may warn of what they import.
pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

LINEAR, AT_MOST_QUADRATIC = (0.9, 1.1), (0.0, 2.0)
#: More states than this take hmmlearn and pomegranate many seconds.
MOST_STATES_OF_HMMLEARN = 128


@pytest.mark.parametrize(
    ("shape", "dimension", "sizes", "fitted_from", "aim"),
    [
        (Shape(10_000, 128, 30, 10), "texts", [1, 10, 100, 1000, 10_000], 100, LINEAR),
        (Shape(1, 100_000, 30, 10), "length", [10, 100, 1000, 10_000, 100_000], 1000, LINEAR),
        (Shape(64, 128, 1024, 100), "states", [4, 8, 16, 32, 64, 128, 256, 512, 1024], 16, AT_MOST_QUADRATIC),
    ],
    ids=["texts", "length", "states"],
)
def test_time_by_size(shape, dimension, sizes, fitted_from, aim, scale):
    functions = {}
    for size in sizes:
        some = dataclasses.replace(shape, **{dimension: size})
        model, text = problems.chain(some, torch.float32)
        functions[OWN, size] = smoothing(model, text)
        functions["dynamax", size] = peers.dynamax(model, text)
        if some.states <= MOST_STATES_OF_HMMLEARN:
            functions["hmmlearn", size] = peers.hmmlearn(model, text)
        functions["roofline", size] = peers.roofline(model, text)
        expected = posterior(model.to(torch.float64), text[:20]).smoothed
        np.testing.assert_allclose(functions[OWN, size]()[:20], expected, atol=1e-4)
    scale(dimension, torch.float32, shape, functions, fitted_from, aim)


def smoothing(model, text):
    return lambda: posterior(model, text).smoothed


def test_thousands_of_states_are_near_their_products(compare):
    shape = Shape(64, 128, 4096, 10_000)
    arrays = problems.large_chain(shape)
    functions = {
        OWN: lambda: chain.forward_backward(*arrays, range(shape.length)),
        "products": products_both_ways(arrays[1][0], shape),
        "own, bfloat16": lambda: chain.forward_backward(*arrays, range(shape.length), backend="torch-bfloat16"),
    }
    few = [array.to(torch.float64) for array in arrays[:3]] + [arrays[3][:, :2, :8]]
    expected = chain.forward_backward(*few, range(8)).marginals
    short = chain.forward_backward(*arrays[:3], few[3], range(8)).marginals
    np.testing.assert_allclose(short, expected, rtol=1e-3)
    compare("many states", "smoothed marginals", torch.float32, shape, functions, within={"products": 1.3})


def products_both_ways(transition, shape):
    law, out = torch.rand(shape.texts, shape.states), torch.empty(shape.texts, shape.states)

    def products():
        for _ in range(shape.length):
            torch.mm(law, transition, out=out)
            torch.mm(law, transition.T, out=out)

    return products
