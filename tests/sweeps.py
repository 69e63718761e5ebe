"""Sweeps over random cases: the first of them in every run of the tests, all of them in `make test-all`."""

import pytest


def sweep(cases, quick):
    """Return the cases, a number of seeds or a list, of which all but the first ``quick`` ones are marked slow."""
    cases = range(cases) if isinstance(cases, int) else cases
    return [case if i < quick else pytest.param(case, marks=pytest.mark.slow) for i, case in enumerate(cases)]
