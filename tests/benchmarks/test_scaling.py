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
from ppl_hmm.exact.recursion import Chain

# Peers may warn of what they import.
pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

LINEAR, AT_MOST_QUADRATIC = (0.9, 1.1), (0.0, 2.0)
#: hmmlearn takes many seconds for more states than this.
MOST_STATES_OF_HMMLEARN = 128
#: A product of fewer rows is a call and no work.
FEWEST_TEXTS_OF_ROOFLINE = 64


@pytest.mark.parametrize(
    ("shape", "dimension", "sizes", "fitted_from", "aim"),
    [
        (Shape(100_000, 128, 8, 10), "texts", [1, 10, 100, 1000, 10_000, 100_000], 1000, LINEAR),
        (Shape(1, 1_000_000, 30, 10), "length", [100, 1000, 10_000, 100_000, 1_000_000], 10_000, LINEAR),
        (Shape(64, 128, 1024, 100), "states", [4, 8, 16, 32, 64, 128, 256, 512, 1024], 16, AT_MOST_QUADRATIC),
    ],
    ids=["texts", "length", "states"],
)
def test_time_by_size(shape, dimension, sizes, fitted_from, aim, scale):
    functions = {}
    for size in sizes:
        some = dataclasses.replace(shape, **{dimension: size})
        model, text = problems.in_pieces(some, torch.float32)
        expected = posterior(model.to(torch.float64), text[:20]).smoothed
        np.testing.assert_allclose(posterior(model, text).smoothed[:20], expected, atol=1e-4)
        functions |= {(name, size): function for name, function in smoothers(some, model, text).items()}
    scale(dimension, torch.float32, shape, functions, fitted_from, aim)


def smoothers(shape, model, text):
    functions = {OWN: lambda: posterior(model, text).smoothed, "dynamax": peers.dynamax(model, text)}
    if shape.states <= MOST_STATES_OF_HMMLEARN:
        functions["hmmlearn"] = peers.hmmlearn(model, text)
    if shape.texts >= FEWEST_TEXTS_OF_ROOFLINE:
        functions["roofline"] = peers.roofline(model, text)
    return functions


def test_thousands_of_states_are_near_their_products(compare):
    shape = Shape(64, 128, 4096, 10_000)
    arrays = problems.large_chain(shape)
    functions = {
        OWN: lambda: chain.forward_backward(Chain(*arrays), range(shape.length)),
        "products": products_both_ways(arrays[1][0], shape),
    }
    few = [array.to(torch.float64) for array in arrays[:3]] + [arrays[3][:, :2, :8]]
    expected = chain.forward_backward(Chain(*few), range(8)).marginals
    short = chain.forward_backward(Chain(*arrays[:3], few[3]), range(8)).marginals
    np.testing.assert_allclose(short, expected, rtol=1e-3)
    compare("many states", "smoothed marginals", torch.float32, shape, functions, within={"products": 1.3})


def test_products_in_bfloat16(compare):
    """Of fewer tokens: where the processor has no instructions for it, they take longer than in float32."""
    shape = Shape(64, 8, 4096, 10_000)
    arrays = problems.large_chain(shape)
    functions = {
        OWN: lambda: chain.forward_backward(Chain(*arrays), range(shape.length)),
        "own, bfloat16": lambda: chain.forward_backward(Chain(*arrays), range(shape.length), backend="torch-bfloat16"),
    }
    laws = [function().marginals for function in functions.values()]
    relative = np.expm1(2 * 3 * shape.length * (2**-8 + 1e-4))  # three roundings a step in a ratio of products
    np.testing.assert_allclose(*laws, rtol=relative)
    compare("many states", "smoothed marginals", torch.float32, shape, functions)


def products_both_ways(transition, shape):
    law, out = torch.rand(shape.texts, shape.states), torch.empty(shape.texts, shape.states)

    def products():
        for _ in range(shape.length):
            torch.mm(law, transition, out=out)
            torch.mm(law, transition.T, out=out)

    return products
