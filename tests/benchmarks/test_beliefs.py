"""Filtered beliefs beside dynamax's filter, in float32. Correctness first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import peers, problems
from benchmarks.records import OWN, Shape
from ppl_hmm import beliefs

# Peers may warn of what they import.
pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.mark.parametrize(
    "shape", [Shape(5000, 128, 3, 10), Shape(5000, 128, 30, 10), Shape(1, 100_000, 8, 10)], ids=problems.as_id
)
def test_filtered_beliefs(shape, compare):
    """Ours also hold the law before any token, and the log-probability of each prefix."""
    model, text = problems.in_pieces(shape, torch.float32)
    functions = {OWN: lambda: beliefs(model, text).filtered, "dynamax": peers.dynamax_filter(model, text)}
    expected = beliefs(model.to(torch.float64), text[:20]).filtered
    np.testing.assert_allclose(functions[OWN]()[:20], expected, atol=1e-4)
    np.testing.assert_allclose(functions["dynamax"]()[:20], expected[:, 1:], atol=1e-4)
    compare("beliefs", "filtered beliefs", model.dtype, shape, functions, faster={"dynamax": None})
