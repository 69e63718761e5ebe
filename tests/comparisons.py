"""How tests compare: numbers within a tolerance, counts with laws, messages with what they must say."""

import numpy as np
import pytest
from scipy import stats

from ppl_hmm.errors import InvalidInput

TOLERANCE = 1e-10


def arrays_of(result):
    """Return the arrays of a result by name: not what its states are called."""
    return {name: value for name, value in vars(result).items() if name != "names"}


def assert_equal(ours, expected, tolerance=TOLERANCE):
    """Compare within an absolute tolerance; infinities must match, NaN never does."""
    np.testing.assert_allclose(np.asarray(ours), np.asarray(expected), rtol=0, atol=tolerance, equal_nan=False)


def assert_shares(count, law):
    """Counts follow ``law`` within four standard errors in each cell and by a chi-square test; zeros never occur."""
    count, law = np.asarray(count, float).ravel(), np.asarray(law, float).ravel()
    n = count.sum()
    assert (count[law == 0] == 0).all()
    assert (np.abs(count - n * law) <= 4 * np.sqrt(n * law * (1 - law)) + 1e-9).all()
    usual = n * law >= 5
    if usual.sum() > 1:
        expected = n * law[usual] * (count[usual].sum() / (n * law[usual].sum()))
        assert stats.chisquare(count[usual], expected).pvalue > 1e-4


def check(call, what, expected, got, error=InvalidInput):
    """Check that ``call`` raises ``error`` with a message of four parts, which contain these words."""
    with pytest.raises(error) as caught:
        call()
    parts = caught.value.args
    assert len(parts) == 4
    assert all(isinstance(part, str) and part for part in parts)
    assert str(caught.value) == "{}: expected {}, got {}; {}".format(*parts)
    for part, words in zip(parts, (what, expected, got), strict=False):
        assert words in part


def case(name, call, what, expected, got, error=InvalidInput):
    return pytest.param(call, what, expected, got, error, id=name)
