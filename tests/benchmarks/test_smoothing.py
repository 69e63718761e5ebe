"""Time of smoothed marginals beside hmmlearn, in one process, alternating; correctness first."""

import statistics
import time

import numpy as np
import pytest
import torch

from ppl_hmm import posterior, random_hmm, sample

pytestmark = pytest.mark.benchmark


def seconds(function) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def test_smoothed_marginals_are_three_times_faster_than_hmmlearn():
    torch.set_num_threads(2)
    model = random_hmm("dirichlet", 30, 10, seed=0)
    text = sample(model, 5000, 128, seed=0).tokens
    peer = model.to_hmmlearn()
    peer.implementation = "scaling"
    column, lengths = text.numpy().reshape(-1, 1), [text.shape[1]] * len(text)
    np.testing.assert_allclose(
        posterior(model, text[:50]).smoothed.numpy().reshape(-1, 30),
        peer.predict_proba(column[: 50 * 128], lengths[:50]),
        atol=1e-10,
    )
    posterior(model, text)  # warm-up
    own, other = [], []
    for _ in range(3):
        own.extend(seconds(lambda: posterior(model, text)) for _ in range(3))
        other.append(seconds(lambda: peer.score_samples(column, lengths)))
    print(
        f"\nown {statistics.median(own):.3f} s, hmmlearn {statistics.median(other):.3f} s, "
        f"ratio {statistics.median(other) / statistics.median(own):.1f}"
    )
    assert statistics.median(other) > 3 * statistics.median(own)
    assert statistics.median(own) < 0.35
