"""Classifiers on kernel rows."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

from ppl_hmm import AsymmetricSVM, InvalidInput, KernelLogistic, KernelRegression

RNG = np.random.default_rng(0)
X, TEST = RNG.normal(size=(20, 3)), RNG.normal(size=(9, 3))
BINARY, THREE = (X[:, 0] > 0.1).astype(int), np.array(["a", "b", "c"])[np.arange(20) % 3]
K, ROWS = X @ X.T, TEST @ X.T
SIZE = np.trace(K) / 20


def signs(y):
    return np.where(np.asarray(y)[:, None] == np.unique(y), 1.0, -1.0)


@pytest.mark.parametrize("y", [BINARY, THREE])
def test_ridge_is_that_of_the_features(y):
    found = KernelRegression(penalty=0.1).fit(K, y).decision_function(ROWS)
    theirs = Ridge(alpha=0.1 * SIZE, fit_intercept=False).fit(X, signs(y)).predict(TEST)
    np.testing.assert_allclose(found, theirs if found.ndim == 2 else theirs[:, 1], rtol=0, atol=1e-9)


def test_no_penalty_is_least_squares_less_the_offset():
    before, before_test = X @ [1.0, 0, 2], TEST @ [1.0, 0, 2]
    found = KernelRegression().fit(K, BINARY, before).decision_function(ROWS, before_test)
    w = np.linalg.lstsq(X, 2.0 * BINARY - 1 - before)[0]
    np.testing.assert_allclose(found, before_test + TEST @ w, rtol=0, atol=1e-9)


@pytest.mark.parametrize("y", [BINARY, THREE])
def test_logistic_regression_is_that_of_the_features(y):
    head = KernelLogistic(C=2.0).fit(K, y)
    theirs = LogisticRegression(C=2.0 / SIZE, fit_intercept=False, tol=1e-10).fit(X, y)
    np.testing.assert_allclose(head.decision_function(ROWS), theirs.decision_function(TEST), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(head.predict(ROWS), theirs.predict(TEST))


def test_blocks_of_independent_scores_are_one_kernel():
    blocks, rows = (each[:, None, :, None] * np.eye(3)[:, None] for each in (K, ROWS))
    for head in (KernelRegression(0.1), KernelLogistic()):
        found = head.fit(blocks, THREE).decision_function(rows)
        np.testing.assert_allclose(found, head.fit(K, THREE).decision_function(ROWS), rtol=0, atol=1e-9)


def test_the_asymmetric_machine_meets_its_own_conditions():
    rng = np.random.default_rng(1)
    left, right = X, np.sign(X) + 0.1 * rng.normal(size=X.shape)
    kernel, y, gamma = left @ right.T, 2.0 * BINARY - 1, 10.0
    kernel /= np.trace(kernel) / 20
    head = AsymmetricSVM(gamma).fit(kernel, BINARY)
    errors = y * (1 - y * head.decision_function(kernel))  # y e = d/γ, and Σ d = 0
    assert abs(head.dual_coef_.sum()) < 1e-9
    assert abs(errors.sum()) < 1e-9
    w = right.T @ head.dual_coef_[:, 0]  # the function is linear in φ
    np.testing.assert_allclose(head.decision_function(TEST @ right.T / 1), TEST @ w + head.intercept_, atol=1e-9)
    symmetric = AsymmetricSVM(gamma).fit(K, BINARY)
    assert symmetric.score(K, BINARY) >= KernelRegression(0.1).fit(K, BINARY).score(K, BINARY) - 0.1
    assert AsymmetricSVM().fit(K, THREE).decision_function(ROWS).shape == (9, 3)


def test_the_asymmetric_machine_of_a_symmetric_kernel_is_the_machine():
    gamma, y = 5.0, 2.0 * BINARY - 1
    kernel = K / SIZE
    system = np.block([[np.zeros((1, 1)), y[None]], [y[:, None], y[:, None] * kernel * y + np.eye(20) / gamma]])
    solution = np.linalg.solve(system, np.r_[0, np.ones(20)])
    head = AsymmetricSVM(gamma).fit(K, BINARY)
    found = head.decision_function(ROWS)
    np.testing.assert_allclose(found, ROWS / SIZE @ (y * solution[1:]) + solution[0], rtol=0, atol=1e-8)


def test_searches_split_rows_and_columns():
    search = GridSearchCV(KernelRegression(), {"penalty": [0.0, 0.1]}, cv=2, error_score="raise").fit(K, BINARY)
    assert search.predict(ROWS).shape == (9,)


# Their test kernels have negative eigenvalues.
NOT_OF_KERNELS = {"check_positive_only_tag_during_fit", "check_estimators_dtypes"}


@pytest.mark.parametrize(
    "head",
    [
        KernelRegression(0.1),
        pytest.param(KernelLogistic(), marks=pytest.mark.slow),
        pytest.param(AsymmetricSVM(), marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_scikit_learn_checks_them(head):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(head, on_skip=None, on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed <= (NOT_OF_KERNELS if isinstance(head, KernelLogistic) else set())
    assert sum(result["status"] == "passed" for result in results) > 40


ASYMMETRIC = K + np.triu(np.ones((20, 20)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KernelRegression().fit(K, np.ones(20)), "labels: expected at least two classes, got one class"),
        (lambda: KernelRegression().fit(K[:, :5], BINARY), "kernel of training examples: expected a square one"),
        (lambda: KernelRegression(0.1).fit(ASYMMETRIC, BINARY), "a symmetric one, .* use AsymmetricSVM, or penalty=0"),
        (lambda: KernelLogistic().fit(ASYMMETRIC, BINARY), "kernel of a logistic regression: expected a symmetric one"),
        (lambda: KernelLogistic().fit(-K, BINARY), "no negative eigenvalues"),
        (lambda: KernelRegression(-1.0).fit(K, BINARY), "penalty"),
        (lambda: KernelLogistic(0.0).fit(K, BINARY), "C: expected a number above 0"),
        (lambda: AsymmetricSVM(0.0).fit(K, BINARY), "gamma: expected a number above 0"),
        (lambda: KernelRegression().fit(K, BINARY, np.ones(3)), "offset: expected scores of shape"),
        (lambda: KernelRegression().fit(np.ones((20, 3, 20, 3)), BINARY), "blocks of a kernel"),
        (lambda: AsymmetricSVM().fit(np.ones((20, 3, 20, 3)), THREE), "kernel of an AsymmetricSVM"),
        (lambda: KernelRegression().fit(np.ones((20, 3, 20)), BINARY), r"kernel: expected \(N, M\), or blocks"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()


def test_kernels_without_symmetry_have_least_squares_and_the_machine():
    assert KernelRegression().fit(ASYMMETRIC, BINARY).score(ASYMMETRIC, BINARY) == 1
    assert AsymmetricSVM().fit(ASYMMETRIC, BINARY).score(ASYMMETRIC, BINARY) > 0.9
