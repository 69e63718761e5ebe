"""Gradient, evidence, masked conditionals, probe features and memory, beside peers where there are any."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import peers, problems
from benchmarks.records import OWN, Shape
from ppl_hmm import OracleLM, log_likelihood, masked_conditionals, posterior, probe_features

# Peers may warn of what they import.
pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.mark.parametrize(
    ("shape", "aim", "of_pyro"),
    [(Shape(1000, 128, 30, 10), 2.5, 100), (Shape(100, 128, 8, 10), 2, None)],
    ids=problems.as_id,
)
def test_value_and_gradient(shape, aim, of_pyro, compare):
    model, text = problems.chain(shape, torch.float32)
    functions = {
        OWN: own_gradient(model, text),
        "dynamax": peers.dynamax_gradient(model, text),
        "Pyro": peers.pyro_gradient(model, text),
    }
    value, gradient = own_gradient(model.to(torch.float64), text)()
    for function in functions.values():
        assert float(function()[0]) == pytest.approx(float(value), rel=1e-4)
    for ours, expected in zip(functions[OWN]()[1], gradient, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    aims = {"dynamax": aim, "Pyro": of_pyro}
    compare("quantities", "value and gradient", model.dtype, shape, functions, faster=aims)


def own_gradient(model, text):
    leaves = [array.clone().requires_grad_() for array in (model.initial, model.transition, model.emission)]

    def value_and_gradient():
        value = log_likelihood(type(model)(*leaves), text).sum()
        return value.detach(), torch.autograd.grad(value, leaves)

    return value_and_gradient


def test_evidence_alone(compare):
    shape = Shape(5000, 128, 30, 10)
    model, text = problems.chain(shape, torch.float32)
    functions = {
        OWN: lambda: log_likelihood(model, text),
        "own smoothing": lambda: posterior(model, text),
        "dynamax": peers.dynamax_evidence(model, text),
    }
    expected = log_likelihood(model.to(torch.float64), text)
    for name in (OWN, "dynamax"):
        np.testing.assert_allclose(functions[name](), expected, rtol=1e-4)
    aims = {"own smoothing": 1.7, "dynamax": None}
    compare("quantities", "evidence", model.dtype, shape, functions, faster=aims)


def test_masked_conditionals(compare):
    """G at every position. No peer computes it; smoothing says what one pass each way costs."""
    shape = Shape(1000, 128, 30, 10)
    model, text = problems.chain(shape, torch.float32)
    functions = {OWN: lambda: masked_conditionals(model, text), "own smoothing": lambda: posterior(model, text)}
    np.testing.assert_allclose(
        functions[OWN]()[:20], masked_conditionals(model.to(torch.float64), text[:20]), atol=1e-4
    )
    compare("quantities", "masked conditionals G", model.dtype, shape, functions)


def test_probe_features(compare):
    """What a head reads of each text. No peer computes it."""
    shape = Shape(5000, 128, 30, 10)
    model, text = problems.chain(shape, torch.float32)
    lm = OracleLM(model)
    functions = {OWN: lambda: probe_features(lm, text), "own smoothing": lambda: posterior(model, text)}
    expected = probe_features(OracleLM(model.to(torch.float64)), text[:20])
    np.testing.assert_allclose(functions[OWN]()[:20], expected, atol=1e-4)
    compare("quantities", "probe features", model.dtype, shape, functions)


def test_memory_posterior(compare):
    """No peer knows a memory: its user writes out the model of all pairs of a memory and a state."""
    shape = Shape(1000, 128, 10, 10)
    model, text = problems.with_memory(shape, torch.float32)
    flat = model.flatten()
    functions = {OWN: lambda: posterior(model, text), "dynamax, flattened": peers.dynamax(flat, text)}
    exact = posterior(model.to(torch.float64), text[:20])
    np.testing.assert_allclose(functions[OWN]().memory[:20], exact.memory, atol=1e-3)
    np.testing.assert_allclose(functions[OWN]().smoothed[:20], exact.smoothed, atol=1e-3)
    by_state = np.asarray(functions["dynamax, flattened"]()[:20])
    by_state = by_state.reshape(*by_state.shape[:2], -1, shape.states).sum(2)
    np.testing.assert_allclose(by_state, exact.smoothed, atol=1e-3)
    compare("quantities", "states and memory", model.dtype, shape, functions, faster={"dynamax, flattened": None})
