"""Witnesses are proofs: anyone re-checks them, and there is one exactly where no linear head classifies."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from ppl_hmm import HMM, InvalidInput, OracleLM, PosteriorTask, find_witness, posterior, probe_features, separability

CASES = [*itertools.product((2, 3, 4), (2, 3, 6), range(6))]  # classes, tokens, seed


def random_texts(n_classes, n_tokens, seed, *, separable):
    """Return random features (60,V) with random labels, or those of a random head that is sure of them."""
    rng = np.random.default_rng([n_classes, n_tokens, seed])
    features = rng.dirichlet(np.ones(n_tokens), size=400)
    if not separable:
        return features[:60], rng.integers(n_classes, size=60)
    scores = features @ rng.normal(size=(n_tokens, n_classes))
    top = np.sort(scores, axis=1)
    sure = top[:, -1] - top[:, -2] > 1e-3
    return features[sure][:60], scores[sure][:60].argmax(1)


def has_head(features, labels):
    """Say whether heads with margins of at least one exist: feasibility, with nothing of the package."""
    n_classes, n_tokens = labels.max() + 1, features.shape[1]
    rows = []
    for g, y in zip(features, labels, strict=True):
        for c in set(range(n_classes)) - {y}:
            row = np.zeros((n_classes, n_tokens))
            row[y], row[c] = -g, g
            rows.append(row.ravel())
    if not rows:
        return True
    return linprog(np.zeros(len(rows[0])), np.array(rows), -np.ones(len(rows)), bounds=(None, None)).status == 0


@pytest.mark.parametrize(("n_classes", "n_tokens", "seed"), CASES)
@pytest.mark.parametrize("separable", [False, True])
def test_there_is_a_witness_exactly_where_there_is_no_head(n_classes, n_tokens, seed, separable):
    features, labels = random_texts(n_classes, n_tokens, seed, separable=separable)
    witness, answer = find_witness(features, labels), separability(features, labels)
    assert (witness is None) == has_head(features, labels) == answer.separable
    assert not separable or witness is None
    if witness is None:
        scores = features @ np.atleast_2d(answer.weights).T
        scores = np.c_[-scores, scores] / 2 if scores.shape[1] == 1 else scores
        own = scores[np.arange(len(labels)), labels]
        scores[np.arange(len(labels)), labels] = -np.inf
        assert (own - scores.max(1)).min() == pytest.approx(answer.margin, abs=1e-9)


@pytest.mark.parametrize(("n_classes", "n_tokens", "seed"), CASES)
def test_a_witness_verifies_with_two_matrix_products(n_classes, n_tokens, seed):
    features, labels = random_texts(n_classes, n_tokens, seed, separable=False)
    witness = find_witness(features, labels)
    weights, own = witness.weights, np.zeros_like(witness.weights)
    own[np.arange(len(own)), witness.labels] = weights.sum(1)
    np.testing.assert_allclose(own.T @ witness.features, weights.T @ witness.features, rtol=0, atol=1e-14)
    assert witness.residual <= 1e-14
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    assert (weights[np.arange(len(own)), witness.labels] == 0).all()
    # It is about the texts that were given, and a basic solution: few of them.
    np.testing.assert_array_equal(features[witness.texts], witness.features)
    np.testing.assert_array_equal(labels[witness.texts], witness.labels)
    assert len(witness.texts) <= n_classes * n_tokens + 1
    if n_classes == 2:
        assert len(witness.texts) <= n_tokens + 1


@pytest.mark.parametrize(("n_classes", "n_tokens", "seed"), CASES[::4])
def test_every_head_is_refuted(n_classes, n_tokens, seed):
    features, labels = random_texts(n_classes, n_tokens, seed, separable=False)
    witness = find_witness(features, labels)
    rng = np.random.default_rng(seed)
    for head in rng.normal(size=(200, n_classes, n_tokens)):
        scores = witness.features @ head.T
        own = scores[np.arange(len(scores)), witness.labels]
        assert (own[:, None] - scores)[witness.weights > 0].min() <= np.abs(head).max() * witness.residual


def test_more_texts_do_not_remove_a_witness():
    features, labels = random_texts(2, 4, 0, separable=False)
    more, their = random_texts(2, 4, 1, separable=False)
    assert find_witness(np.r_[features, more], np.r_[labels, their]) is not None
    witness = find_witness(features, labels)
    assert find_witness(witness.features, witness.labels) is not None


def test_texts_that_nearly_coincide_are_no_witness():
    near = np.array([[0.5, 0.5], [0.5 + 1e-12, 0.5 - 1e-12]])
    assert find_witness(near, [0, 1]) is None
    assert find_witness(near, [0, 1], tolerance=1e-11) is not None
    assert find_witness(near[[0, 0]], [0, 1]).residual <= 1e-15


def test_one_class_needs_no_head():
    features, _ = random_texts(2, 3, 0, separable=False)
    for label in (0, 1, 2):
        assert find_witness(features, np.full(len(features), label)) is None


def test_absent_classes_change_nothing():
    features, labels = random_texts(2, 3, 0, separable=False)
    renamed = find_witness(features, 2 * labels)  # classes 0 and 2
    assert renamed is not None
    assert renamed.weights.shape[1] == 3
    np.testing.assert_allclose(renamed.weights[:, 1], 0, atol=1e-15)
    features, labels = random_texts(2, 3, 0, separable=True)
    assert find_witness(features, 2 * labels) is None


def test_aliased_states_leave_a_witness():
    model = HMM(
        [1 / 3] * 3,
        [[0.3, 0.0, 0.7], [0.0, 0.9, 0.1], [0.2, 0.6, 0.2]],
        [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6]],
    )
    task = PosteriorTask([[0, 0, 1], [1, 0, 0]])
    texts = np.array([[2, 2, 1, 1], [0, 0, 1, 1]])
    answers = task.answers(posterior(model, texts))
    assert answers.labels.tolist() == [1, 0]
    witness = find_witness(probe_features(OracleLM(model), texts), answers.labels)
    np.testing.assert_allclose(witness.weights, [[0.5, 0], [0, 0.5]], atol=1e-12)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        ([[0.5, 0.5]], [0, 1], r"expected shapes \(B, V\) and \(B,\), B at least 1"),
        ([[0.5, np.nan]], [1], "features: expected finite numbers"),
        ([[0.5, 0.5]], [-1], "labels: expected classes 0, 1, …"),
        ([[0.5, 0.5]], [0.5], "labels: expected classes 0, 1, …"),
    ],
)
def test_bad_input(features, labels, message):
    with pytest.raises(InvalidInput, match=message):
        find_witness(features, labels)


def test_classes_without_texts_keep_their_columns():
    features, labels = random_texts(2, 3, 0, separable=False)
    witness = find_witness(features, labels, n_classes=4)
    assert witness.weights.shape[1] == 4
    assert witness.residual <= 1e-14
    with pytest.raises(InvalidInput, match="n_classes: expected an integer of at least 2, got 1"):
        find_witness(features, labels, n_classes=1)
