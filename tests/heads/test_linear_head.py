"""The linear head: a scikit-learn classifier with the theorems' rule for ties."""

import numpy as np
import pytest
from comparisons import check
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from ppl_hmm.errors import InvalidInput
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.heads.logistic import DEFAULT_GRID, logistic_path


@parametrize_with_checks([LinearHead(), LinearHead(features="log", C=100.0)])
def test_it_is_a_scikit_learn_classifier(estimator, check):
    check(estimator)


def blobs(seed, n=200, n_tokens=4, n_classes=2):
    """Conditionals with a label that a noisy linear score decides."""
    rng = np.random.default_rng(seed)
    features = rng.dirichlet(np.ones(n_tokens), size=n)
    scores = features @ rng.normal(size=(n_tokens, n_classes)) + 0.1 * rng.normal(size=(n, n_classes))
    return features, (scores - np.median(scores, axis=0)).argmax(1)


@pytest.mark.parametrize("features", ["probability", "log"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_fit_is_penalised_logistic_regression(n_classes, features):
    """C·Σ log-loss + ‖coef‖²/2 is stationary there, to scikit-learn's default 1e-4 on the mean."""
    rows, labels = blobs(0, n_classes=n_classes)
    C = 10.0
    head = LinearHead(C=C, features=features).fit(rows, labels)
    read = np.log(rows) if features == "log" else rows
    scores = head.decision_function(rows)
    if n_classes == 2:
        excess = (expit(scores) - labels)[:, None]
    else:
        excess = softmax(scores, axis=1) - np.eye(n_classes)[labels]
    of_coefficients = excess.T @ read / len(rows) + head.coef_ / (C * len(rows))
    assert np.abs(of_coefficients).max() < 1e-4
    assert np.abs(excess.mean(0)).max() < 1e-4
    assert np.abs(head.coef_).max() > 0.1
    assert head.coef_.shape == (1 if n_classes == 2 else 3, 4)
    assert head.classes_.tolist() == list(range(n_classes))
    assert head.score(rows, labels) > 0.8


def test_it_works_inside_scikit_learn():
    features, labels = blobs(1)
    assert cross_val_score(LinearHead(C=100.0), features, labels, cv=4).mean() > 0.8
    assert clone(LinearHead(C=3.0, features="log", floor=1e-5)).get_params() == {
        "C": 3.0,
        "features": "log",
        "floor": 1e-5,
    }


# Ties.


def test_a_tie_of_two_classes_goes_to_the_higher():
    head = LinearHead.from_weights([1.0, -1.0])
    rows = np.array([[0.5, 0.5], [0.6, 0.4], [0.4, 0.6]])
    assert head.decision_function(rows)[0] == 0.0
    assert head.predict(rows).tolist() == [1, 1, 0]
    assert LinearHead.from_weights(np.zeros(2)).predict(rows).tolist() == [1, 1, 1]


def test_a_tie_of_more_classes_goes_to_the_highest():
    head = LinearHead.from_weights(np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]]))
    rows = np.array(
        [
            [0.3, 0.3, 0.3, 0.1],  # all three
            [0.4, 0.4, 0.1, 0.1],  # 0 and 1
            [0.4, 0.1, 0.4, 0.1],  # 0 and 2
            [0.0, 0.0, 0.0, 1.0],  # all, at zero
            [0.4, 0.3, 0.3, 0.0],  # none
        ]
    )
    assert head.predict(rows).tolist() == [2, 1, 2, 2, 0]


def test_a_tie_goes_to_the_higher_of_any_labels():
    features, labels = blobs(0)
    head = LinearHead().fit(features, np.where(labels == 1, 7, -3))
    head.coef_, head.intercept_ = np.zeros((1, 4)), np.zeros(1)
    assert head.predict(features[:2]).tolist() == [7, 7]


# Selection.


def test_select_takes_the_best_on_validation():
    features, labels = blobs(2, n=300)
    train, held_out = slice(0, 200), slice(200, 300)
    grid = (1e6, 1e-6, 1e2)
    head = LinearHead.select(features[train], labels[train], features[held_out], labels[held_out], grid)
    scores = {
        C: LinearHead(C=C).fit(features[train], labels[train]).score(features[held_out], labels[held_out]) for C in grid
    }
    assert scores[1e-6] < max(scores.values())  # the choice matters
    assert scores[head.C] == max(scores.values())


def test_select_prefers_the_strongest_penalty_on_ties():
    """Points so far apart that every C is perfect."""
    features, labels = np.array([[0.9, 0.1], [0.1, 0.9]] * 5), np.array([0, 1] * 5)
    for grid in ((1e4, 1.0, 1e2), (1e2, 1e6), DEFAULT_GRID):
        assert min(grid) == LinearHead.select(features, labels, features, labels, grid).C


def test_select_passes_options_on():
    features, labels = blobs(0)
    head = LinearHead.select(features, labels, features, labels, features="log", floor=1e-3)
    assert (head.features, head.floor) == ("log", 1e-3)


def test_select_needs_a_grid():
    features, labels = blobs(0)
    with pytest.raises(InvalidInput, match="grid: expected at least one value of C, got none"):
        LinearHead.select(features, labels, features, labels, grid=())


# Log features.


def test_log_features_have_a_floor():
    features, labels = blobs(0)
    features[:20, 0] = 0.0
    head = LinearHead(features="log", floor=1e-6).fit(features, labels)
    expected = np.log(np.maximum(features, 1e-6)) @ head.coef_[0] + head.intercept_[0]
    np.testing.assert_allclose(head.decision_function(features), expected, rtol=1e-12)
    # Below the floor nothing is told apart.
    low, lower = np.array([[1e-7, 0.5, 0.3, 0.2]]), np.array([[0.0, 0.5, 0.3, 0.2]])
    np.testing.assert_array_equal(head.decision_function(low), head.decision_function(lower))
    assert np.isfinite(head.decision_function(lower)).all()


def test_log_features_are_a_stronger_class():
    """A label of the product of two tokens: no linear head, but a linear one on logarithms."""
    rng = np.random.default_rng(0)
    features = rng.dirichlet([1.0, 1.0, 1.0], size=600)
    labels = (features[:, 0] * features[:, 1] >= 0.1 * features[:, 2]).astype(int)
    accuracy = {
        name: LinearHead(C=1e6, features=name).fit(features[:400], labels[:400]).score(features[400:], labels[400:])
        for name in ("probability", "log")
    }
    assert accuracy["log"] > 0.98
    assert accuracy["probability"] < accuracy["log"] - 0.03


# Given weights.


def test_from_weights():
    weights = np.array([2.0, -1.0, 0.5])
    head = LinearHead.from_weights(weights)
    rows = np.random.default_rng(0).dirichlet(np.ones(3), size=50)
    np.testing.assert_allclose(head.decision_function(rows), rows @ weights, rtol=1e-14)
    np.testing.assert_array_equal(head.predict(rows), (rows @ weights >= 0).astype(int))
    assert head.intercept_.tolist() == [0.0]
    assert head.classes_.tolist() == [0, 1]
    several = LinearHead.from_weights(np.eye(3))
    np.testing.assert_array_equal(several.predict(rows), rows.argmax(1))
    assert several.decision_function(rows).shape == (50, 3)


# Bad arguments.


def test_unknown_features_are_named_with_the_choices():
    features, labels = blobs(0)
    with pytest.raises(
        InvalidInput, match="unknown value of 'features': expected one of log, probability, got 'logit'"
    ):
        LinearHead(features="logit").fit(features, labels)


@pytest.mark.parametrize("C", [0.0, -1.0, np.nan, True, "strong", None])
def test_a_penalty_that_is_none(C):
    features, labels = blobs(0)
    check(lambda: LinearHead(C=C).fit(features, labels), "C", "a number above 0", repr(C))


@pytest.mark.parametrize("form", [list, lambda rows: np.array(rows, object), lambda rows: list(map(np.array, rows))])
def test_texts_of_different_lengths_are_no_features(form):
    texts = form([[0, 1, 2], [1, 0]])
    check(lambda: LinearHead().fit(texts, [0, 1]), "features of a LinearHead", "shape (B, V)", "different lengths")
    head = LinearHead.from_weights([1.0, -1.0])
    check(lambda: head.predict(texts), "features of a LinearHead", "shape (B, V)", "different lengths")


def test_a_floor_that_tells_nothing_from_zero_is_refused():
    """log 0 would be −∞: an error, never a silent NaN."""
    features, labels = blobs(0)
    features[0, 0] = 0.0
    for floor in (0.0, -1.0):
        with pytest.raises(ValueError, match="floor"):
            LinearHead(features="log", floor=floor).fit(features, labels)


def test_not_fitted():
    with pytest.raises(NotFittedError):
        LinearHead().predict([[0.5, 0.5]])
    with pytest.raises(NotFittedError):
        LinearHead().to_dataset()


def test_the_number_of_tokens_must_match():
    head = LinearHead.from_weights([1.0, -1.0])
    with pytest.raises(ValueError, match="3 features, but LinearHead is expecting 2"):
        head.predict([[0.2, 0.3, 0.5]])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_must_be_finite(value):
    features, labels = blobs(0)
    features[3, 1] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        LinearHead().fit(features, labels)


def test_a_path_of_penalties_leads_to_the_heads_that_are_fitted_alone():
    rng = np.random.default_rng(0)
    features = rng.dirichlet(np.ones(5), 400)
    labels = (features @ rng.normal(size=5) + 0.1 * rng.normal(size=400) > 0).astype(int)
    for C, weights in zip((1.0, 1e2, 1e4), logistic_path(features, labels, (1e4, 1.0, 1e2)), strict=True):
        forms = features * (2 * labels - 1)[:, None]
        wrong = 1 / (1 + np.exp(forms @ weights))
        gradient = weights / C - forms.T @ wrong
        curvature = (forms * (wrong * (1 - wrong))[:, None]).T @ forms + np.eye(5) / C
        assert gradient @ np.linalg.solve(curvature, gradient) <= 1e-3  # the loss is within half of it


def test_no_head_is_fitted_after_one_that_is_always_right(monkeypatch):
    fitted = []
    own = LinearHead.fit
    monkeypatch.setattr(LinearHead, "fit", lambda self, X, y: fitted.append(self.C) or own(self, X, y))
    X, y = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7]]), [0, 0, 1, 1]
    assert LinearHead.select(X, y, X, y, grid=(1e6, 1e2, 1e4)).C == 1e2
    assert fitted == [1e2]


# Many features.


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("C", [0.1, 10.0])
def test_more_features_than_texts_lead_to_the_head_of_all_features(n_classes, C):
    features, labels = blobs(0, n=40, n_tokens=60, n_classes=n_classes)
    theirs = LogisticRegression(C=C, solver="newton-cholesky", max_iter=1000).fit(features, labels)
    head = LinearHead(C=C).fit(features, labels)
    np.testing.assert_allclose(head.coef_, theirs.coef_, atol=1e-10)
    np.testing.assert_allclose(head.intercept_, theirs.intercept_, atol=1e-10)


def test_weighted_texts_fewer_than_features():
    features, labels = blobs(3, n=30, n_tokens=50)
    weights = np.random.default_rng(0).integers(0, 3, 30)
    theirs = LogisticRegression(solver="newton-cholesky").fit(features, labels, sample_weight=weights)
    head = LinearHead().fit(features, labels, sample_weight=weights)
    np.testing.assert_allclose(head.coef_, theirs.coef_, atol=1e-10)


def test_heads_of_so_many_weights_that_gradients_are_faster():
    features, labels = blobs(4, n=450, n_tokens=400, n_classes=3)
    theirs = LogisticRegression(solver="newton-cholesky", tol=1e-8).fit(features, labels)
    np.testing.assert_allclose(LinearHead().fit(features, labels).coef_, theirs.coef_, atol=1e-3)


def test_time_grows_with_the_texts_where_there_are_more_features(monkeypatch):
    read, own = [], LogisticRegression.fit

    def fit(self, X, *rest, **options):
        read.append(X.shape)
        return own(self, X, *rest, **options)

    monkeypatch.setattr(LogisticRegression, "fit", fit)
    features, labels = blobs(5, n=20, n_tokens=700)
    head = LinearHead().fit(features, labels)
    assert read == [(20, 20)]
    assert head.coef_.shape == (1, 700)
