"""Programmes of many tokens and nearly dependent rows, which HiGHS once gave up."""

import numpy as np
import pytest

from ppl_hmm import chain_certificate, random_hmm, state_of_word


@pytest.mark.parametrize("seed", [25, 41])
def test_the_head_is_found_and_no_wider_than_that_of_least_norm(seed):
    model = random_hmm("dirichlet", 2, 60, seed=seed, concentration=0.1)
    task = state_of_word(int(model.emission.sum(0).argmax()))(model)
    found = chain_certificate(model, task, 2)
    assert found.recoverable
    assert np.isfinite(found.half_range)
    widest = np.ptp(found.weights.reshape(2, -1).numpy(), axis=1).max() / 2
    assert found.half_range == pytest.approx(widest)
