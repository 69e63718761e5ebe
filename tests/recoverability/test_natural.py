"""Natural tasks by linear programmes: cases whose τ is known, and the two bounds on random models."""

import numpy as np
import pytest
from scipy.special import softmax
from sweeps import sweep

from ppl_hmm.recoverability.natural import distance, error, hinge_loss, natural_head

LAWS = np.array([[0.7, 0.3], [0.4, 0.6]])
LABELS = np.array([0, 1])


def random_laws(seed, n_texts=30, n_tokens=6, n_states=3):
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(n_tokens, 0.5), n_states)
    laws = rng.dirichlet(np.ones(n_states), n_texts) @ rows
    return rng, laws, (laws @ rng.normal(size=n_tokens) >= 0).astype(int)


@pytest.mark.parametrize(
    ("largest", "loss"),
    [
        (0.0, 1.0),  # v = 0 scores nothing
        (1.0, 0.7),  # v = (−1, 1): margins 0.4 and 0.2
        (2.5, 0.25),  # margins 1 and 0.5
        (3.0, 0.25 - 0.5 * 3 / 14),  # v = (−(1 + 0.3B)/0.7, B): the first text keeps its margin of 1
        (11 / 3, 0.0),  # v = (−3, 11/3)
    ],
)
def test_known_losses_of_two_texts(largest, loss):
    found = natural_head(LAWS, LABELS, largest=largest)
    assert found.loss == pytest.approx(loss)
    assert found.size <= largest + 1e-9


def test_known_price_of_two_texts():
    # A unit of B takes 0.3 from the loss until B = 2.5, and 3/14 from there to 11/3.
    assert natural_head(LAWS, LABELS, price=0.31).bound(0.31) == pytest.approx(1.0)
    assert natural_head(LAWS, LABELS, price=0.25).size == pytest.approx(2.5)
    cheap = natural_head(LAWS, LABELS, price=0.03)
    assert (cheap.size, cheap.bound(0.03)) == (pytest.approx(11 / 3), pytest.approx(0.11))
    np.testing.assert_allclose(cheap.weights, [-3, 11 / 3])


def test_texts_that_are_alike_cost_half_of_the_best_constant():
    laws = np.full((4, 3), 1 / 3)
    assert natural_head(laws, np.array([0, 0, 0, 1])).loss == pytest.approx(0.5)  # v = −1: losses 0, 0, 0, 2


def test_a_layer_restricts_the_heads():
    layer = np.array([[1.0, 1.0]])  # v = (λ, λ) scores λ on every text
    assert natural_head(LAWS, LABELS, layer=layer).loss == pytest.approx(1.0)
    assert natural_head(LAWS, LABELS, layer=np.array([[-3.0, 3.0]]), largest=5).loss == pytest.approx(0.0)


@pytest.mark.parametrize("seed", range(8))
def test_the_price_finds_the_best_size(seed):
    rng, laws, labels = random_laws(seed)
    layer = rng.normal(size=(4, 6)) if seed % 2 else None
    price = 0.02
    best = natural_head(laws, labels, price=price, layer=layer)
    sizes = best.size * np.linspace(0, 2, 9)
    losses = np.array([natural_head(laws, labels, largest=size, layer=layer).loss for size in sizes])
    bounds = losses + price * sizes
    assert best.bound(price) <= bounds.min() + 1e-7
    assert bounds[4] == pytest.approx(best.bound(price), abs=1e-7)
    assert (np.diff(losses) <= 1e-9).all()  # τ(B) falls, and is convex
    assert (np.diff(losses, 2) >= -1e-7).all()
    tried = rng.normal(size=(200, 6 if layer is None else 4)) @ (np.eye(6) if layer is None else layer)
    tried *= best.size / np.abs(tried).max(-1, keepdims=True)
    assert min(hinge_loss(laws, labels, v) for v in tried) >= losses[4] - 1e-9


@pytest.mark.parametrize("seed", sweep(30, quick=10))
def test_the_bound_on_other_laws_is_never_violated(seed):
    rng, laws, labels = random_laws(seed)
    other = softmax(np.log(laws) + rng.choice([0.01, 0.1, 1.0]) * rng.normal(size=laws.shape), axis=-1)
    excess = (laws * np.log(laws / other)).sum(-1).mean()
    assert np.abs(other - laws).sum(-1).mean() <= distance(excess)
    head = natural_head(laws, labels, price=distance(excess))
    loss = hinge_loss(other, labels, head.weights)
    assert error(other, labels, head.weights) <= loss <= head.bound(distance(excess)) + 1e-12
    assert head.bound(distance(excess)) <= 1 + 1e-12  # v = 0 has it


def test_exact_laws_pay_nothing():
    _, laws, labels = random_laws(0)
    head = natural_head(laws, labels)
    assert head.bound(distance(0.0)) == head.loss == pytest.approx(0, abs=1e-7)
    assert error(laws, labels, head.weights) == 0
