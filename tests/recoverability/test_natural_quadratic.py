"""Heads on the features of a quadratic loss: the bound on random models, where it is attained, and where none holds."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.linalg import null_space, orth
from scipy.optimize import minimize

from ppl_hmm.errors import InvalidInput
from ppl_hmm.recoverability.natural import distance, error, hinge_loss, natural_head
from ppl_hmm.recoverability.natural_quadratic import quadratic_excess, quadratic_head

ROUNDING = 1e-10
SOLVED = 3e-8


def problem(seed):
    """Return a generator, laws with zeros and repeated texts, labels, a layer, offsets and scores of features."""
    rng = np.random.default_rng(seed)
    n_states, n_tokens, n_texts = rng.integers(1, 6), rng.integers(2, 12), rng.integers(1, 40)
    width = rng.integers(1, n_tokens + 2)
    rows = rng.dirichlet(np.full(n_tokens, 0.3), n_states)
    rows[rows < 0.05] = 0
    rows /= rows.sum(-1, keepdims=True)
    laws = (rng.dirichlet(np.ones(n_states), n_texts) @ rows)[rng.integers(n_texts, size=n_texts)]
    contrast = rng.normal(size=n_tokens)
    labels = (laws @ contrast >= np.median(laws @ contrast)).astype(int)
    labels ^= rng.random(n_texts) < rng.choice([0.0, 0.2])  # τ = 0 in some, above it in others
    layer = rng.normal(size=(width, n_tokens))
    if seed % 3 == 0:
        layer[-1], layer[:, -1] = layer[0], layer[:, 0]  # of less than full rank, and words that are alike
    offset = rng.normal(size=n_tokens) * rng.choice([0, 0.1])
    best = (laws - offset) @ np.linalg.pinv(layer)
    features = best + rng.choice([0, 1e-4, 1e-2, 1.0]) * rng.normal(size=best.shape)
    return rng, laws, labels, layer, offset, features @ layer + offset


def quadratic_loss(law, scores):
    return -law @ scores + 0.5 * scores @ scores


@pytest.mark.parametrize("seed", range(12))
def test_the_excess_is_that_over_the_best_features(seed):
    _, laws, _, layer, offset, scores = problem(seed)
    found = quadratic_excess(laws, scores, layer)
    for law, own, excess in zip(laws[:3], scores, found, strict=False):

        def of(features, law=law):
            return quadratic_loss(law, features @ layer + offset)

        best = minimize(of, np.zeros(len(layer)), tol=1e-13).fun
        assert excess == pytest.approx(quadratic_loss(law, own) - best, abs=1e-7)
    whole = 0.5 * np.square(scores - laws).sum(-1)
    rest = laws - offset - (laws - offset) @ orth(layer.T) @ orth(layer.T).T
    np.testing.assert_allclose(whole - found, 0.5 * np.square(rest).sum(-1), atol=1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_the_bound_is_never_violated_by_any_head_of_the_row_space(seed):
    rng, laws, labels, layer, _, scores = problem(seed)
    price = distance(quadratic_excess(laws, scores, layer).mean())
    heads = rng.normal(size=(50, len(layer))) * 10.0 ** rng.uniform(-2, 3, (50, 1)) @ layer
    best = quadratic_head(laws, labels, price=price + 1e-6, layer=layer)
    for weights in (*heads, best.weights):
        loss, size = hinge_loss(scores, labels, weights), np.linalg.norm(weights)
        tau = hinge_loss(laws, labels, weights)
        assert error(scores, labels, weights) <= loss <= (tau + price * size) * (1 + ROUNDING) + ROUNDING
        assert best.bound(price + 1e-6) <= tau + (price + 1e-6) * size + SOLVED
    assert best.bound(price + 1e-6) <= 1 + SOLVED  # v = 0 has it


@pytest.mark.parametrize("seed", range(20))
def test_some_features_attain_the_bound(seed):
    rng, laws, labels, layer, offset, _ = problem(seed)
    weights = rng.normal(size=len(layer)) @ layer
    weights /= np.abs(laws @ weights).max()  # no margin exceeds one
    sign, size = 2.0 * labels - 1, np.linalg.norm(weights)
    best = offset + (laws - offset) @ orth(layer.T) @ orth(layer.T).T
    scores = best - rng.uniform(0, 2) * sign[:, None] * weights / size
    features, *_ = np.linalg.lstsq(layer.T, (scores - offset).T)
    np.testing.assert_allclose(features.T @ layer + offset, scores, atol=1e-9)  # features have these scores
    bound = hinge_loss(laws, labels, weights) + size * distance(quadratic_excess(laws, scores, layer).mean())
    assert hinge_loss(scores, labels, weights) == pytest.approx(bound, rel=1e-9)


def test_the_largest_entry_in_place_of_the_euclidean_size_would_be_violated():
    laws, labels = np.full((2, 9), 1 / 9), np.array([0, 1])
    weights = np.r_[np.ones(5), -np.ones(4)]
    scores = laws - 0.1 * (2.0 * labels[:, None] - 1) * weights
    loss, excess = hinge_loss(scores, labels, weights), quadratic_excess(laws, scores, np.eye(9)).mean()
    tau = hinge_loss(laws, labels, weights)
    assert loss > tau + np.abs(weights).max() * distance(excess) + 0.5
    assert loss == pytest.approx(tau + np.sqrt(9) * np.abs(weights).max() * distance(excess))  # it needs √V


def test_the_inequality_in_rationals():
    rng = np.random.default_rng(0)
    for _ in range(40):
        n_tokens, n_texts = 4, 3
        counts = rng.integers(0, 4, (n_texts, n_tokens)) + np.eye(n_texts, n_tokens, dtype=int)
        laws = [[Fraction(int(each), int(row.sum())) for each in row] for row in counts]
        rows = np.c_[np.eye(2, dtype=int), rng.integers(-2, 3, (2, 2))]
        layer = [[Fraction(each) for each in row] for row in rows.tolist()]
        weights = _combined([Fraction(int(each), 3) for each in rng.integers(-6, 7, 2)], layer)
        offset = [Fraction(int(each), 5) for each in rng.integers(-1, 2, n_tokens)]
        sign, losses, exact, excess = rng.choice([-1, 1], n_texts), 0, 0, 0
        for law, y in zip(laws, sign.tolist(), strict=True):
            features = [Fraction(int(each), 7) for each in rng.integers(-7, 8, 2)]
            scores = [a + b for a, b in zip(_combined(features, layer), offset, strict=True)]
            losses += max(0, 1 - y * _dot(weights, scores))
            exact += max(0, 1 - y * _dot(weights, law))
            excess += _squared_projection(layer, [s - g for s, g in zip(scores, law, strict=True)]) / 2
        # (n·(ℓ(s,v) − τ))² ≤ ‖v‖²·2ε·n²
        assert max(0, losses - exact) ** 2 <= _dot(weights, weights) * 2 * excess * n_texts


def _dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))


def _combined(weights, rows):
    return [_dot(weights, column) for column in zip(*rows, strict=True)]


def _squared_projection(rows, vector):
    """Return ‖Πx‖² = (Φx)ᵀ(ΦΦᵀ)⁻¹Φx for two rows, by Cramer's rule."""
    (a, b), (_, d) = [[_dot(row, other) for other in rows] for row in rows]
    x, y = (_dot(row, vector) for row in rows)
    return (d * x * x - 2 * b * x * y + a * y * y) / (a * d - b * b)


def test_the_best_features_have_the_loss_of_exact_laws_and_solve_what_a_head_of_the_layer_solves():
    rng = np.random.default_rng(0)
    laws, layer, offset = rng.dirichlet(np.ones(8), 30), rng.normal(size=(3, 8)), rng.normal(size=8)
    weights = rng.normal(size=3) @ layer
    labels = (laws @ weights >= 0).astype(int)  # τ = 0 for heads of the layer
    features = (laws - offset) @ np.linalg.pinv(layer)
    scores = features @ layer + offset
    assert quadratic_excess(laws, scores, layer).max() < 1e-25
    assert hinge_loss(scores, labels, weights) == pytest.approx(hinge_loss(laws, labels, weights))
    assert error(scores, labels, weights) == 0
    assert natural_head(laws, labels, layer=layer).loss == pytest.approx(0, abs=1e-7)
    assert 0.5 * np.square(scores - laws).sum(-1).mean() > 0.01  # the layer's own distance: it says nothing here
    on_features = features @ (layer @ weights) + offset @ weights  # the head reads f, with an intercept
    np.testing.assert_allclose(on_features, scores @ weights, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_task_outside_the_row_space_has_no_promise(seed):
    rng = np.random.default_rng(seed)
    layer = rng.normal(size=(3, 7))
    hidden = null_space(np.vstack([layer, np.ones(7)]))[:, 0]  # differences of laws that the layer does not see
    centre = rng.dirichlet(np.full(7, 50.0), 20)
    labels = np.tile([0, 1], 20)
    laws = centre.repeat(2, axis=0) + 0.05 * (2.0 * labels[:, None] - 1) * hidden / np.abs(hidden).max()
    assert (laws >= 0).all()
    assert natural_head(laws, labels).loss == pytest.approx(0, abs=1e-7)  # natural, for all heads
    scores = laws @ np.linalg.pinv(layer) @ layer  # of the best features
    assert quadratic_excess(laws, scores, layer).max() < 1e-25
    found = quadratic_head(laws, labels, price=1e-6, layer=layer)
    assert found.bound(1e-6) == pytest.approx(1)  # not natural with respect to Φ
    for weights in rng.normal(size=(20, 3)) @ layer:
        assert np.abs((scores @ weights)[::2] - (scores @ weights)[1::2]).max() < 1e-12  # all heads confuse the texts
        assert hinge_loss(scores, labels, weights) >= 1 - 1e-9


def test_known_heads():
    laws, labels = np.array([[0.7, 0.3], [0.4, 0.6]]), np.array([0, 1])
    # Φ sees the contrast alone: v = a(−1, 1)/√2 has margins 0.4a/√2 and 0.2a/√2, and costs a.
    contrast = np.array([[-3.0, 3.0]])
    first, second = np.sqrt(2) / 0.4, np.sqrt(2) / 0.2
    for price, size, loss in [(0.3, 0.0, 1.0), (0.1, first, 0.25), (0.01, second, 0.0)]:
        found = quadratic_head(laws, labels, price=price, layer=contrast)
        assert found.size == pytest.approx(size, abs=1e-4)
        assert found.bound(price) == pytest.approx(loss + price * size, abs=SOLVED)
    assert quadratic_head(laws, labels, price=0.1, layer=np.zeros((2, 2))).bound(0.1) == 1


@pytest.mark.parametrize("seed", range(10))
def test_no_other_solver_finds_a_lower_bound(seed):
    rng, laws, labels, layer, _, _ = problem(seed)
    price = 10 ** rng.uniform(-4, -0.5)
    found, basis = quadratic_head(laws, labels, price=price, layer=layer), orth(layer.T)

    def bound(head):
        return hinge_loss(laws, labels, basis @ head) + price * np.linalg.norm(head)

    for start in (found.weights, rng.normal(size=layer.shape[1])):
        assert found.bound(price) <= minimize(bound, start @ basis, method="Powell").fun + SOLVED
    assert found.size == pytest.approx(np.linalg.norm(found.weights))


@pytest.mark.parametrize("seed", range(6))
def test_contexts_of_another_law_cost_a_factor(seed):
    rng, laws, labels, layer, _, scores = problem(seed)
    n_texts = len(laws)
    of_loss, of_task = rng.dirichlet(np.ones(n_texts)), np.full(n_texts, 1 / n_texts)
    share = min(1, (of_loss / of_task).min())
    price = distance(float(of_loss @ quadratic_excess(laws, scores, layer)), share)
    weights = rng.normal(size=len(layer)) @ layer
    bound = hinge_loss(laws, labels, weights) + price * np.linalg.norm(weights)
    assert hinge_loss(scores, labels, weights) <= bound * (1 + ROUNDING) + ROUNDING


def test_laws_that_do_not_span_the_row_space():
    laws, labels = np.array([[0.5, 0.5, 0, 0], [0.25, 0.75, 0, 0], [0.5, 0.5, 0, 0]]), np.array([0, 1, 0])
    found = quadratic_head(laws, labels, price=0.01, layer=np.eye(4))
    np.testing.assert_allclose(found.weights, [-5, 3, 0, 0], atol=1e-5)  # a + b = −2 and a + 3b = 4
    assert quadratic_head(laws, labels, price=1e-6, layer=np.eye(4)).bound(1e-6) <= 1e-6 * np.sqrt(34) + SOLVED


@pytest.mark.parametrize("price", [np.nan, np.inf, -0.1])
@pytest.mark.parametrize("find", [natural_head, quadratic_head])
def test_a_price_is_a_finite_number(find, price):
    """The distance of a network whose training has diverged is none."""
    with pytest.raises(InvalidInput, match="price: expected a number in 0"):
        find(np.eye(2), np.array([0, 1]), price=price, layer=np.eye(2))
