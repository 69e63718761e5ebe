"""Smoothed marginals beside the peers, each in its own precision. Correctness first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import peers, problems
from benchmarks.records import OWN, Shape
from ppl_hmm import posterior

# Peers may warn of what they import.
pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

QUANTITY = "smoothed marginals"


def own(model, text):
    return lambda: posterior(model, text).smoothed


def exact(model, text):
    return posterior(model.to(torch.float64), text).smoothed


@pytest.mark.parametrize(
    ("shape", "aim", "of_roofline"),
    [
        (Shape(5000, 128, 8, 10), 2, None),
        (Shape(5000, 128, 30, 10), 3.5, 1.6),
        (Shape(1, 10240, 8, 10), 1.2, None),
        (Shape(1, 10240, 30, 10), 3, None),
        (Shape(64, 512, 256, 100), 1.8, 1.7),
    ],
    ids=problems.as_id,
)
def test_float32_beside_dynamax_and_the_roofline(shape, aim, of_roofline, compare):
    model, text = problems.chain(shape, torch.float32)
    functions = {OWN: own(model, text), "dynamax": peers.dynamax(model, text)}
    expected = exact(model, text[:20])
    np.testing.assert_allclose(functions[OWN]()[:20], expected, atol=1e-4)
    np.testing.assert_allclose(functions["dynamax"]()[:20], expected, atol=1e-3)
    if shape.texts > 1:  # one row a product is calls and no work
        functions["roofline"] = peers.roofline(model, text)
    within = {} if of_roofline is None else {"roofline": of_roofline}
    compare("smoothing", QUANTITY, model.dtype, shape, functions, faster={"dynamax": aim}, within=within)


@pytest.mark.parametrize(
    ("shape", "aim"),
    [
        (Shape(5000, 128, 8, 10), 5),
        (Shape(5000, 128, 30, 10), 5),
        (Shape(1, 10240, 8, 10), 2),
        (Shape(1, 10240, 30, 10), 4),
        (Shape(64, 512, 256, 100), 5),
    ],
    ids=problems.as_id,
)
def test_float64_beside_hmmlearn(shape, aim, compare):
    model, text = problems.chain(shape, torch.float64)
    functions = {OWN: own(model, text), "hmmlearn": peers.hmmlearn(model, text)}
    np.testing.assert_allclose(functions[OWN](), functions["hmmlearn"](), atol=1e-9)
    compare("smoothing", QUANTITY, model.dtype, shape, functions, faster={"hmmlearn": aim})


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        (Shape(500, 128, 8, 10), ["pomegranate", "Pyro"]),
        (Shape(500, 128, 30, 10), ["pomegranate", "Pyro"]),
        (Shape(1, 10240, 8, 10), ["pomegranate", "Pyro"]),
        (Shape(1, 10240, 30, 10), ["pomegranate", "Pyro"]),
        (Shape(8, 512, 256, 100), ["pomegranate"]),  # Pyro holds a K×K matrix for each token
    ],
    ids=problems.as_id,
)
def test_float32_beside_slower_peers(shape, names, compare):
    """On fewer texts, as they take seconds. Pyro has no smoother: its filter, half of the work, is timed."""
    model, text = problems.chain(shape, torch.float32)
    of_peers = {"pomegranate": peers.pomegranate, "Pyro": peers.pyro_filter}
    functions = {OWN: own(model, text), **{name: of_peers[name](model, text) for name in names}}
    expected = exact(model, text[:20])
    np.testing.assert_allclose(functions[OWN]()[:20], expected, atol=1e-4)
    np.testing.assert_allclose(functions["pomegranate"]()[:20], expected, atol=1e-2)
    if "Pyro" in names:  # what is filtered and what is smoothed agree where the text ends
        np.testing.assert_allclose(functions["Pyro"]()[:20], expected[:, -1], atol=1e-3)
    compare("smoothing", QUANTITY, model.dtype, shape, functions, faster=dict.fromkeys(names))
