"""Logarithms of whole vectors are the C library's to a few roundings."""

import numpy as np
import pytest
from numba import njit

from ppl_hmm.exact.backends.compiled.steps import log_row


@njit
def replaced(numbers):
    for row in range(len(numbers)):
        log_row(numbers, row)
    return numbers


def numbers(kind):
    rng = np.random.default_rng(0)
    powers = np.arange(-1021.0, 1024)
    beside = rng.integers(-(2**20), 2**20, size=8192) * np.finfo(float).eps
    return {
        "every size": np.exp2(powers) * rng.uniform(1, 2, size=(8, len(powers))),
        "powers of two": np.exp2(powers),
        "near one": np.concatenate([1 + beside, 1 + rng.uniform(-0.5, 0.5, size=8192)]),
        "between zero and one": rng.random(8192),
        "totals in float32": rng.random(8192, dtype=np.float32).astype(float),
        "root of a half": np.sqrt(0.5) * (1 + np.arange(-8, 8) * np.finfo(float).eps),
    }[kind].ravel()


@pytest.mark.parametrize(
    "kind",
    ["every size", "powers of two", "near one", "between zero and one", "totals in float32", "root of a half"],
)
def test_logarithms(kind):
    whole = numbers(kind)
    whole = np.resize(whole, 16 * (len(whole) // 16 + 1)).reshape(-1, 16)
    np.testing.assert_allclose(replaced(whole.copy()), np.log(whole), rtol=4 * np.finfo(float).eps, atol=0)


def test_the_logarithm_of_nothing_is_minus_infinity():
    ours = replaced(np.array([[0.0, 1.0] * 8]))
    np.testing.assert_array_equal(ours, [[-np.inf, 0.0] * 8])
