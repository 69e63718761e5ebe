"""How many labelled texts an accuracy takes, and the intervals behind it."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from ppl_hmm import InvalidInput, texts_needed
from ppl_hmm.audits.labelled.curve import needed
from ppl_hmm.audits.labelled.intervals import difference, effective_size, wilson
from ppl_hmm.audits.labelled.learned import control_labels, distinct


def two_normals(n, separation, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    return rng.normal(size=(n, 5)) + separation * np.outer(2 * labels - 1, np.ones(5)) / np.sqrt(5), labels


def test_a_number_with_its_interval():
    found = texts_needed(*two_normals(300, 1.5, 0), 0.85, seed=0)
    assert found.low <= found.n_texts <= found.high
    assert 8 <= found.n_texts < 210
    assert found.n_learned == int(found.curve["n_texts"][-1])
    assert (np.diff(found.curve["mean"]) >= 0).all()
    assert str(found).startswith("85% accuracy takes about ")
    assert needed(found.curve, 0.9).value >= found.n_texts


def test_an_accuracy_beyond_the_best_is_not_extrapolated():
    found = texts_needed(*two_normals(200, 0.5, 0), 0.95, seed=0)  # the best head has 69 %
    assert found.n_texts == found.high == float("inf")
    assert "more than the 1" in str(found)


def test_an_easy_task_takes_the_fewest():
    found = texts_needed(np.eye(2)[[0, 1] * 50], ["a", "b"] * 50, 0.9, scale="log", seed=0)
    assert found.n_texts == found.curve["n_texts"][0]


def test_wilson_is_scipys():
    for n, right in ((10, 0), (10, 10), (37, 20), (500, 499)):
        expected = binomtest(right, n).proportion_ci(method="wilson")
        found = wilson(right / n, n)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_difference_holds_zero_for_equal_shares():
    found = difference(wilson(0.6, 50), wilson(0.6, 50))
    assert found.low < 0 < found.high
    assert found.low == pytest.approx(-found.high)


def test_texts_that_err_together_count_less():
    right = np.repeat(np.array([1.0, 0.0] * 10), 5)
    assert effective_size(right, None) == 100
    assert effective_size(right, np.arange(100)) == pytest.approx(100, rel=0.02)
    assert effective_size(right, np.repeat(np.arange(20), 5)) == pytest.approx(20, rel=0.1)
    assert effective_size(np.ones(100), np.repeat(np.arange(20), 5)) == 20


def test_control_labels_are_the_labels_dealt_out_to_types():
    features = np.random.default_rng(0).normal(size=(40, 3))[np.r_[np.arange(40), np.arange(20)]]
    labels = np.arange(60) % 3
    stream = torch.Generator().manual_seed(0)
    types = distinct(features)
    dealt = control_labels(labels, types, stream)
    assert len(np.unique(types)) == 40
    np.testing.assert_array_equal(dealt[40:], dealt[:20])
    np.testing.assert_array_equal(np.sort(dealt[:40]), np.sort(labels[:40]))


@pytest.mark.slow
def test_intervals_hold_the_truth():
    """Of 60 samples, the interval of the accuracy holds that of the same head on endless text as often as it says."""
    from ppl_hmm import audit_features
    from ppl_hmm.heads.linear import LinearHead

    fresh = two_normals(40_000, 1.0, 10_000)
    held = []
    for seed in range(60):
        tree = audit_features(*two_normals(200, 1.0, seed), seed=seed)
        row = tree["diagnostics/learned"].sel(approach="head")
        truth = LinearHead.from_dataset(tree["head/head-learned"].to_dataset()).score(*fresh)
        held.append(float(row["accuracy_low"]) <= truth <= float(row["accuracy_high"]))
    assert np.mean(held) >= 0.88, np.mean(held)  # 0.95 less 2.5 standard errors


def test_bad_input():
    with pytest.raises(InvalidInput, match="accuracy"):
        texts_needed(*two_normals(50, 1, 0), 85, seed=0)
    with pytest.raises(InvalidInput, match="scale='log'"):
        texts_needed(*two_normals(50, 1, 0), 0.8, scale="log", seed=0)
