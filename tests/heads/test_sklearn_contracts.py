"""Heads where scikit-learn expects classifiers: searches, pipelines, weights, probabilities."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import _safe_indexing, check_random_state, indexable, resample, shuffle
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import _num_samples

from ppl_hmm import AttentionHead, InvalidInput, LinearHead, OracleLM, example, masked_features, posterior, sample


@pytest.fixture(scope="module")
def data():
    model, task = example("memory")
    tokens = sample(model, 60, 6, 0).tokens
    return masked_features(OracleLM(model), tokens), task.labels(posterior(model, tokens)).numpy()


# Features as data.


def assert_texts(selected, features, numbers):
    for name in ("conditionals", "tokens", "lengths"):
        assert torch.equal(getattr(selected, name), getattr(features, name)[list(numbers)])


@pytest.mark.parametrize(
    ("index", "numbers"),
    [
        (7, [7]),
        (-1, [59]),
        (np.int64(3), [3]),
        (slice(50, None, 4), [50, 54, 58]),
        (slice(None, None, -20), [59, 39, 19]),
        (slice(5, 5), []),
        ([2, 2, 0], [2, 2, 0]),
        (np.array([1, -2], np.int32), [1, 58]),
        (torch.tensor([4, 3]), [4, 3]),
        (np.arange(60) < 2, [0, 1]),
        (torch.arange(60) > 57, [58, 59]),
        (range(2), [0, 1]),
    ],
)
def test_texts_are_selected_as_by_numpy(index, numbers, data):
    assert_texts(data[0][index], data[0], numbers)


def test_features_have_the_sizes_that_scikit_learn_asks_for(data):
    features, labels = data
    assert features.shape == (60, 6, 5)
    assert _num_samples(features) == len(features) == 60
    assert indexable(features, labels)[0] is features
    assert_texts(_safe_indexing(features, np.array([3, 1])), features, [3, 1])
    order = check_random_state(0).permutation(60)
    assert_texts(shuffle(features, random_state=0), features, order)
    assert len(resample(features, n_samples=9, random_state=0)) == 9
    with pytest.raises(IndexError):
        features[60]


# The attention head.


def test_attention_heads_are_searched_split_and_piped(data):
    features, labels = data
    train, test, train_labels, test_labels = train_test_split(features, labels, test_size=20, random_state=0)
    assert (len(train), len(test)) == (40, 20)
    head = AttentionHead(C=10.0)
    scores = cross_val_score(head, features, labels, cv=2, error_score="raise")
    assert scores.shape == (2,)
    assert cross_val_predict(head, features, labels, cv=2, method="predict_proba").shape == (60, 2)
    search = GridSearchCV(Pipeline([("head", head)]), {"head__C": [1.0, 1e4]}, cv=2, error_score="raise")
    search.fit(train, train_labels)
    best = clone(head).set_params(C=search.best_params_["head__C"]).fit(train, train_labels)
    assert search.score(test, test_labels) == best.score(test, test_labels)
    pipe = make_pipeline(clone(best)).fit(train, train_labels)
    np.testing.assert_array_equal(pipe.predict(test), search.predict(test))


# Probabilities.


def assert_law(law, head, predicted):
    np.testing.assert_allclose(law.sum(1), 1, rtol=0, atol=1e-12)
    assert (law >= 0).all()
    last = law.shape[1] - 1 - law[:, ::-1].argmax(1)  # ties to the higher class
    np.testing.assert_array_equal(head.classes_[last], predicted)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities_are_those_of_the_regression(n_classes):
    rng = np.random.default_rng(n_classes)
    X, y = rng.dirichlet(np.ones(4), 50), np.array(["a", "b", "c"])[rng.integers(n_classes, size=50)]
    head, theirs = LinearHead(C=10.0).fit(X, y), LogisticRegression(C=10.0, solver="newton-cholesky").fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-6)
    assert_law(head.predict_proba(X), head, head.predict(X))


def test_probabilities_of_ties_and_of_far_scores():
    for weights, law in (([0.0, 0.0], [[0.5, 0.5]]), (np.zeros((3, 2)), [[1 / 3] * 3]), ([-900.0, 0], [[1.0, 0.0]])):
        head = LinearHead.from_weights(weights)
        np.testing.assert_allclose(head.predict_proba([[1.0, 0.0]]), law, rtol=0, atol=1e-15)
        assert_law(head.predict_proba([[1.0, 0.0]]), head, head.predict([[1.0, 0.0]]))


def test_probabilities_of_attention_heads(data):
    features, labels = data
    for named in (labels, features.tokens[:, 0].numpy() % 3):
        head = AttentionHead(scores="token").fit(features, named)
        assert_law(head.predict_proba(features), head, head.predict(features))


# Weights.


@pytest.mark.parametrize("n_classes", [2, 3])
def test_weights_count_as_repetitions(n_classes):
    rng = np.random.default_rng(n_classes)
    X, y, weights = rng.dirichlet(np.ones(4), 60), rng.integers(n_classes, size=60), rng.integers(4, size=60)
    head = LinearHead(C=10.0).fit(X, y, sample_weight=weights)
    repeated = LinearHead(C=10.0).fit(X.repeat(weights, 0), y.repeat(weights))
    np.testing.assert_allclose(head.coef_, repeated.coef_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(head.intercept_, repeated.intercept_, rtol=0, atol=1e-6)
    score = head.score(X, y, sample_weight=weights)
    assert score == pytest.approx(head.score(X.repeat(weights, 0), y.repeat(weights)), abs=1e-12)
    np.testing.assert_array_equal(LinearHead().fit(X, y, sample_weight=1.0).coef_, LinearHead().fit(X, y).coef_)


def test_a_class_without_weight_is_left_out():
    X, y = np.random.default_rng(0).dirichlet(np.ones(3), 30), np.arange(30) % 3
    head = LinearHead().fit(X, y, sample_weight=y < 2)
    assert head.classes_.tolist() == [0, 1]
    np.testing.assert_array_equal(head.coef_, LinearHead().fit(X[y < 2], y[y < 2]).coef_)


@pytest.mark.parametrize("weights", [np.ones(29), np.ones((30, 1)), -np.ones(30), np.zeros(30), np.full(30, np.nan)])
def test_bad_weights(weights):
    X, y = np.random.default_rng(0).dirichlet(np.ones(3), 30), np.arange(30) % 2
    with pytest.raises(InvalidInput, match="sample_weight: expected 30 finite numbers ≥ 0, not all zero"):
        LinearHead().fit(X, y, sample_weight=weights)


@pytest.mark.parametrize(("labels", "weights"), [(np.ones(30), None), (np.arange(30) < 15, np.arange(30) < 15)])
def test_labels_of_one_class(labels, weights):
    X = np.random.default_rng(0).dirichlet(np.ones(3), 30)
    with pytest.raises(InvalidInput, match="labels: expected at least two classes, got one class, "):
        LinearHead().fit(X, labels, sample_weight=weights)


# scikit-learn's own checks.


def test_scikit_learn_checks_the_linear_head():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(LinearHead(), on_skip=None, on_fail=None)
    failed = {result["check_name"]: repr(result["exception"]) for result in results if result["status"] == "failed"}
    assert failed == {}
    assert sum(result["status"] == "passed" for result in results) > 40
